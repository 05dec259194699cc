"""The sum of clipped updates: what one client adds is no longer than the clipping norm.

Updates are shortened where they are summed, so that no client has to be trusted to do it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from confide.errors import RunFailedError
from confide.privacy.noise_share import clipping_factor
from confide.protocol.tensors import Shapes, Tensors, flatten, unflatten
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.strategy import Bounds, ClientUpdate


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

    def __post_init__(self) -> None:
        """Fix the scale, and leave room for what rounding to it may add to a norm.

        Raises:
            RunFailedError: if that is most of the norm.
        """
        super().__post_init__()
        self._rounding = math.sqrt(len(self.total)) * 2.0 ** -(self.scale_bits + 1)
        if self._rounding > self.clip_norm / 2:
            raise RunFailedError(
                f"aggregation.sum_bits={self.bounds.sum_bits}: rounding may make a clipped update"
                f" of {len(self.total)} values longer by {self._rounding:.3g}, where the clipping"
                f" norm is {self.clip_norm:g}; set aggregation.sum_bits=64."
            )

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
        return clipping_factor(values, self.clip_norm, rounding=self._rounding)


def sum_of(summed: FixedPointMean) -> Tensors:
    """Return what was added up, float64; zeros where nobody was."""
    return unflatten(summed.total.double().mul_(2.0**-summed.scale_bits), summed.shapes)


__all__ = ["ClippedSum", "ClippedUpdates", "sum_of"]
