"""Steps of an asynchronous strategy: clients are asked one by one, all the time.

The counterpart of the round loop. What a round is there is here a buffer of K answers, whoever they
are of and whichever tensors they started from; a record, a checkpoint and the observers' word
belong to each. To an institution every question is a round: its number is that of the client's own
questions, so that ledger and policy count as ever, and nobody is asked for more answers than the
plan's rounds, which its noise is calibrated for.

Where answers come when institutions are done, their order decides the weights. So each is made
durable as it comes, with the sum that it is in, before anybody is asked anew: a process that is
killed at any instant is followed by one that goes on with the same sum and asks the same.
"""

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from flwr.serverapp import Grid

from confide.errors import ConfigError
from confide.protocol.messages import Reply
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import Tensors
from confide.server.rounds.asynchronous.traffic import Traffic
from confide.server.rounds.departures import let_go
from confide.server.rounds.enrolment import too_few
from confide.server.rounds.job import Job
from confide.server.rounds.loop import begin, conclude, ends_early
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.participants import Answer, accept
from confide.server.rounds.state import Asked, Begun, RunState
from confide.server.rounds.steps import Sent, begin_round, commit, finish_round
from confide.server.rounds.tally import Tally
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.strategy import FederatedAlgorithm, Round
from confide.strategies.timings.timing import Buffered, Timed

log = logging.getLogger(__name__)


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
        ConfigError: if the algorithm is not asynchronous, its rule is no sum, or it cannot go on
            from the checkpoint.
        StorageError: if the checkpoint is of another model.
    """
    timing = buffered(job.algorithm)
    if timing is None:
        raise ConfigError("strategy.timing: expected an asynchronous strategy.")
    enrolled, state = begin(job, grid, initial)
    traffic = Traffic.take_up(enrolled, timing, state)
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
class _Buffer:
    """The answers of one step.

    Attributes:
        traffic: of the run.
        state: before the step.
        tally: who was accepted, who refused.
        started: when it began, by ``time.perf_counter()``.
        asked: whom it has asked.
        under_way: the step, once an answer was accepted.
        sums: the sum of what was accepted, which goes into ``under_way`` in the end.
    """

    traffic: Traffic
    state: RunState
    tally: Tally
    started: float
    asked: list[str] = field(default_factory=list)
    under_way: Round | None = None
    sums: FixedPointMean | None = None

    @classmethod
    def take_up(cls, traffic: Traffic, state: RunState) -> "_Buffer":
        """Begin a step, or go on with the answers that an earlier process took."""
        begun = state.flight.begun if state.flight else None
        buffer = cls(
            traffic=traffic,
            state=state,
            tally=Tally(state.server_round + 1),
            started=time.perf_counter(),
        )
        if begun is None:
            return buffer
        buffer.asked += begun.asked
        buffer.started -= begun.record.seconds
        if begun.total is None:
            buffer.tally = Tally.of(begun.record)
            return buffer
        under_way, sums = buffer._begin(state)
        if sums.bounds.max_total_weight != begun.max_total_weight:
            log.warning(
                "Who takes part has changed, and with it the unit of sums: the answers of %s, which"
                " step %d had, are left out.",
                ", ".join(begun.record.order),
                state.server_round + 1,
            )
            return buffer
        sums.merge(begun.total, begun.total_weight)
        buffer.tally = Tally.of(begun.record)
        buffer.under_way, buffer.sums = under_way, sums
        return buffer

    @property
    def least(self) -> int:
        """Fewest institutions that a step is made of."""
        return self.traffic.enrolled.job.settings.min_clients

    @property
    def is_full(self) -> bool:
        """Whether there are as many answers as a step takes, of as many institutions."""
        accepted = self.tally.accepted
        return len(accepted) >= self.traffic.timing.answers and len({*accepted}) >= self.least

    @property
    def closed_to(self) -> Collection[str]:
        """Whom not to ask: others alone are lacking, so that the step is not held up."""
        is_long = len(self.tally.accepted) >= self.traffic.timing.answers
        return {*self.tally.accepted} if is_long else ()

    def ask(self, version: int) -> None:
        """Ask until as many compute as may.

        Who declined in this step is asked in the next one: at once it would be drawn again, as the
        only one free, until all its answers are counted as given. If nobody else is left it is
        asked all the same.

        Args:
            version: steps taken.
        """
        without = {*self.closed_to, *self.tally.refused}
        for others in (without, self.closed_to):
            asked, declined = self.traffic.top_up(version, without=others)
            self.asked += asked
            self.tally.refused |= declined
            if self.traffic.waiting:
                return

    def note(self, asked: Asked, answer: Answer) -> None:
        """Count an answer; none of who has left the run since."""
        if asked.client not in self.traffic.enrolled.clients.num_examples:
            answer = Refusal.REVOKED

        def take(_: str, reply: Reply) -> None:
            self._take(asked, reply)

        self.tally.note(asked.client, answer, take)

    def _take(self, asked: Asked, reply: Reply) -> None:
        """Take an update, weighed by how stale it is.

        Raises:
            ProtocolError: if it is not what was asked for.
        """
        enrolled, timing = self.traffic.enrolled, self.traffic.timing
        update = accept(
            reply,
            asked.client,
            declared=enrolled.clients.num_examples[asked.client],
            shapes=enrolled.reply_shapes,
            travel=enrolled.upload,
            max_value=enrolled.job.settings.max_update_value,
        )
        staleness = self.state.server_round - asked.version
        if self.sums is None:
            given = self.traffic.versions[asked.version]
            base = timing.base(self.state.params, given, staleness)
            self.under_way, self.sums = self._begin(replace(self.state, params=base))
        self.sums.add(replace(update, discount=timing.discount(staleness)))
        self.tally.staleness.append(staleness)

    def _begin(self, start: RunState) -> tuple[Round, FixedPointMean]:
        """Begin the step from ``start``, and the sum of its updates.

        Raises:
            ConfigError: if the algorithm's rule is no sum.
        """
        traffic, declared = self.traffic, self.traffic.enrolled.clients.num_examples
        # Who will answer is not known: the scale is fixed for the largest weights there are. Where
        # others alone are lacking, all who compute may answer first
        more = traffic.most_at_a_time + self.least if self.least > 1 else 0
        largest = max(declared, key=declared.__getitem__)
        under_way = begin_round(
            traffic.enrolled, start, [largest] * (traffic.timing.answers + more)
        )
        rule = under_way.rule
        sums = None if rule is None else rule.aggregator.start(rule.shapes, rule.bounds)
        if not isinstance(sums, FixedPointMean):
            raise ConfigError(
                "strategy.aggregator: an asynchronous strategy sums updates as they come; choose"
                " strategy/aggregator=weighted_mean."
            )
        return under_way, sums

    def begun(self) -> Begun:
        """Return the step as a checkpoint keeps it."""
        sums = self.sums
        seconds = time.perf_counter() - self.started
        return Begun(
            record=self.tally.record(0, bytes_down=0, seconds=seconds),
            asked=tuple(self.asked),
            total=None if sums is None else sums.total.clone(),
            total_weight=0 if sums is None else sums.total_weight,
            max_total_weight=0 if sums is None else sums.bounds.max_total_weight,
        )

    def finish(self) -> RunState:
        """Take the step.

        Raises:
            RunFailedError: if too few institutions are in it.
        """
        enrolled = self.traffic.enrolled
        assert self.under_way is not None
        assert self.sums is not None
        self.under_way.merge(self.sums.total, self.sums.total_weight)
        num_bytes = enrolled.download.num_bytes(enrolled.shapes) * len(self.asked)
        sent = Sent(asked=self.asked, started=self.started, num_bytes=num_bytes)
        after = finish_round(enrolled, self.state, self.under_way, self.tally, sent)
        # Each answer scored the tensors that its client was given: no model was scored by all
        return replace(after, best=None, stale_rounds=0)


def _step(traffic: Traffic, state: RunState) -> RunState | None:
    """Fill a buffer and take its step; None if everybody has given as many answers as it may.

    Raises:
        RunFailedError: if that is so before the first step.
    """
    buffer = _Buffer.take_up(traffic, state)
    while not buffer.is_full:
        let_go(traffic.enrolled, state.server_round, least=buffer.least)
        # Answers of one instant are taken before anybody is asked anew: without delays a step of
        # everybody's answers is a round
        if not traffic.arrivals.has_come:
            buffer.ask(state.server_round)
        if not traffic.waiting:
            _tell_exhausted(traffic, state, buffer.tally)
            return None
        buffer.note(*traffic.next())
        if not (buffer.is_full or traffic.arrivals.repeats):
            flight = traffic.flight(state.server_round, buffer.begun())
            commit(traffic.enrolled, replace(state, flight=flight))
    after = buffer.finish()
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
