"""Records grouped by their owner: the units of ``privacy.unit=group``."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Groups:
    """The training records of each group, up to a largest number.

    Args:
        codes: group of each record, 0 to G - 1, each group at least once; int64, shape [n].
        most: largest number of records of a group; those after it are left out of training.
    """

    def __init__(self, codes: Tensor, *, most: int) -> None:
        # Stable: which records of a large group are left out must not differ between two runs
        by_group = codes.argsort(stable=True)
        self._members = [part[:most] for part in by_group.split(torch.bincount(codes).tolist())]

    def __len__(self) -> int:
        return len(self._members)

    def members(self, groups: Tensor) -> list[Tensor]:
        """Return the indices of the records of each of some groups."""
        return [self._members[group] for group in groups.tolist()]


def group_codes(names: Sequence[str]) -> Tensor:
    """Number groups in the order of their names.

    Args:
        names: name of each record's owner.

    Returns:
        Group of each record: int64, shape [n].
    """
    number = {name: code for code, name in enumerate(sorted(set(names)))}
    return torch.tensor([number[name] for name in names], dtype=torch.int64)


__all__ = ["Groups", "group_codes"]
