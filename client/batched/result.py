"""What many institutions' rounds came to, all together and one by one."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from confide.client.training_round import RoundWork
from confide.client.update_measures import UpdateMeasures, measure_rows
from confide.protocol.tensors import Shapes, Tensors
from confide.strategies.algorithm import ClientResult, join_extra


@dataclass(frozen=True, eq=False)
class CohortResult:
    """What a client part makes of the rounds of m institutions.

    Attributes:
        works: the rounds.
        whole: update, extra and kept tensors, of shape [m, ...].
    """

    works: Sequence[RoundWork]
    whole: ClientResult

    def of(self, index: int) -> ClientResult:
        """Return one institution's."""
        update, extra, kept = (
            {name: rows[index] for name, rows in named.items()} for named in self._apart
        )
        return ClientResult(update=update, extra=extra, kept=kept)

    @functools.cached_property
    def _apart(self) -> Sequence[Mapping[str, Sequence[Tensor]]]:
        # Of all at once: one by one, views of small tensors cost more than what they hold.
        whole = self.whole
        return [
            {name: tensor.unbind() for name, tensor in tensors.items()}
            for tensors in (whole.update, whole.extra, whole.kept)
        ]

    @functools.cached_property
    def leaving(self) -> Tensors:
        """What leaves of all of them: updates, and what the algorithm sends beside them."""
        return join_extra(self.whole.update, self.whole.extra)

    @functools.cached_property
    def rows(self) -> Tensor:
        """The values of what leaves, in the order of its tensors, shape [m, d]."""
        return torch.cat([tensor.flatten(1) for tensor in self.leaving.values()], dim=1)

    @functools.cached_property
    def measures(self) -> Sequence[UpdateMeasures]:
        """Measures of what leaves of each."""
        return measure_rows(self.rows)


def for_each(whole: ClientResult, declared: Shapes, count: int) -> ClientResult:
    """Give extra tensors a first dimension where they have none and so are the same for all.

    Args:
        whole: of a client part that was called for ``count`` institutions at once.
        declared: shapes of one institution's extra tensors.
        count: m.
    """
    extra = {
        name: value if value.dim() > len(declared[name]) else value.expand(count, *value.shape)
        for name, value in whole.extra.items()
    }
    return replace(whole, extra=extra)


__all__ = ["CohortResult", "for_each"]
