"""The sum of clipped updates: what one client adds is no longer than the clipping norm.

Updates are shortened where they are summed, so that no client has to be trusted to do it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy
from torch import Tensor

from confide.protocol.tensors import Shapes, Tensors, flatten, unflatten
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.strategy import Bounds, ClientUpdate

_SLACK = 1e-6
"""Of the clipping norm: room for what rounding to the grid of the sums adds."""


@dataclass(frozen=True, kw_only=True)
class ClippedSum:
    """A rule that shortens each update to a norm and adds it up, each with weight one.

    Attributes:
        clip_norm: S, > 0.
        counts: whether it counts who was within S, for which it needs every update by itself.
    """

    clip_norm: float
    counts: bool = False

    @property
    def additive(self) -> bool:
        """Whether parts of the sum may be made anywhere."""
        return not self.counts

    def start(self, shapes: Shapes, bounds: Bounds) -> "ClippedUpdates":
        """Begin a round, on a grid that is as fine as clipped values allow."""
        fine = replace(bounds, max_value=min(bounds.max_value, self.clip_norm))
        return ClippedUpdates(
            shapes=shapes, bounds=fine, weighting="uniform", clip_norm=self.clip_norm
        )

    def total_weight(self, num_examples: Sequence[int]) -> int:
        """Count a cohort."""
        return len(num_examples)


@dataclass(kw_only=True)
class ClippedUpdates(FixedPointMean):
    """A running sum of clipped updates.

    Attributes:
        within: half the number of those within the clipping norm, less half the number of others.
    """

    clip_norm: float
    within: float = field(default=0.0, init=False)

    def add(self, update: ClientUpdate) -> None:
        """Shorten one update, and take it."""
        factor, is_within = self._factor(flatten(update.tensors, self.shapes))
        super().add(replace(update, discount=update.discount * factor))
        self.within += 0.5 if is_within else -0.5

    def add_rows(
        self, values: Tensor, num_examples: Sequence[int], discounts: Sequence[float] = ()
    ) -> None:
        """Shorten several updates and take them: the sum of taking them one by one."""
        found = [self._factor(row) for row in values]
        super().add_rows(values, num_examples, [factor for factor, _ in found])
        self.within += sum(0.5 if is_within else -0.5 for _, is_within in found)

    def _factor(self, values: Tensor) -> tuple[float, bool]:
        """Return what an update is multiplied by, in (0, 1], and whether it was within S."""
        # By numpy, which adds up in one order, however many threads there are
        norm = math.sqrt(float(numpy.square(values.numpy(), dtype=numpy.float64).sum()))
        most = self.clip_norm * (1 - _SLACK)
        return (1.0 if norm <= most else most / norm), norm <= self.clip_norm

    def sum(self) -> Tensors:
        """Return the sum, float64; zeros where nobody was added."""
        return unflatten(self.total.double().mul_(2.0**-self.scale_bits), self.shapes)


__all__ = ["ClippedSum", "ClippedUpdates"]
