"""FedBuff: a step for each buffer of K answers.

Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation, AISTATS 2022 (arXiv
2106.06639), algorithm 1: the mean of K updates, each multiplied by (1 + staleness)^-1/2, is the
server optimizer's step. Updates are summed as they arrive, and none is kept.
"""

from dataclasses import dataclass

from confide.protocol.tensors import Tensors
from confide.strategies.timings.timing import polynomial


@dataclass(frozen=True, kw_only=True)
class FedBuff:
    """Step by the mean of discounted updates.

    Attributes:
        concurrency: clients that compute at a time, >= 1.
        buffer_size: K >= 1.
        exponent: of the discount, >= 0.
        most_answers: of one client; the plan holds it, and bounds them.
    """

    concurrency: int
    buffer_size: int
    exponent: float = 0.5
    most_answers: int | None = None

    @property
    def answers(self) -> int:
        """Answers in one step."""
        return self.buffer_size

    def discount(self, staleness: int) -> float:
        """Return what an update is multiplied by."""
        return polynomial(staleness, self.exponent)

    def base(self, params: Tensors, given: Tensors, staleness: int) -> Tensors:
        """Begin with the global tensors as they are."""
        return params


__all__ = ["FedBuff"]
