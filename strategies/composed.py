"""A federated algorithm composed of independent parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from confide.config.strategy import ObjectiveConfig
from confide.protocol.tensors import Tensors
from confide.strategies.strategy import (
    Accumulator,
    Aggregator,
    Bounds,
    ClientUpdate,
    Round,
    Selection,
    ServerOptimizer,
    SumRule,
)


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A strategy composed of parts; a :class:`FederatedAlgorithm`.

    Attributes:
        selection: who takes part.
        aggregator: how updates become one.
        server_optimizer: how that changes the global tensors.
        objective: what clients minimise; travels in the plan.
    """

    selection: Selection
    aggregator: Aggregator
    server_optimizer: ServerOptimizer
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    @property
    def resumable(self) -> bool:
        """Always: a strategy of parts hides nothing."""
        return True

    def init(self, params: Tensors) -> Tensors:
        """Return the server optimizer's first state."""
        return self.server_optimizer.init(params)

    def select(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Choose this round's clients."""
        return self.selection(clients, secret=secret, server_round=server_round)

    def begin(
        self,
        params: Tensors,
        state: Tensors,
        *,
        cohort: Sequence[int],
        max_value: float,
        server_round: int,
    ) -> Round:
        """Begin a round."""
        bounds = Bounds(
            max_value=max_value, max_total_weight=max(1, self.aggregator.total_weight(cohort))
        )
        shapes = {name: tuple(tensor.shape) for name, tensor in params.items()}
        rule = (
            SumRule(aggregator=self.aggregator, bounds=bounds) if self.aggregator.additive else None
        )
        return _ComposedRound(
            params, state, self.aggregator.start(shapes, bounds), self.server_optimizer, rule
        )


@dataclass(frozen=True)
class _ComposedRound:
    params: Tensors
    state: Tensors
    accumulator: Accumulator
    server_optimizer: ServerOptimizer
    rule: SumRule | None

    def add(self, update: ClientUpdate) -> None:
        self.accumulator.add(update)

    def merge(self, total: Tensor, total_weight: int) -> None:
        self.accumulator.merge(total, total_weight)

    def finish(self, *, participation: float = 1.0) -> tuple[Tensors, Tensors]:
        return self.server_optimizer.apply(
            self.params, self.accumulator.mean(), self.state, participation=participation
        )


__all__ = ["Strategy"]
