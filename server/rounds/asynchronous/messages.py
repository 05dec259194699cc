"""Arrivals of institutions that answer by messages, each when it is done.

Whoever is silent holds up nobody else: its question is asked again as in rounds, and given up after
``server.round_timeout_s``, which frees its place.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from flwr.app import Message

from confide.server.rounds.enrolled import Enrolled
from confide.server.rounds.exchange import FIRST_PAUSE_S, Questions, longer, send
from confide.server.rounds.participants import Answer, Question
from confide.server.rounds.state import Asked

log = logging.getLogger(__name__)

QuestionFn = Callable[[Asked], Question]
"""Writes down what a client is asked."""


@dataclass(frozen=True, kw_only=True)
class _Open:
    """A question on its way.

    Attributes:
        asked: whom, and for which answer.
        messages: its copies.
        end: when it is given up, by the run's clock.
    """

    asked: Asked
    messages: Questions
    end: float


@dataclass(kw_only=True)
class MessageArrivals:
    """Answers that come by messages; :class:`~confide.server.rounds.arrivals.Arrivals`.

    Attributes:
        enrolled: the job, its grid and who takes part.
        question_fn: writes a question.
    """

    enrolled: Enrolled
    question_fn: QuestionFn
    repeats: ClassVar[bool] = False
    # Whom to ask then follows from the order of arrivals alone, which checkpoints know
    has_come: ClassVar[bool] = False
    _open: dict[str, _Open] = field(default_factory=dict)
    _come: deque[tuple[Asked, Answer]] = field(default_factory=deque)

    def ask(self, asked: Asked) -> None:
        """Send a question, whose time begins now, also where an earlier process asked it."""
        job = self.enrolled.job
        timeout, reach = job.settings.round_timeout_s, job.reach
        messages = self.question_fn(asked).messages("train")
        sent = send(self.enrolled.grid, messages, timeout, reach.again, reach.clock)
        end = reach.clock.now() + timeout
        self._open[asked.client] = _Open(asked=asked, messages=sent, end=end)

    def next(self) -> tuple[Asked, Answer]:
        """Wait for the next answer, or for a question to be given up."""
        grid, reach, pause = self.enrolled.grid, self.enrolled.job.reach, FIRST_PAUSE_S
        while not self._come:
            looked = reach.clock.now()
            ids = [number for one in self._open.values() for number in one.messages.ids]
            replies = list(grid.pull_messages(ids)) if ids else []
            for reply in replies:
                self._take(reply)
            self._give_up()
            if reach.again is not None:
                for one in self._open.values():
                    one.messages.ask_again(grid, reach.again, end=one.end)
            if replies:
                pause = FIRST_PAUSE_S
            elif not self._come:
                reach.clock.sleep(max(0.0, looked + pause - reach.clock.now()))
                pause = longer(pause)
        return self._come.popleft()

    def _take(self, reply: Message) -> None:
        """Take a reply in, if it is the answer to an open question."""
        again = self.enrolled.job.reach.again
        settled = [one for one in self._open.values() if one.messages.settles(reply, again)]
        for one in settled:  # one at most
            self._close(one, [reply])

    def _give_up(self) -> None:
        """Give up questions whose time is over, or whose client is gone."""
        now, gone = self.enrolled.job.reach.clock.now(), self.enrolled.job.reach.gone
        for one in [one for one in self._open.values() if one.asked.client in gone]:
            self._close(one, ())
        for one in [one for one in self._open.values() if now >= one.end]:
            log.warning(
                "%s has not answered its question %d in time; others go on without it.",
                one.asked.client,
                one.asked.number,
            )
            self._close(one, one.messages.last_errors())

    def _close(self, one: _Open, replies: Iterable[Message]) -> None:
        del self._open[one.asked.client]
        # Heard by the rules of rounds: a stranger's reply is none
        _, answer = next(self.enrolled.clients.answers(replies, [one.asked.client]))
        self._come.append((one.asked, answer))


__all__ = ["MessageArrivals", "QuestionFn"]
