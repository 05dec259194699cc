"""Answers on their way, where clients are asked one by one and not in rounds.

The loop over buffers (`confide.server.rounds.asynchronous.buffers`) asks, and takes what comes
next. Who decides what comes next, and when, is an :class:`Arrivals`: a simulation's queue of
events, or the institutions of a deployment, by their messages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from confide.config.client import ClientConfig
from confide.server.rounds.participants import Answer
from confide.server.rounds.state import Asked


@dataclass(frozen=True, kw_only=True)
class Load:
    """What an answer takes.

    Attributes:
        bytes_down: size of the tensors that a client is sent.
        bytes_up: size of those that it sends.
        num_examples: client -> declared number of training units.
        client: the plan's local training, where less of it may be done than planned; None: all of
            it is.
    """

    bytes_down: int
    bytes_up: int
    num_examples: Mapping[str, int]
    client: ClientConfig | None = None


class Arrivals(Protocol):
    """Questions that were asked, and their answers, in the order in which these come."""

    @property
    def repeats(self) -> bool:
        """Whether a later process gets the same answers in the same order.

        If not, each answer is made durable before anybody is asked anew.
        """

    def ask(self, asked: Asked) -> None:
        """Ask, or take up a question that an earlier process asked."""

    @property
    def has_come(self) -> bool:
        """Whether an answer is there already, so that nobody is asked anew before it is taken."""

    def next(self) -> tuple[Asked, Answer]:
        """Wait for the next answer, or for a question to be given up."""


AskFn = Callable[[Asked], Answer]
"""Has a client answer a question."""

ArrivalsFn = Callable[[AskFn, Load], Arrivals]
"""Begins a run's arrivals."""

__all__ = ["Arrivals", "ArrivalsFn", "AskFn", "Load"]
