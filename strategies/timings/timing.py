"""The seam of timings: when a strategy takes a step, and what an answer then weighs."""

from typing import Protocol, runtime_checkable

from confide.protocol.tensors import Tensors


class Timing(Protocol):
    """When a strategy takes steps: in rounds, unless it is :class:`Buffered`."""


@runtime_checkable
class Buffered(Timing, Protocol):
    """Asynchronous: clients are asked one by one, and a step is taken for some answers."""

    @property
    def concurrency(self) -> int:
        """Clients that compute at a time, >= 1."""

    @property
    def answers(self) -> int:
        """Answers in one step, K >= 1."""

    def discount(self, staleness: int) -> float:
        """Return what an update is multiplied by, in (0, 1]; its weight stays.

        Args:
            staleness: steps that were taken since the client was asked, >= 0.
        """

    def base(self, params: Tensors, given: Tensors, staleness: int) -> Tensors:
        """Return the tensors that a step begins with, called for its first answer.

        Where it is not ``params``, ``answers`` is 1.

        Args:
            params: global tensors.
            given: those that the client was given.
            staleness: of its answer.
        """


@runtime_checkable
class Timed(Protocol):
    """A strategy that says when it takes steps; any other one runs in rounds."""

    @property
    def timing(self) -> Timing:
        """When it takes steps."""


def polynomial(staleness: int, exponent: float) -> float:
    """Return ``(1 + staleness)^-exponent``.

    Xie et al. 2019 (arXiv 1903.03934), section 5.2, "Poly"; Nguyen et al. 2022 (arXiv 2106.06639)
    take exponent 1/2.

    >>> polynomial(3, 0.5)
    0.5
    """
    return float((1.0 + staleness) ** -exponent)


__all__ = ["Buffered", "Timed", "Timing", "polynomial"]
