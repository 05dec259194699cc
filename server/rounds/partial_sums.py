"""Partial sums: where the rule is a sum, a grid may add updates up where they are made, and bring one model instead of many."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from confide.strategies.strategy import SumRule


@dataclass(frozen=True, kw_only=True)
class SumOrder:
    """What a grid must know to take updates in the coordinator's place for one round.

    Attributes:
        rule: how a partial sum is begun.
        declared: name -> declared number of training records.
        max_value: an update with a larger absolute value is refused.
    """

    rule: SumRule
    declared: Mapping[str, int]
    max_value: float


@dataclass(frozen=True, kw_only=True)
class CollectedSum:
    """The partial sums of a round, added up.

    Attributes:
        total: int64, shape [d].
        total_weight: of the updates in it.
        lost: name -> code of clients whose reply arrived but whose update is not in the sum.
    """

    total: Tensor
    total_weight: int
    lost: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class SummingGrid(Protocol):
    """A grid that sums.

    Its replies to train requests then hold no tensors; updates were checked where they were added.
    """

    def begin_sum(self, order: SumOrder) -> None:
        """Begin a round: what is asked from now on goes into a new sum."""

    def collect_sum(self, timeout: float) -> CollectedSum:
        """End the round: wait at most ``timeout`` seconds for work that had to be done again, and hand over the sum."""


__all__ = ["CollectedSum", "SumOrder", "SummingGrid"]
