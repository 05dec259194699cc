"""What a robust rule is: a function of all updates of a round, and who is set aside by it.

The adversary: up to ``num_hostile`` institutions of a round, which know every other update and
answer with any finite tensors within ``server.max_update_value``. What a rule promises is its
paper's: a bounded distance to the mean of the others, not their mean. Every institution weighs the
same, since a hostile one declares any number of records. Rules see updates one by one, so that they
do not go with sums that nobody sees inside.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from confide.config.strategies.aggregators import too_many_hostile
from confide.errors import ConfigError, RunFailedError
from confide.protocol.tensors import Shapes, Tensors, flatten, num_values, unflatten
from confide.strategies.strategy import Accumulator, Bounds, ClientUpdate, RoundStart

BLOCK = 2**15
"""Values of each update that are looked at together: temporaries stay in the processor's cache."""

_CENTRE = "centre"


class Reduced(NamedTuple):
    """What a rule makes of k vectors.

    Attributes:
        value: float32, shape [d].
        aside: how much of each was set aside, shape [k], from 0 (it went in like any other) to 1.
    """

    value: Tensor
    aside: Tensor


ReduceFn = Callable[[Tensor, Tensor], Reduced]
"""(vectors, float32 of shape [k, d]; the centre: what the round before gave, [d], 0 at first)."""


class Mixed(NamedTuple):
    """Vectors made of updates.

    Attributes:
        vectors: shape [m, d].
        members: of each update the vector that stands for it, int64 of shape [k].
    """

    vectors: Tensor
    members: Tensor


class Mixing(Protocol):
    """What happens to updates before a rule."""

    def groups(self, updates: int) -> int:
        """Return how many vectors are made of so many updates."""

    def mix(self, updates: Tensor, num_hostile: int, *, secret: bytes, server_round: int) -> Mixed:
        """Make vectors of updates.

        Args:
            updates: shape [k, d].
            num_hostile: how many of them may be hostile.
            secret: that random choices derive from.
            server_round: from 1.
        """


@dataclass(frozen=True, kw_only=True)
class RobustRule:
    """A robust aggregation rule.

    Attributes:
        kind: its name in the table.
        num_hostile: hostile institutions that it is to withstand.
        reduce_fn: makes one update of all.
        mixing: before it; None for none.
        keeps_centre: whether it starts from what the round before gave.
        start_of: the round that it is in; None outside of one.
        centre: what the round before gave, shape [d].
    """

    kind: str
    num_hostile: int
    reduce_fn: ReduceFn
    mixing: Mixing | None = None
    keeps_centre: bool = False
    start_of: RoundStart | None = None
    centre: Tensor | None = None
    additive: ClassVar[bool] = False

    def first_state(self, shapes: Shapes) -> Tensors:
        """Return what is kept before the first round, for updates of such shapes."""
        return {_CENTRE: torch.zeros(num_values(shapes))} if self.keeps_centre else {}

    def at(self, start: RoundStart, state: Tensors) -> "RobustRule":
        """Return the rule for a round.

        Args:
            start: what the round begins with.
            state: what the round before kept.

        Raises:
            ConfigError: if more are hostile than it withstands among those who are asked.
        """
        there = f"{len(start.cohort)} institutions in round {start.server_round}"
        problem = self.problem(len(start.cohort), there)
        if problem is not None:
            raise ConfigError(problem)
        return replace(self, start_of=start, centre=state.get(_CENTRE))

    def problem(self, updates: int, there: str) -> str | None:
        """Say why so many updates are too few; None if they are not."""
        groups = self.mixing.groups(updates) if self.mixing else updates
        return too_many_hostile(self.kind, self.num_hostile, groups, there)

    def start(self, shapes: Shapes, bounds: Bounds) -> Accumulator:
        """Begin a round."""
        return RobustUpdates(rule=self, shapes=shapes)

    def total_weight(self, num_examples: Sequence[int]) -> int:
        """Count a cohort: everybody weighs the same."""
        return len(num_examples)

    def reduce(self, updates: Tensor) -> Reduced:
        """Mix updates, and make one of them.

        Args:
            updates: float32, shape [k, d], in the order of the institutions' names.
        """
        centre = torch.zeros(updates.shape[1]) if self.centre is None else self.centre
        if self.mixing is None:
            return self.reduce_fn(updates, centre)
        start = self.start_of
        mixed = self.mixing.mix(
            updates,
            self.num_hostile,
            secret=start.secret if start else b"",
            server_round=start.server_round if start else 1,
        )
        value, aside = self.reduce_fn(mixed.vectors, centre)
        return Reduced(value, aside[mixed.members])


@dataclass(kw_only=True)
class RobustUpdates:
    """The updates of a round, all kept until its end: memory grows with the cohort.

    Attributes:
        rule: at this round.
        shapes: of an update.
        set_aside: institution -> how much of its update was set aside, once the mean is made.
        state: what the next round starts from, once the mean is made.
    """

    rule: RobustRule
    shapes: Shapes
    set_aside: Mapping[str, float] = field(default_factory=dict)
    state: Tensors = field(default_factory=dict)
    _updates: dict[str, Tensor] = field(default_factory=dict)

    def add(self, update: ClientUpdate) -> None:
        """Take one update."""
        self._updates[update.client] = flatten(update.tensors, self.shapes)

    def merge(self, total: Tensor, total_weight: int) -> None:
        """Refuse: a partial sum does not tell its updates apart.

        Raises:
            TypeError: always.
        """
        raise TypeError("A robust rule needs every update, not a sum of them.")

    def mean(self) -> Tensors:
        """Return what the rule makes of the updates, float32.

        Raises:
            RunFailedError: if too few answered for the number of hostile ones.
        """
        # A rule need not be symmetric in floating point: the order of arrival must not show
        names = sorted(self._updates)
        problem = self.rule.problem(len(names), f"{len(names)} institutions answered")
        if problem is not None:
            raise RunFailedError(problem)
        reduced = self.rule.reduce(torch.stack([self._updates[name] for name in names]).float())
        self.set_aside = dict(zip(names, reduced.aside.clamp(0, 1).tolist(), strict=True))
        if self.rule.keeps_centre:
            self.state = {_CENTRE: reduced.value}
        return unflatten(reduced.value, self.shapes)


__all__ = [
    "BLOCK",
    "Mixed",
    "Mixing",
    "ReduceFn",
    "Reduced",
    "RobustRule",
    "RobustUpdates",
]
