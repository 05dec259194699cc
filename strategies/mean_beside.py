"""The weighted mean of updates, and beside it that of something made of each.

A mean of products is no function of the mean: every update has to come by itself, as to a robust
rule, and what is made of it is averaged with the weight that the update has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from confide.protocol.tensors import Shapes, Tensors
from confide.strategies.aggregators import WeightedMean
from confide.strategies.algorithm import join_extra
from confide.strategies.strategy import Accumulator, Bounds, ClientUpdate

MadeFn = Callable[[Tensors], Tensors]
"""Tensors of one client -> what is averaged beside them, float64, by names of its own."""


@dataclass(frozen=True, kw_only=True)
class MeanBeside:
    """A mean with more in it than clients send.

    Attributes:
        rule: the mean of updates, to the last bit what it is alone.
        averaged_fn: makes what is averaged beside them.
    """

    rule: WeightedMean
    averaged_fn: MadeFn
    additive: ClassVar[bool] = False

    def start(self, shapes: Shapes, bounds: Bounds) -> Accumulator:
        """Begin a round."""
        return _Updates(rule=self, mean_of=self.rule.start(shapes, bounds))

    def total_weight(self, num_examples: Sequence[int]) -> int:
        """Add up what a cohort would weigh."""
        return self.rule.total_weight(num_examples)


@dataclass(kw_only=True)
class _Updates:
    """A round's updates, kept until its end: memory grows with the cohort, products do not.

    Attributes:
        rule: what is made of them.
        mean_of: takes each update.
    """

    rule: MeanBeside
    mean_of: Accumulator
    _updates: dict[str, ClientUpdate] = field(default_factory=dict)

    def add(self, update: ClientUpdate) -> None:
        self.mean_of.add(update)  # which refuses what is no update of this round
        self._updates[update.client] = update

    def merge(self, total: Tensor, total_weight: int) -> None:
        raise TypeError("A mean of products needs every update, not a sum of them.")

    def mean(self) -> Tensors:
        """Return the mean update, and as extra tensors the mean of what was made of each."""
        mean, sums = self.mean_of.mean(), dict[str, Tensor]()
        # In the order of names: that of arrival must not show in the last bits
        updates = [self._updates[name] for name in sorted(self._updates)]
        weights = [self.rule.total_weight([update.num_examples]) for update in updates]
        for update, weight in zip(updates, weights, strict=True):
            for name, made in self.rule.averaged_fn(update.tensors).items():
                sums[name] = weight * made + sums.get(name, 0.0)
        return join_extra(mean, {name: value / sum(weights) for name, value in sums.items()})


__all__ = ["MadeFn", "MeanBeside"]
