"""The parts of a round that are the same however its updates arrive: its beginning and its end."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flwr.app import ArrayRecord

from confide.protocol.codecs.travel import update_bytes
from confide.protocol.messages import Request
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.enrolled import Enrolled, varies
from confide.server.rounds.enrolment import too_few
from confide.server.rounds.participants import Question
from confide.server.rounds.scoring import tell_lack
from confide.server.rounds.state import RunState, check_finite, update_best
from confide.server.rounds.tally import Tally
from confide.strategies.algorithm import Participation
from confide.strategies.strategy import Judging, Noising, Round, RoundStart

log = logging.getLogger(__name__)
_SILENT_ROUNDS = 10
"""Rounds on end in which all whom chance drew may fail to answer."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a round cost before its answers.

    Attributes:
        asked: names of those who were asked.
        started: when it began, by ``time.perf_counter()``.
        num_bytes: size of the tensors sent.
    """

    asked: Sequence[str]
    started: float
    num_bytes: int


def commit(enrolled: Enrolled, state: RunState) -> None:
    """Make a state durable."""
    if enrolled.job.commit_fn is None:
        return
    clients = enrolled.clients
    enrolled.job.commit_fn(
        # Of a population that is not listed more join, round by round
        Checkpoint(
            state=state, clients=dict(clients.num_examples), ledger_heads=clients.ledger_heads
        )
    )


def without_clients(
    enrolled: Enrolled, state: RunState, started: float, refused: Mapping[str, str]
) -> RunState:
    """Count a round in which nobody was drawn, or nobody of the few that chance drew answered.

    The model stays what it is, unless noise has to hide that nobody was there.

    Args:
        enrolled: who takes part.
        state: before the round.
        started: when it began, by ``time.perf_counter()``.
        refused: name -> code of those who were drawn.

    Raises:
        RunFailedError: if nobody answered in the last rounds that drew somebody.
    """
    clock, tally = enrolled.job.reach.clock, Tally(state.server_round + 1)
    tally.refused |= refused
    drawn = [record for record in state.history if record.accepted or record.refused]
    is_silent = not any(record.accepted for record in drawn[1 - _SILENT_ROUNDS :])
    if refused and is_silent and len(drawn) >= _SILENT_ROUNDS - 1:
        too_few(f"round {tally.server_round}", got=0, least=1, missing=refused)
    algorithm = enrolled.job.algorithm
    if isinstance(algorithm, Noising) and algorithm.has_noise:
        nobody = Participation(asked=(), accepted=(), num_clients=len(enrolled.clients.everybody))
        params, strategy_state = begin_round(enrolled, state, ()).finish(nobody)
        state = replace(state, params=params, strategy_state=strategy_state)
    record = tally.record(
        0,
        bytes_down=0,
        seconds=time.perf_counter() - started,
        virtual_s=clock.now() if clock.is_virtual else None,
    )
    return replace(state, server_round=tally.server_round, history=(*state.history, record))


def train_question(
    enrolled: Enrolled, cohort: Sequence[str], server_round: int, arrays: ArrayRecord
) -> Question:
    """Write down what a round asks of ``cohort``."""
    request = Request(plan=enrolled.plan, server_round=server_round, arrays=arrays)
    return enrolled.question(cohort, request)


def begin_round(
    enrolled: Enrolled,
    state: RunState,
    cohort: Sequence[str],
    declared: Mapping[str, int] | None = None,
) -> Round:
    """Begin the round after ``state`` with the clients ``cohort``.

    Args:
        enrolled: who takes part.
        state: before the round.
        cohort: names of those who are asked.
        declared: name -> declared number of training units; None: as they enrolled.
    """
    known = enrolled.clients.num_examples if declared is None else declared
    start = RoundStart(
        params=state.params,
        state=state.strategy_state,
        cohort=[known[name] for name in cohort],
        max_value=enrolled.job.settings.max_update_value,
        server_round=state.server_round + 1,
        num_rounds=enrolled.job.settings.num_rounds,
        plan=enrolled.job.plan,
        released=enrolled.job.released,
        secret=enrolled.job.secret,
        sum_bits=enrolled.job.sum_bits,
    )
    return enrolled.job.algorithm.begin(start)


def finish_round(
    enrolled: Enrolled, state: RunState, under_way: Round, tally: Tally, sent: Sent
) -> RunState:
    """Aggregate a round's updates; return the state after it.

    Raises:
        RunFailedError: if too few were accepted, naming the others.
    """
    plan = enrolled.job.plan
    if varies(enrolled.job) and not tally.accepted:
        # Whether one client was drawn must not show by a run that fails
        return without_clients(enrolled, state, sent.started, tally.refused)
    _check_enough(enrolled, tally, sent)
    # Of all who enrolled, not of the cohort: FedDyn's state is a mean over all clients.
    participation = Participation(
        asked=sent.asked,
        accepted=sorted(tally.accepted),
        num_clients=len(enrolled.clients.everybody),
    )
    params, strategy_state = under_way.finish(participation)
    check_finite(params, tally.server_round)
    seconds = time.perf_counter() - sent.started
    num_bytes = enrolled.upload.num_bytes(enrolled.reply_shapes)
    if plan.sums is not None:
        num_bytes = update_bytes(enrolled.reply_shapes, plan.sums)
    clock = enrolled.job.reach.clock
    record = tally.record(
        num_bytes,
        bytes_down=sent.num_bytes,
        seconds=seconds,
        virtual_s=clock.now() if clock.is_virtual else None,
    )
    if isinstance(under_way, Judging):
        record = replace(record, set_aside=under_way.set_aside)
    _tell_scores(enrolled, tally)
    # The round's validation scored the tensors that it started from.
    metric = plan.task.primary_metric
    scored = update_best(state, state.server_round, tally.validation, metric=metric)
    history = (*state.history, record)
    return replace(
        scored,
        server_round=tally.server_round,
        params=params,
        strategy_state=strategy_state,
        history=history,
    )


def _check_enough(enrolled: Enrolled, tally: Tally, sent: Sent) -> None:
    """Check how many updates came, before the aggregation: a resumed run repeats the round.

    Raises:
        RunFailedError: if too few were accepted, naming the others.
    """
    least = enrolled.job.settings.min_clients
    if varies(enrolled.job):  # chance drew fewer, whose loss it is not
        least = min(least, len(sent.asked))
    # Of institutions: a buffer may hold several answers of one
    answered = len({*tally.accepted})
    if answered < least:
        where = f"round {tally.server_round}"
        too_few(where, got=answered, least=least, missing=tally.refused)


def _tell_scores(enrolled: Enrolled, tally: Tally) -> None:
    """Say what cannot act for want of scores."""
    settings, plan = enrolled.job.settings, enrolled.job.plan
    if settings.patience is not None and not tally.validation and plan.privacy.metrics_every == 1:
        log.warning(
            "Round %d: no validation score was told, so server.patience cannot act. Institutions"
            " let none leave (policy.metrics_privacy, metrics, min_support), or it used up those"
            " that it may have.",
            tally.server_round,
        )
    tell_lack(settings, tally, plan.task.primary_metric)


__all__ = [
    "Sent",
    "begin_round",
    "commit",
    "finish_round",
    "train_question",
    "without_clients",
]
