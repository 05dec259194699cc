"""Records by whose they are: the units of ``privacy.unit=group``."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Groups:
    """The members of each group, at most so many.

    Args:
        codes: group of each record, 0 to G - 1, every one of them at least once; int64, shape [n].
        most: further records of a group, in their order, are left out of training.
    """

    def __init__(self, codes: Tensor, *, most: int) -> None:
        by_group = codes.argsort(stable=True)
        self._members = [part[:most] for part in by_group.split(torch.bincount(codes).tolist())]

    def __len__(self) -> int:
        return len(self._members)

    def members(self, groups: Tensor) -> list[Tensor]:
        """Return the records of each of some groups."""
        return [self._members[group] for group in groups.tolist()]


def group_codes(names: Sequence[str]) -> Tensor:
    """Number groups in the order of their names.

    Args:
        names: whose each record is.

    Returns:
        int64, shape [n].
    """
    number = {name: code for code, name in enumerate(sorted(set(names)))}
    return torch.tensor([number[name] for name in names], dtype=torch.int64)


__all__ = ["Groups", "group_codes"]
