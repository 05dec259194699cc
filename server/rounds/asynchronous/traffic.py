"""Questions on their way in a run that asks clients one by one.

Whom to ask next follows from the coordinator's secret, from how many were asked before and from who
computes: a process that goes on from a checkpoint asks the same.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from flwr.app import ArrayRecord

from confide.privacy.randomness import seed_from
from confide.protocol.tensors import Tensors
from confide.server.rounds.arrivals import Arrivals, Load
from confide.server.rounds.asynchronous.messages import MessageArrivals
from confide.server.rounds.enrolled import Enrolled
from confide.server.rounds.participants import Answer, Question
from confide.server.rounds.state import Asked, Begun, Flight, RunState
from confide.server.rounds.steps import train_question
from confide.strategies.timings.timing import Buffered

_TRIES = 16
"""Draws among all clients before those who are free are listed."""


@dataclass(kw_only=True)
class Traffic:
    """Questions on their way in one run.

    Attributes:
        enrolled: the job and who takes part.
        timing: how many compute at a time.
        arrivals: where answers come from.
        num_asked: client -> number of questions so far.
        waiting: client -> its question, in the order of asking.
        versions: steps -> the tensors after them, where a question waits that was asked with them.
        encoded: the same, as they travel.
    """

    enrolled: Enrolled
    timing: Buffered
    arrivals: Arrivals = field(init=False)
    num_asked: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, Asked] = field(default_factory=dict)
    versions: dict[int, Tensors] = field(default_factory=dict)
    encoded: dict[int, ArrayRecord] = field(default_factory=dict)

    @classmethod
    def take_up(cls, enrolled: Enrolled, timing: Buffered, state: RunState) -> "Traffic":
        """Begin, or go on with the questions that an earlier process asked."""
        declared = enrolled.clients.num_examples
        traffic = cls(enrolled=enrolled, timing=timing)
        traffic.arrivals = traffic._arrivals()
        flight = state.flight or Flight()
        traffic.num_asked |= flight.asked
        traffic.add_version(state)
        for number, version in flight.versions.items():
            traffic._keep(number, version, state.strategy_state)
        for asked in flight.waiting:
            if asked.client in declared:  # or it withdrew since
                traffic._ask(asked)
        return traffic

    def _arrivals(self) -> Arrivals:
        enrolled, arrivals_fn = self.enrolled, self.enrolled.job.reach.arrivals_fn
        if arrivals_fn is None:
            return MessageArrivals(enrolled=enrolled, question_fn=self._question)
        load = Load(
            bytes_down=enrolled.download.num_bytes(enrolled.shapes),
            bytes_up=enrolled.upload.num_bytes(enrolled.reply_shapes),
            num_examples=enrolled.clients.num_examples,
            client=enrolled.job.plan.client,
        )
        return arrivals_fn(self._answer, load)

    @property
    def names(self) -> Sequence[str]:
        """Names of all clients in ascending order; not listed where there is a roster."""
        return self.enrolled.clients.everybody

    @property
    def most_at_a_time(self) -> int:
        """Largest number of clients that compute at a time."""
        return min(self.timing.concurrency, len(self.names))

    def add_version(self, state: RunState) -> None:
        """Take the tensors after a step, and drop those that nobody computes with any more."""
        self._keep(state.server_round, state.params, state.strategy_state)
        used = {asked.version for asked in self.waiting.values()} | {state.server_round}
        for number in self.versions.keys() - used:
            del self.versions[number], self.encoded[number]

    def _keep(self, number: int, params: Tensors, strategy_state: Tensors) -> None:
        self.versions[number] = params
        request = self.enrolled.job.algorithm.request(params, strategy_state)
        self.encoded[number] = self.enrolled.encode(request, number)

    def flight(self, server_round: int, begun: Begun | None = None) -> Flight:
        """Return what a checkpoint needs to know of the questions.

        Args:
            server_round: steps taken.
            begun: the next step, where it has begun.
        """
        waiting = tuple(self.waiting.values())
        used = {asked.version for asked in waiting} - {server_round}
        return Flight(
            asked=dict(self.num_asked),
            waiting=waiting,
            versions={number: self.versions[number] for number in sorted(used)},
            begun=begun,
        )

    def top_up(
        self, version: int, *, without: Collection[str] = ()
    ) -> tuple[list[str], dict[str, str]]:
        """Ask until as many compute as may.

        Args:
            version: steps taken.
            without: clients that are not asked now.

        Returns:
            Whom it asked; and name -> code of those who do not take part, where clients are asked
            for their consent when they are first drawn.
        """
        asked, declined = list[str](), dict[str, str]()
        while len(self.waiting) < self.most_at_a_time:
            client = self._free({*without, *declined})
            if client is None:
                break
            number = self.num_asked.get(client, 0) + 1
            self.num_asked[client] = number
            refused = self.enrolled.admit([client])
            if refused:
                declined |= refused
                continue
            now = self.enrolled.job.reach.clock.now()
            self._ask(Asked(client=client, number=number, version=version, at=now))
            asked.append(client)
        return asked, declined

    def _ask(self, asked: Asked) -> None:
        self.waiting[asked.client] = asked
        self.arrivals.ask(asked)

    def _free(self, without: Collection[str]) -> str | None:
        """Draw one of those who do not compute and may be asked; None if there is none."""
        # By how many were asked before, which a process that goes on knows too
        count = sum(self.num_asked.values())
        chooser = random.Random(seed_from(self.enrolled.job.secret, "asynchronous", count))
        names = self.names
        for _ in range(_TRIES):
            client = chooser.choice(names)
            if self._may_be_asked(client, without):
                return client
        free = [client for client in names if self._may_be_asked(client, without)]
        return chooser.choice(free) if free else None

    def _may_be_asked(self, client: str, without: Collection[str]) -> bool:
        most = self.enrolled.job.plan.num_rounds
        is_busy = client in self.waiting or client in without
        return not is_busy and self.num_asked.get(client, 0) < most

    def next(self) -> tuple[Asked, Answer]:
        """Wait for the next answer."""
        asked, answer = self.arrivals.next()
        del self.waiting[asked.client]
        return asked, answer

    def _question(self, asked: Asked) -> Question:
        arrays = self.encoded[asked.version]
        return train_question(self.enrolled, [asked.client], asked.number, arrays)

    def _answer(self, asked: Asked) -> Answer:
        answers = self.enrolled.ask("train", self._question(asked))
        return next(answer for _, answer in answers)


__all__ = ["Traffic"]
