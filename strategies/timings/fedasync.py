"""FedAsync: a step for each answer.

Xie et al., Asynchronous Federated Optimization, 2019 (arXiv 1903.03934), algorithm 1: the new
global tensors are ``(1 - a) w + a x`` for a client's model x and ``a = mixing * (1 +
staleness)^-exponent``. The client's model is what it was given plus its update, so that a step is
taken from ``(1 - a) w + a w_given`` by ``a`` times the update. The paper's proximal term is
``strategy/objective=fedprox``.
"""

from dataclasses import dataclass
from typing import ClassVar

from confide.protocol.tensors import Tensors
from confide.strategies.timings.timing import polynomial


@dataclass(frozen=True, kw_only=True)
class FedAsync:
    """Step towards each client's model.

    Attributes:
        concurrency: clients that compute at a time, >= 1.
        mixing: weight of a fresh client's model, in (0, 1].
        exponent: of the discount, >= 0.
        most_answers: of one client; the plan holds it, and bounds them.
    """

    concurrency: int
    mixing: float
    exponent: float = 0.5
    most_answers: int | None = None
    answers: ClassVar[int] = 1

    def discount(self, staleness: int) -> float:
        """Return what an update is multiplied by: the weight of its client's model."""
        return self.mixing * polynomial(staleness, self.exponent)

    def base(self, params: Tensors, given: Tensors, staleness: int) -> Tensors:
        """Mix the global tensors with those that the client was given."""
        weight = self.discount(staleness)
        # In this form, so that rounding changes nothing where both are the same
        return {name: value + weight * (given[name] - value) for name, value in params.items()}


__all__ = ["FedAsync"]
