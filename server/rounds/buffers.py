"""Steps of an asynchronous strategy: clients are asked one by one, all the time.

The counterpart of the round loop. What a round is there is here a buffer of K answers, whoever they
are of and whichever tensors they started from; a record, a checkpoint and the observers' word
belong to each. To an institution every question is a round: its number is that of the client's own
questions, so that ledger and policy count as ever, and nobody is asked for more answers than the
plan's rounds, which its noise is calibrated for.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from confide.errors import ConfigError
from confide.privacy.randomness import seed_from
from confide.protocol.messages import Reply
from confide.protocol.tensors import Tensors
from confide.server.rounds.arrivals import Arrivals, ArrivalsFn, Load
from confide.server.rounds.enrolled import Enrolled
from confide.server.rounds.enrolment import too_few
from confide.server.rounds.job import Job
from confide.server.rounds.loop import (
    Sent,
    begin,
    begin_round,
    commit,
    conclude,
    ends_early,
    finish_round,
    log,
    train_question,
)
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.participants import Answer, accept
from confide.server.rounds.state import Asked, Flight, RunState
from confide.server.rounds.tally import Tally
from confide.strategies.strategy import FederatedAlgorithm, Round
from confide.strategies.timings.timing import Buffered, Timed

_TRIES = 16
"""Draws among all clients before those who are free are listed."""


def buffered(algorithm: FederatedAlgorithm) -> Buffered | None:
    """Return the timing of an asynchronous strategy; None for one that runs in rounds."""
    timing = algorithm.timing if isinstance(algorithm, Timed) else None
    return timing if isinstance(timing, Buffered) else None


def run_buffers(job: Job, grid: Grid, initial: Tensors) -> Outcome:
    """Take all steps of an asynchronous job, or those that an earlier process left.

    Args:
        job: what is run; its number of rounds is that of steps.
        grid: carries the messages.
        initial: initial trainable tensors.

    Raises:
        RunFailedError: if fewer than ``server.min_clients`` take part, or there is no step at all.
        ConfigError: if nothing is known of how answers come, or the algorithm cannot go on from the
            checkpoint.
        StorageError: if the checkpoint is of another model.
    """
    timing, arrivals_fn = buffered(job.algorithm), job.reach.arrivals_fn
    if timing is None or arrivals_fn is None:
        raise ConfigError(
            "strategy.timing: an asynchronous strategy is simulated alone; choose strategy=fedavg,"
            " or run it by `confide simulate`."
        )
    enrolled, state = begin(job, grid, initial)
    traffic = Traffic.take_up(enrolled, timing, state, arrivals_fn)
    exhausted = False
    while state.server_round < job.settings.num_rounds and not ends_early(job, state):
        after = _step(traffic, state)
        if after is None:
            exhausted = True
            break
        state = after
        commit(enrolled, state)  # before anybody hears of the step
        for observer in job.observers:
            observer.round_done(state)
    outcome = conclude(enrolled, replace(state, flight=None))
    return replace(outcome, stopped_early=outcome.stopped_early or exhausted)


@dataclass(kw_only=True)
class Traffic:
    """Questions on their way in one run.

    Attributes:
        enrolled: the job and who takes part.
        timing: how many compute at a time.
        names: of all clients, sorted.
        arrivals: where answers come from.
        num_asked: client -> number of questions so far.
        waiting: client -> its question, in the order of asking.
        versions: steps -> the tensors after them, where a question waits that was asked with them.
        encoded: the same, as they travel.
    """

    enrolled: Enrolled
    timing: Buffered
    names: Sequence[str]
    arrivals: Arrivals = field(init=False)
    num_asked: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, Asked] = field(default_factory=dict)
    versions: dict[int, Tensors] = field(default_factory=dict)
    encoded: dict[int, ArrayRecord] = field(default_factory=dict)

    @classmethod
    def take_up(
        cls, enrolled: Enrolled, timing: Buffered, state: RunState, arrivals_fn: ArrivalsFn
    ) -> "Traffic":
        """Begin, or go on with the questions that an earlier process asked."""
        declared = enrolled.clients.num_examples
        traffic = cls(enrolled=enrolled, timing=timing, names=sorted(declared))
        down = enrolled.download.num_bytes(enrolled.shapes)
        up = enrolled.upload.num_bytes(enrolled.reply_shapes)
        load = Load(bytes_down=down, bytes_up=up, num_examples=declared)
        traffic.arrivals = arrivals_fn(traffic._answer, load)
        flight = state.flight or Flight()
        traffic.num_asked |= flight.asked
        traffic.add_version(state)
        for number, version in flight.versions.items():
            traffic._keep(number, version, state.strategy_state)
        for asked in flight.waiting:
            if asked.client in declared:  # or it withdrew since
                traffic._ask(asked)
        return traffic

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

    def flight(self, server_round: int) -> Flight:
        """Return what a checkpoint after a step needs to know of the questions."""
        waiting = tuple(self.waiting.values())
        used = {asked.version for asked in waiting} - {server_round}
        return Flight(
            asked=dict(self.num_asked),
            waiting=waiting,
            versions={number: self.versions[number] for number in sorted(used)},
        )

    def top_up(self, version: int) -> list[str]:
        """Ask until as many compute as may; return whom."""
        asked: list[str] = []
        while len(self.waiting) < min(self.timing.concurrency, len(self.names)):
            client = self._free()
            if client is None:
                break
            number = self.num_asked.get(client, 0) + 1
            self.num_asked[client] = number
            now = self.enrolled.job.reach.clock.now()
            self._ask(Asked(client=client, number=number, version=version, at=now))
            asked.append(client)
        return asked

    def _ask(self, asked: Asked) -> None:
        self.waiting[asked.client] = asked
        self.arrivals.ask(asked)

    def _free(self) -> str | None:
        """Draw one of those who do not compute and may be asked; None if there is none."""
        # By how many were asked before, which a process that goes on knows too
        count = sum(self.num_asked.values())
        chooser = random.Random(seed_from(self.enrolled.job.secret, "asynchronous", count))
        for _ in range(_TRIES):
            client = chooser.choice(self.names)
            if self._may_be_asked(client):
                return client
        free = [client for client in self.names if self._may_be_asked(client)]
        return chooser.choice(free) if free else None

    def _may_be_asked(self, client: str) -> bool:
        most = self.enrolled.job.plan.num_rounds
        return client not in self.waiting and self.num_asked.get(client, 0) < most

    def next(self) -> tuple[Asked, Answer]:
        """Wait for the next answer."""
        asked, answer = self.arrivals.next()
        del self.waiting[asked.client]
        return asked, answer

    def _answer(self, asked: Asked) -> Answer:
        arrays = self.encoded[asked.version]
        question = train_question(self.enrolled, [asked.client], asked.number, arrays)
        return next(answer for _, answer in self.enrolled.ask("train", question))


@dataclass(kw_only=True)
class _Buffer:
    """The answers of one step.

    Attributes:
        traffic: of the run.
        state: before the step.
        tally: who was accepted, who refused.
        under_way: the step, once an answer was accepted.
    """

    traffic: Traffic
    state: RunState
    tally: Tally
    under_way: Round | None = None

    def take(self, asked: Asked, reply: Reply) -> None:
        """Take an update, weighed by how stale it is.

        Raises:
            ProtocolError: if it is not what was asked for.
        """
        enrolled, timing = self.traffic.enrolled, self.traffic.timing
        declared = enrolled.clients.num_examples
        update = accept(
            reply,
            asked.client,
            declared=declared[asked.client],
            shapes=enrolled.reply_shapes,
            travel=enrolled.upload,
            max_value=enrolled.job.settings.max_update_value,
        )
        staleness = self.state.server_round - asked.version
        if self.under_way is None:
            given = self.traffic.versions[asked.version]
            start = replace(self.state, params=timing.base(self.state.params, given, staleness))
            # Who will answer is not known: the scale is fixed for the largest weights there are
            largest = max(declared, key=declared.__getitem__)
            self.under_way = begin_round(enrolled, start, [largest] * timing.answers)
        self.under_way.add(replace(update, discount=timing.discount(staleness)))
        self.tally.staleness.append(staleness)


def _step(traffic: Traffic, state: RunState) -> RunState | None:
    """Fill a buffer and take its step; None if everybody has given as many answers as it may.

    Raises:
        RunFailedError: if that is so before the first step.
    """
    enrolled, started = traffic.enrolled, time.perf_counter()
    buffer = _Buffer(traffic=traffic, state=state, tally=Tally(state.server_round + 1))
    tally, asked_now = buffer.tally, list[str]()
    while len(tally.accepted) < traffic.timing.answers:
        # Answers of one instant are taken before anybody is asked anew: without delays a step of
        # everybody's answers is a round
        if not traffic.arrivals.has_come:
            asked_now += traffic.top_up(state.server_round)
        if not traffic.waiting:
            _tell_exhausted(traffic, state, tally)
            return None
        asked, answer = traffic.next()

        def take(_: str, reply: Reply, asked: Asked = asked) -> None:
            buffer.take(asked, reply)

        tally.note(asked.client, answer, take)
    assert buffer.under_way is not None
    num_bytes = enrolled.download.num_bytes(enrolled.shapes) * len(asked_now)
    sent = Sent(asked=asked_now, started=started, num_bytes=num_bytes)
    after = finish_round(enrolled, state, buffer.under_way, tally, sent)
    # Each answer scored the tensors that its client was given: no model was scored by all of them
    after = replace(after, best=None, stale_rounds=0)
    traffic.add_version(after)
    return replace(after, flight=traffic.flight(after.server_round))


def _tell_exhausted(traffic: Traffic, state: RunState, tally: Tally) -> None:
    job = traffic.enrolled.job
    if state.server_round == 0:
        too_few(
            "round 1",
            got=len(tally.accepted),
            least=traffic.timing.answers,
            missing=tally.refused,
        )
    log.warning(
        "The run ends after %d of %d steps: every institution was asked for the %d answers that its"
        " noise is calibrated for; raise strategy.timing.most_answers.",
        state.server_round,
        job.settings.num_rounds,
        job.plan.num_rounds,
    )


__all__ = ["buffered", "run_buffers"]
