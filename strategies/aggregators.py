"""Aggregation rules.

The weighted mean is summed in int64 fixed point. Integer addition is associative, so the result is
the same for any order of arrival and any number of partial sums, bit for bit, and secure
aggregation can use the same sums.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from confide.errors import ProtocolError, RunFailedError
from confide.protocol.tensors import Shapes, Tensors, flatten, unflatten
from confide.strategies.strategy import Accumulator, Bounds, ClientUpdate

_FREE_BITS = 2  # one is the sign's, one is kept for rounding up
_BLOCK = 2**15  # values summed at a time: temporaries stay in the processor's cache


def scale_of(bounds: Bounds) -> int:
    """Return s: a value x of weight w is round(w * x * 2^s) in a sum.

    The largest s with ``max_value * max_total_weight * 2^s <= 2^62``, or 2^30 in sums of 32 bits.
    """
    most = bounds.sum_bits - _FREE_BITS
    return most - math.ceil(math.log2(bounds.max_value * bounds.max_total_weight))


def add_scaled(total: Tensor, values: Tensor, factor: float) -> None:
    """Add values to a sum, each times a factor and rounded.

    Args:
        total: int64, shape [d]; changed.
        values: float32, shape [d].
        factor: weight times 2^s.
    """
    # In float64, whose 53 bits hold a float32 times a weight without loss.
    for start in range(0, len(values), _BLOCK):
        block = slice(start, start + _BLOCK)
        total[block].add_(values[block].double().mul_(factor).round_().long())


@dataclass(frozen=True, kw_only=True)
class WeightedMean:
    """Mean of updates, weighted by declared numbers of records or not at all.

    McMahan et al. 2017 (arXiv 1602.05629), algorithm 1.

    Attributes:
        weighting: num_examples or uniform.
    """

    weighting: str = "num_examples"
    additive: ClassVar[bool] = True

    def start(self, shapes: Shapes, bounds: Bounds) -> Accumulator:
        """Begin a round with a scale that cannot overflow within the bounds."""
        return FixedPointMean(shapes=shapes, bounds=bounds, weighting=self.weighting)

    def total_weight(self, num_examples: Sequence[int]) -> int:
        """Add up what a cohort would weigh."""
        return sum(num_examples) if self.weighting == "num_examples" else len(num_examples)


@dataclass(kw_only=True)
class FixedPointMean:
    """A running sum of ``round(weight * x * 2^s)`` in int64.

    s is that of :func:`scale_of`; with 10,000 records and updates below 1024, one unit of 64 bits
    is 2^-38 of a weight: far below float32's own rounding.
    """

    shapes: Shapes
    bounds: Bounds
    weighting: str = "num_examples"
    total_weight: int = 0
    total: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Fix the scale before the first update."""
        self.scale_bits = scale_of(self.bounds)
        self.total = torch.zeros(sum(map(math.prod, self.shapes.values())), dtype=torch.int64)

    def add(self, update: ClientUpdate) -> None:
        """Take one update, checked before to be finite and within ``max_value``.

        Raises:
            ProtocolError: if the weights would pass the bound that the scale was fixed for.
        """
        # A declared number that changed would break the bound that the scale was fixed for.
        weight = update.num_examples if self.weighting == "num_examples" else 1
        self._check_weight(weight, update.client)
        # A discount is at most 1, so the bound holds; without one the factor is exact
        factor = float(weight) * update.discount * 2.0**self.scale_bits
        add_scaled(self.total, flatten(update.tensors, self.shapes), factor)
        self.total_weight += weight

    def add_rows(
        self, values: Tensor, num_examples: Sequence[int], discounts: Sequence[float] = ()
    ) -> None:
        """Take several updates; the sum is that of taking them one by one, bit for bit.

        Args:
            values: float32 of shape [m, d], checked before as for :meth:`add`.
            num_examples: of each.
            discounts: of each; none: 1.

        Raises:
            ProtocolError: if the weights would pass the bound that the scale was fixed for.
        """
        weights = [n if self.weighting == "num_examples" else 1 for n in num_examples]
        self._check_weight(sum(weights), f"A group of {len(weights)}")
        factors = torch.tensor(weights, dtype=torch.float64)
        if discounts:
            factors *= torch.tensor(discounts, dtype=torch.float64)
        factors *= 2.0**self.scale_bits
        step = max(1, _BLOCK // max(1, values.shape[1]))
        for rows, part in zip(values.split(step), factors.split(step), strict=True):
            for total, block in zip(
                self.total.split(_BLOCK), rows.split(_BLOCK, dim=1), strict=True
            ):
                whole = block.double().mul_(part[:, None]).round_().long()
                total += whole.sum(dim=0) if len(whole) > 1 else whole[0]
        self.total_weight += sum(weights)

    def merge(self, total: Tensor, total_weight: int) -> None:
        """Take a sum begun elsewhere with the same shapes, bounds and weighting.

        Args:
            total: int64, shape [d].
            total_weight: of the updates in it.

        Raises:
            ProtocolError: if the weights together pass the bound that the scale was fixed for.
        """
        self._check_weight(total_weight, "A partial sum")
        self.total += total
        self.total_weight += total_weight

    def _check_weight(self, weight: int, who: str) -> None:
        # Not clipped: a sum past 2^62 would wrap round and give a wrong mean without a word
        if self.total_weight + weight > self.bounds.max_total_weight:
            raise ProtocolError(
                f"{who} brings a weight of {weight}, more than the cohort declared; "
                "the number of records may not change during a run.",
                code="num_examples",
            )

    def mean(self) -> Tensors:
        """Return the weighted mean, float32.

        Raises:
            ValueError: if nothing was added.
        """
        if self.total_weight == 0:
            raise ValueError("Expected at least one update.")
        # Divided once, at the end: until here everything was exact
        flat = self.total.double().div_(self.total_weight * 2.0**self.scale_bits).float()
        return unflatten(flat, self.shapes)


SUM_BITS = 24
"""Values of exact sums are multiples of 2^-24: as float32 those up to 1 travel without loss."""


@dataclass(frozen=True)
class ExactSum:
    """The sum of what institutions send, to the last bit, whatever they weigh.

    What they send has to be multiples of 2^-24 within the round's bound.
    """

    additive: ClassVar[bool] = True

    def start(self, shapes: Shapes, bounds: Bounds) -> Accumulator:
        """Begin a round.

        Raises:
            RunFailedError: if int64 does not hold the sums of so many institutions.
        """
        return FixedPointSum(shapes=shapes, bounds=bounds, weighting="uniform")

    def total_weight(self, num_examples: Sequence[int]) -> int:
        """Count a cohort."""
        return len(num_examples)


@dataclass(kw_only=True)
class FixedPointSum(FixedPointMean):
    """A running sum of which nothing is lost."""

    def __post_init__(self) -> None:
        """Fix the scale, and check that every value lies on it."""
        super().__post_init__()
        if self.scale_bits < SUM_BITS:
            raise RunFailedError(
                f"Exact sums of {self.bounds.max_total_weight} institutions with values up to"
                f" {self.bounds.max_value:g} do not fit in 64 bits; lower server.max_update_value"
                " to 1, or ask fewer institutions a round."
            )

    def mean(self) -> Tensors:
        """Return the sum, float64.

        Raises:
            ValueError: if nothing was added.
        """
        if self.total_weight == 0:
            raise ValueError("Expected at least one institution's sums.")
        # Exact: up to 2^29 values of 24 bits add up to no more than float64's 53 bits
        flat = self.total.double().mul_(2.0**-self.scale_bits)
        return unflatten(flat, self.shapes)


ReduceFn = Callable[[Tensor, Tensor], Tensor]
"""(updates, shape [k, d], in the order of the institutions' names; their numbers of records, [k])
-> one update, shape [d]."""


@dataclass(frozen=True)
class AllUpdates:
    """A rule that needs every update at once, such as a median: memory grows with the cohort.

    Attributes:
        reduce_fn: makes one of them.
    """

    reduce_fn: ReduceFn
    additive: ClassVar[bool] = False

    def start(self, shapes: Shapes, bounds: Bounds) -> Accumulator:
        """Begin a round."""
        return CollectedUpdates(shapes=shapes, reduce_fn=self.reduce_fn)

    def total_weight(self, num_examples: Sequence[int]) -> int:
        """Add up what a cohort would weigh."""
        return sum(num_examples)


@dataclass(kw_only=True)
class CollectedUpdates:
    """Every update of a round, kept until its end."""

    shapes: Shapes
    reduce_fn: ReduceFn
    updates: list[ClientUpdate] = field(default_factory=list)

    def add(self, update: ClientUpdate) -> None:
        """Take one update."""
        self.updates.append(update)

    def merge(self, total: Tensor, total_weight: int) -> None:
        """Refuse: a partial sum does not tell its updates apart.

        Raises:
            TypeError: always.
        """
        raise TypeError("This rule needs every update, not a sum of them.")

    def mean(self) -> Tensors:
        """Return the aggregated update, float32.

        Raises:
            ValueError: if nothing was added.
            RunFailedError: if ``reduce_fn`` returns another shape, or a value that is not finite.
        """
        if not self.updates:
            raise ValueError("Expected at least one update.")
        # A rule need not be symmetric in floating point: the order of arrival must not show.
        ordered = sorted(self.updates, key=lambda update: update.client)
        values = torch.stack([flatten(update.tensors, self.shapes) for update in ordered])
        reduced = self.reduce_fn(values, torch.tensor([update.num_examples for update in ordered]))
        if reduced.shape != values.shape[1:] or not bool(reduced.isfinite().all()):
            raise RunFailedError(
                f"The aggregation rule made shape {list(reduced.shape)} of {len(ordered)} updates,"
                f" expected finite values of shape {list(values.shape[1:])}; correct it, or have"
                " more institutions take part."
            )
        return unflatten(reduced.float(), self.shapes)


__all__ = [
    "SUM_BITS",
    "AllUpdates",
    "CollectedUpdates",
    "ExactSum",
    "FixedPointMean",
    "FixedPointSum",
    "ReduceFn",
    "WeightedMean",
    "add_scaled",
    "scale_of",
]
