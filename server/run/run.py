"""One run, whoever carries its messages.

A simulation and a deployment make the same plan, build the same model, run the same rounds and
leave the same files. They differ in what stands behind the grid, which is a :class:`Carrier`.

A round is made durable before anybody hears of it: a process that is killed at any instant is
started again and goes on from the last checkpoint, to the same weights.
"""

import contextlib
import functools
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from confide.config.custom import unforeseen
from confide.config.run import Config
from confide.errors import ConfideError, ConfigError, StorageError, UnreadableError
from confide.models.backbones import pretrained_hash
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.saved import Description, save_model
from confide.models.workload import Workload, build_workload
from confide.privacy.keys import initial_seed, seeded_secret, server_secret
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.protocol.released_edges import ReleasedEdges
from confide.protocol.releases import release_plan
from confide.protocol.tensors import Tensors
from confide.server.app import run_server_app
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.exchange import Reach
from confide.server.rounds.job import Job
from confide.server.rounds.outcome import Outcome
from confide.server.run.carrier import Carrier, PrepareFn, Run
from confide.server.run.client_privacy import client_statement, warn_of_few, warn_of_trust
from confide.server.run.edges import read_edges, release_edges
from confide.server.run.evaluated import evaluation_of
from confide.server.run.going_on import begin_from, choose, origin, released_plan, with_lineage
from confide.server.run.gram import with_gram
from confide.server.run.heads_log import HeadsLog
from confide.server.run.lineage import lineage_of
from confide.server.run.many import few_named
from confide.server.run.metrics_log import MetricsSink
from confide.server.run.outputs import CpuClock, Stopwatch, save_models, versions
from confide.server.run.progress_view import ProgressView
from confide.server.run.summary import Findings, RunResult, summarise, summarise_failure
from confide.server.run.withdrawal import Withdrawal, remember, withdrawals
from confide.server.run_folder import CHECKPOINTS, EDGES, LEDGER_HEADS, PLAN, SUMMARY
from confide.server.trackers.build import tracked
from confide.server.trackers.tracker import Tracker
from confide.storage.files import write_json, write_text
from confide.strategies.build import build_strategy
from confide.strategies.strategy import FederatedAlgorithm

log = logging.getLogger(__name__)


def open_run(
    config: Config, run_dir: Path, *, progress: ProgressView, job_fn: Callable[[Config], str]
) -> Run:
    """Read what earlier processes of a run left in ``run_dir``, which this process holds.

    A new run is named by ``job_fn``.

    Raises:
        StorageError: if the checkpoints cannot be read.
    """
    store = CheckpointStore(run_dir / CHECKPOINTS, kept=config.server.checkpoints)
    checkpoint = store.latest()
    before: Mapping[str, Any] = checkpoint.extra if checkpoint else {}
    resumed = [*before.get("resumed", [])]
    if checkpoint:
        resumed.append(checkpoint.state.server_round)
    if config.simulation.seed is not None:
        secret = seeded_secret(config.simulation.seed)
    elif before.get("secret"):  # drawn by the process that began the run
        secret = bytes.fromhex(before["secret"])
    else:
        secret = secrets.token_bytes(KEY_BYTES)
    return Run(
        config=config,
        run_dir=run_dir,
        # Kept: institutions key their state and ledger by it.
        job=str(before.get("job") or job_fn(config)),
        secret=secret,
        progress=progress,
        store=store,
        checkpoint=checkpoint,
        watch=Stopwatch(before.get("seconds", {})),
        cpu=CpuClock(before.get("cpu_seconds", {})),
        resumed=resumed,
        withdrawn=withdrawals(run_dir) if checkpoint else {},
    )


def carry_out(
    run: Run, prepare_fn: PrepareFn, *, final: type[ConfideError] = ConfideError
) -> dict[str, Any]:
    """Run all rounds, or those that are left; leave a summary, also of a failure, and return it.

    Args:
        run: from :func:`open_run`.
        prepare_fn: makes ready what will carry its messages.
        final: errors after which the run does not go on, so that they belong in the summary.

    Raises:
        ConfideError: if the run ends without a model.
    """
    path = run.run_dir / SUMMARY
    with tracked(run.config, run.run_dir, job=run.job) as tracker:
        try:
            summary = _foreseen(run, prepare_fn, tracker)
        # Of any other error there is no summary: the run is unfinished, and may be resumed.
        except final as error:
            with contextlib.suppress(StorageError):  # the error of a full disk comes first
                reached = run.store.latest()
                failure = summarise_failure(run.job, error, reached.state if reached else None)
                write_json(path, failure)
                tracker.finish(failure)
            raise
        # The summary is what says that the run is over: a process killed before it goes on here.
        write_json(path, summary)
        tracker.finish(summary)
    return summary


def _foreseen(run: Run, prepare_fn: PrepareFn, tracker: Tracker) -> dict[str, Any]:
    """Run, and turn an exception of other code into one of ours."""
    try:
        return _run(run, prepare_fn, tracker)
    except ConfideError:
        raise
    except Exception as error:
        log.info("What ended the run:", exc_info=error)
        raise unforeseen(error) from error


def _run(run: Run, prepare_fn: PrepareFn, tracker: Tracker) -> dict[str, Any]:
    """Run, save, and return the summary."""
    withdrawn = dict(run.withdrawn)  # and those who leave from now on
    algorithm = build_strategy(run.config.strategy)  # first: its mistakes need no records
    if run.checkpoint is not None and not algorithm.resumable:
        raise ConfigError(
            "strategy: it hides its state inside its class, as Flower's own do; start this run"
            " anew."
        )
    with run.progress, MetricsSink(run.run_dir / "metrics.jsonl", tracker) as sink:
        earlier = origin(run.config)
        with run.watch.phase("edges"):
            edges = _edges(run, prepare_fn, earlier)
        with run.watch.phase("prepare"):
            plan, released = _plan(run, edges, prepare_fn, earlier)
            workload = _workload(run, plan)
            begin_from(workload, plan, run.config, earlier)
            carrier = prepare_fn(run, plan, workload)
        with closing(carrier):
            job = replace(
                _job(run, carrier, algorithm, plan, sink),
                released=released,
                leave_fn=functools.partial(_leave, run.run_dir, withdrawn),
            )
            with run.watch.phase("federated"):
                outcome = _federated(run, job, carrier, trainable_tensors(workload.model))
            choice = choose(outcome, plan, run.config.server)
            outcome = choice.outcome
            # Baselines need what the carrier started, so it is closed after them.
            findings = carrier.findings(outcome)
        if plan.task.subgroups:
            _log_groups(run, plan, outcome, findings, sink)
    with run.watch.phase("save"):
        # The tensors of both rounds for those who look at the run, one model for those who use it.
        save_models(run.run_dir / CHECKPOINTS, outcome)
        own = released_plan(plan, choice, earlier)
        digest = save_model(run.run_dir / "model", workload, outcome.kept, own)
    summary = summarise(
        RunResult(
            plan=plan,
            outcome=outcome,
            findings=findings,
            model_sha256=digest,
            seconds=run.watch.seconds(),
            versions=versions(),
            resumed=run.resumed,
            withdrawn=withdrawn,
            compared=choice.compared,
            insight=workload.insight_fn(outcome.kept) if workload.insight_fn else {},
            report=run.config.report,
            cpu_seconds=run.cpu.seconds(),
            lineage=lineage_of(plan),
            client_privacy=_client_privacy(run, outcome),
        )
    )
    return few_named(summary, run.run_dir)


def _federated(run: Run, job: Job, carrier: Carrier, initial: Tensors) -> Outcome:
    """Run all rounds, or those that are left."""
    plan = job.plan
    with carrier.connect() as (grid, reach):
        run.progress.planned(epsilon_budget=plan.privacy.epsilon if plan.private else None)
        run.progress.phase("federated", total=job.settings.num_rounds)
        warn_of_few(run.config.strategy, _count(grid, reach))
        warn_of_trust(run.config, _count(grid, reach))
        job = replace(job, reach=reach, predecessor=initial if plan.compares else None)
        return run_server_app(job, grid, initial=initial)


def _log_groups(
    run: Run, plan: TrainingPlan, outcome: Outcome, findings: Findings, sink: MetricsSink
) -> None:
    """Write metrics by groups of test records into ``metrics.jsonl``."""
    scores, pooled = findings.pooled_test, findings.measured is None
    told = evaluation_of(plan, outcome, run.config.report, scores, is_pooled=pooled)
    sink.by_group(outcome.kept_round, told.get("subgroups", {}))


def _client_privacy(run: Run, outcome: Outcome) -> dict[str, Any]:
    """Return what the models cost a client as a whole; {} for no such promise."""
    return client_statement(
        run.config.strategy,
        rounds=outcome.state.server_round,
        # A damaged checkpoint sends a process back to an earlier one
        again=len(run.resumed) * run.config.server.checkpoints,
        num_clients=outcome.num_clients,
        reproducible=run.config.simulation.seed is not None,
    )


def _leave(
    run_dir: Path, withdrawn: dict[str, Withdrawal], declared: Mapping[str, int], after: int
) -> None:
    """Remember that institutions leave: name -> declared number of training units."""
    for name, count in declared.items():
        withdrawn[name] = Withdrawal(after_round=after, num_examples=count)
    remember(run_dir, withdrawn)


def _count(grid: Grid, reach: Reach) -> int:
    """Return how many institutions there are to be asked, as far as that is known beforehand."""
    if reach.roster is not None:
        return len(reach.roster)
    return len(reach.names) or len(list(grid.get_node_ids()))


def _edges(run: Run, prepare_fn: PrepareFn, earlier: Description | None) -> ReleasedEdges | None:
    """Return the edges that the run's task needs released; None where it needs none."""
    if not run.config.task.released_columns:
        return None
    if earlier is not None and earlier.plan.edges is not None:
        return earlier.plan.edges  # what its tensors were trained on
    asked = release_plan(make_plan(run.config, backbone_sha256=None, job=run.job))
    kept = run.run_dir / EDGES
    edges = read_edges(kept, asked)
    if run.checkpoint is not None:
        # Its tensors are of one encoding; institutions that keep no ledger would draw another
        trained = run.before.get("edges")
        if edges is None or trained not in (None, edges.sha256):
            raise UnreadableError(
                f"{kept} is gone or holds other edges than the checkpoints were trained on; bring"
                " it back, or start the run anew."
            )
    return edges or release_edges(run, asked, _workload(run, asked), prepare_fn, kept)


def _plan(
    run: Run, edges: ReleasedEdges | None, prepare_fn: PrepareFn, earlier: Description | None
) -> tuple[TrainingPlan, Tensors]:
    """Write what institutions are asked to do; return also what its algorithm has released."""
    config = run.config
    plan = make_plan(config, backbone_sha256=pretrained_hash(config.backbone), job=run.job)
    plan = with_lineage(replace(plan, edges=edges), config, earlier)
    plan, released = with_gram(run, plan, prepare_fn, _workload)
    problems = list(plan.problems())
    if problems:
        raise ConfigError(" ".join(problems))
    return plan, released


def _workload(run: Run, plan: TrainingPlan) -> Workload:
    # Written before anything is trained, so that a run that fails shows what was asked for.
    write_text(run.run_dir / PLAN, plan.to_json() + "\n")
    return build_workload(
        plan.encoded_task,
        plan.backbone,
        plan.tuning,
        compute=make_compute(run.config.trainer),
        seed=initial_seed(run.secret),
        custom_tasks=plan.task.custom_tasks,
    )


def _job(
    run: Run,
    carrier: Carrier,
    algorithm: FederatedAlgorithm,
    plan: TrainingPlan,
    sink: MetricsSink,
) -> Job:
    heads = HeadsLog(run.run_dir / LEDGER_HEADS)

    def commit(reached: Checkpoint) -> None:
        # What the carrier counts is written after the checkpoint, so that a process killed in
        # between has counted nothing that did not happen.
        extra = {**run.extra(), **carrier.extra(reached.state.server_round)}
        if plan.edges is not None:
            extra["edges"] = plan.edges.sha256
        if plan.gram is not None:
            extra["gram"] = plan.gram.sha256
        run.store.save(replace(reached, extra=extra))
        carrier.committed()
        heads.write(reached.state.server_round, reached.ledger_heads)

    return Job(
        algorithm=algorithm,
        plan=plan,
        settings=run.config.server,
        secret=server_secret(run.secret, plan.job),
        observers=[sink, *run.observers, run.progress],
        commit_fn=commit,
        conclude_fn=carrier.concluding,
        absent_fn=run.absent_fn,
        checkpoint=run.checkpoint,
        without=frozenset(run.withdrawn),
        sum_bits=run.config.aggregation.sum_bits,
    )


__all__ = ["Carrier", "PrepareFn", "Run", "carry_out", "open_run"]
