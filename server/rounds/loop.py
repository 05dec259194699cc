"""The round loop, over any Flower grid.

One exchange a round, two where sums are masked: an institution scores the tensors it receives on
its validation records, trains, and answers with an update. Replies go into the aggregator as they
arrive. Every wait is bounded. An error reply, silence, or an update that does not fit is a failure
of that institution alone, named; the round goes on without it.

What is fixed for all rounds is :class:`~confide.server.rounds.enrolled.Enrolled`; what moves is
:class:`~confide.server.rounds.state.RunState`.
"""

import logging
import time
from collections.abc import Sequence

from flwr.serverapp import Grid

from confide.config.server import ServerConfig
from confide.config.strategies.strategy import ALGORITHMS
from confide.protocol.messages import OLD, PERSONAL, Reply
from confide.protocol.tensors import Tensors, shapes_of
from confide.server.rounds.collect import Intake
from confide.server.rounds.departures import let_go
from confide.server.rounds.enrolled import Enrolled, select, varies
from confide.server.rounds.enrolment import check_adverts, check_same_clients, enrol, too_few
from confide.server.rounds.job import Job
from confide.server.rounds.masked import Asking, is_masked
from confide.server.rounds.masked_rounds import (
    masked_round,
    masked_scores,
    opened_round,
    openly,
    validated_openly,
)
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.scoring import (
    epsilon_of,
    evaluate,
    of_split,
    predecessor_of,
    scorers,
    tallies_of,
)
from confide.server.rounds.state import RunState, update_best
from confide.server.rounds.steps import (
    Sent,
    begin_round,
    commit,
    finish_round,
    train_question,
    without_clients,
)
from confide.server.rounds.tally import with_peers_of
from confide.strategies.strategy import Closing, Finishing

log = logging.getLogger(__name__)


def run_rounds(job: Job, grid: Grid, initial: Tensors) -> Outcome:
    """Run all rounds of a job, or those that an earlier process left.

    Args:
        job: what is run.
        grid: carries the messages.
        initial: initial trainable tensors, made once for all institutions.

    Raises:
        RunFailedError: if fewer than ``server.min_clients`` take part, or answer in a round.
        ConfigError: if there is a checkpoint and the algorithm cannot go on from it.
        StorageError: if the checkpoint is of another model.
    """
    enrolled, state = begin(job, grid, initial)
    settings = job.settings
    # A round whose masked sum could not be opened is done again
    while state.server_round - state.lost_rounds < settings.num_rounds and not ends_early(
        job, state
    ):
        after = _run_round(enrolled, state)
        if after is state:  # nobody put anything into it, since somebody was revoked meanwhile
            continue
        state = after
        commit(enrolled, state)  # before anybody hears of the round
        for observer in job.observers:
            observer.round_done(state)
    return conclude(enrolled, state)


def begin(job: Job, grid: Grid, initial: Tensors) -> tuple[Enrolled, RunState]:
    """Enrol institutions, tell observers who takes part, and make the beginning durable."""
    shapes = shapes_of(initial)
    state = job.first_state(initial)  # before anybody is asked: it may not fit the checkpoint
    # Written once: institutions compare plans, and key noise, by this very text.
    plan = job.plan.to_json()
    clients = enrol(
        grid,
        plan,
        least=job.settings.min_clients,
        timeout=job.settings.enrol_timeout_s,
        reach=job.reach,
        without=job.without,
    )
    if job.checkpoint is not None:
        before = job.checkpoint.clients
        expected = {name: n for name, n in before.items() if name not in job.without}
        if clients.roster is not None:
            clients.know(expected)  # each still answers for its number, whenever it is asked
        check_same_clients(expected, clients.num_examples)
        # What an institution told the earlier process must still stand in its ledger.
        clients.ledger_heads.update(job.checkpoint.ledger_heads)
    if is_masked(job):
        check_adverts(clients)
    if job.absent_fn is not None:
        job.absent_fn(clients.absent)
    for observer in job.observers:
        # Of a population that is not listed nobody takes part before being asked
        observer.started({} if clients.roster is not None else clients.num_examples)
        if state.server_round:
            observer.resumed(state)
    log.info(
        "Job %s: %d rounds, %d institutions.",
        job.plan.job,
        job.settings.num_rounds,
        len(clients.everybody),
    )
    enrolled = Enrolled(job=job, grid=grid, clients=clients, shapes=shapes, plan=plan)
    commit(enrolled, state)  # of a new run: who took part when it began
    return enrolled, state


def ends_early(job: Job, state: RunState) -> bool:
    """Tell whether patience has run out, or the algorithm has nothing left to do."""
    patience, algorithm = job.settings.patience, job.algorithm
    if isinstance(algorithm, Finishing) and algorithm.is_finished(state.strategy_state):
        return True
    return patience is not None and state.stale_rounds >= patience


def _run_round(enrolled: Enrolled, state: RunState) -> RunState:
    job, server_round = enrolled.job, state.server_round + 1
    let_go(enrolled, state.server_round, least=job.settings.min_clients)
    # Whose vectors an earlier process received
    if state.sum is not None and state.sum.kind == "train":
        return opened_round(enrolled, state, state.sum)
    started = time.perf_counter()
    drawn = select(enrolled, state)
    if not drawn and varies(job):
        return without_clients(enrolled, state, started, {})
    declined = enrolled.admit(drawn)
    cohort = [name for name in drawn if name not in declined]
    if is_masked(job):
        cohort = sorted(cohort)
    if not cohort and varies(job):
        return without_clients(enrolled, state, started, declined)
    if not cohort:
        least = job.settings.min_clients
        too_few(f"round {server_round}", got=0, least=least, missing=declined)
    # Encoded once for all: tensors are most of what a message costs.
    tensors = job.algorithm.request(state.params, state.strategy_state)
    arrays = enrolled.encode(tensors, server_round)
    question = train_question(enrolled, cohort, server_round, arrays)
    under_way = begin_round(enrolled, state, cohort)
    intake = Intake(
        server_round=server_round,
        ask_fn=lambda asked: enrolled.ask("train", asked or question),
        under_way=under_way,
        declared=enrolled.clients.num_examples,
        shapes=enrolled.reply_shapes,
        travel=enrolled.upload,
        max_value=job.settings.max_update_value,
        timeout_s=job.settings.round_timeout_s,
        question=question,
        wanted=job.algorithm.wanted if isinstance(job.algorithm, Closing) else None,
        clock=job.reach.clock,
    )
    each = enrolled.download.num_bytes(shapes_of(tensors))
    sent = Sent(asked=cohort, started=started, num_bytes=each * len(cohort))
    if is_masked(job):
        asking = Asking(
            kind="train",
            server_round=server_round,
            cohort=cohort,
            tensors=tensors,
            arrays=arrays,
            shapes=enrolled.reply_shapes,
            splits=("validation",),
        )
        return masked_round(enrolled, state, asking, intake, sent)
    tally = job.reach.collect_fn(intake)
    tally.refused |= declined
    if job.plan.sums is not None:
        validated_openly(job.plan, tally)
    return finish_round(enrolled, state, under_way, tally, sent)


def conclude(enrolled: Enrolled, state: RunState) -> Outcome:
    """Validate the last tensors, then score the kept ones on the test records, once."""
    job, last = enrolled.job, state.server_round
    let_go(enrolled, last, least=1)  # of a model that is done nobody more is needed
    stopped_early = ends_early(job, state)  # before the last tensors are scored
    if job.conclude_fn is not None:
        job.conclude_fn()
    # Test records are scored once, and by the model that is kept: nothing is chosen by them, and
    # noisy scores of a second model would be one release more than the plan declares.
    keeps_last = job.settings.keep == "last"
    of_the_end = ("test",) if job.predecessor is None else ("test", OLD)
    splits = ("validation", *of_the_end) if keeps_last else ("validation",)
    if ALGORITHMS[job.plan.objective.kind].personal == "beside":
        splits = (*splits, PERSONAL)
    names = scorers(enrolled)
    scored, state = _scored(enrolled, state, state.params, splits, names)
    validation = of_split(scored, "validation")
    state = update_best(state, last, validation, metric=job.plan.task.primary_metric)
    kept, kept_round = _kept(job.settings, state)
    tested = scored
    if not keeps_last:
        tested, state = _scored(enrolled, state, kept, of_the_end, names)
    test = of_split(tested, "test")
    before, beside = None, dict[str, Reply]()
    if job.predecessor is not None:
        # In another order than above: a masked sum that goes on is known by its splits
        beside, state = _scored(enrolled, state, job.predecessor, (OLD, "test"), names)
        before = predecessor_of(job.predecessor, beside)
    for observer in job.observers:
        observer.evaluated("validation", last, validation)
        observer.evaluated("test", kept_round, test)
    if kept_round != last:  # the round after the kept one was given its tensors, and scored them
        validation = next(
            dict(r.validation) for r in state.history if r.server_round == kept_round + 1
        )
    return Outcome(
        state=state,
        kept=kept,
        kept_round=kept_round,
        clients=dict(enrolled.clients.num_examples),
        num_clients=len(enrolled.clients.everybody),
        num_scorers=len(names),
        lost_sums=state.lost_rounds,
        test=test,
        stopped_early=stopped_early,
        reproducible=enrolled.clients.reproducible,
        validation=validation,
        personal=of_split(scored, PERSONAL),
        epsilon=epsilon_of(scored) | epsilon_of(tested) | epsilon_of(beside),
        with_peers=with_peers_of(scored) | with_peers_of(tested) | with_peers_of(beside),
        old=of_split(tested, OLD),
        predecessor=before,
        # An earlier round's validation records were scored without a tally.
        tallies={
            **{split: tallies_of(tested, split) for split in of_the_end},
            "validation": tallies_of(scored, "validation") if kept_round == last else {},
        },
    )


def _scored(
    enrolled: Enrolled,
    state: RunState,
    params: Tensors,
    splits: tuple[str, ...],
    names: Sequence[str],
) -> tuple[dict[str, Reply], RunState]:
    """Have institutions score tensors, each by itself or all together."""
    if is_masked(enrolled.job):
        return masked_scores(enrolled, state, params, splits, names=names)
    scored = evaluate(enrolled, params, splits, names=names)
    if enrolled.job.plan.sums is not None:
        scored = openly(enrolled.job.plan, scored, splits)
    return scored, state


def _kept(settings: ServerConfig, state: RunState) -> tuple[Tensors, int]:
    """Return the tensors that the run keeps, ``server.keep``, and the round they are of."""
    if settings.keep == "best" and state.best is not None:
        return state.best.params, state.best.server_round
    if settings.keep == "best":
        log.warning("server.keep=best: no validation score was told, so the last model is kept.")
    return state.params, state.server_round


__all__ = [
    "begin",
    "conclude",
    "ends_early",
    "run_rounds",
]
