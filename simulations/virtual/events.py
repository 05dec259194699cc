"""The event queue: answers of asynchronous clients, in the order in which they come."""

import heapq
from dataclasses import dataclass, field
from typing import ClassVar

from confide.protocol.refusals import Refusal
from confide.server.rounds.arrivals import AskFn, Load
from confide.server.rounds.participants import Answer
from confide.server.rounds.state import Asked
from confide.simulations.virtual.clock import VirtualClock
from confide.simulations.virtual.delays import Delays


@dataclass(kw_only=True)
class EventQueue:
    """Answers on their way; :class:`~confide.server.rounds.arrivals.Arrivals`.

    A client computes when its answer is due, with the tensors that it was given.

    Attributes:
        clock: the run's.
        delays: when answers come.
        ask_fn: has a client compute.
        load: what an answer takes.
        charges: whether a client whose answer is lost computes all the same.
    """

    clock: VirtualClock
    delays: Delays
    ask_fn: AskFn
    load: Load
    charges: bool
    repeats: ClassVar[bool] = True
    _events: list[tuple[float, int, Asked, bool]] = field(default_factory=list)
    _count: int = 0

    def ask(self, asked: Asked) -> None:
        """Queue the answer to a question."""
        due = self.delays.due(asked.client, asked.number, asked.at, self.load)
        # Of one instant the first that was asked comes first
        heapq.heappush(self._events, (due.at, self._count, asked, due.is_heard))
        self._count += 1

    @property
    def has_come(self) -> bool:
        """Whether another answer comes at this very instant."""
        return bool(self._events) and self._events[0][0] <= self.clock.now()

    def next(self) -> tuple[Asked, Answer]:
        """Set the clock to the next answer, and have it computed."""
        at, _, asked, is_heard = heapq.heappop(self._events)
        self.clock.advance_to(at)
        if is_heard:
            return asked, self.ask_fn(asked)
        if self.charges:
            self.ask_fn(asked)
        return asked, Refusal.NO_REPLY


__all__ = ["EventQueue"]
