"""One run, whoever carries its messages.

A simulation and a deployment make the same plan, build the same model, run the same rounds and
leave the same files. They differ in what stands behind the grid, which is a :class:`Carrier`.

A round is made durable before anybody hears of it: a process that is killed at any instant is
started again and goes on from the last checkpoint, to the same weights.
"""

import contextlib
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from flwr.serverapp import Grid

from confide.config.run import Config
from confide.errors import ConfideError, ConfigError, StorageError, UnforeseenError
from confide.models.backbones import pretrained_hash
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import Workload, build_workload
from confide.privacy.keys import initial_seed, seeded_secret, server_secret
from confide.privacy.randomness import KEY_BYTES
from confide.protocol.plan import TrainingPlan, make_plan
from confide.server.app import run_server_app
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.exchange import Reach
from confide.server.rounds.job import Job
from confide.server.rounds.outcome import Outcome
from confide.server.run.heads_log import HeadsLog
from confide.server.run.metrics_log import MetricsSink
from confide.server.run.outputs import Stopwatch, save_models, versions
from confide.server.run.progress_view import ProgressView
from confide.server.run.summary import Findings, RunResult, summarise, summarise_failure
from confide.server.run.withdrawal import Withdrawal, withdrawals
from confide.server.run_folder import CHECKPOINTS, LEDGER_HEADS, PLAN, SUMMARY
from confide.server.trackers.build import tracked
from confide.server.trackers.tracker import Tracker
from confide.storage.files import write_json, write_text
from confide.strategies.build import build_strategy
from confide.strategies.strategy import FederatedAlgorithm

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process's part of a run.

    Attributes:
        config: of the run.
        run_dir: RUN.
        job: the run's name.
        secret: 32 bytes that selection, initial tensors and a simulation's layout derive from; a
            process that goes on needs the same.
        progress: shown to whoever watches.
        store: the run's checkpoints.
        checkpoint: where an earlier process left off; None for a new run.
        watch: seconds of each phase, earlier processes' included.
        resumed: rounds after which earlier processes and this one went on.
        withdrawn: those who withdrew: name -> withdrawal.
    """

    config: Config
    run_dir: Path
    job: str
    secret: bytes
    progress: ProgressView
    store: CheckpointStore
    checkpoint: Checkpoint | None
    watch: Stopwatch
    resumed: Sequence[int]
    withdrawn: Mapping[str, Withdrawal] = field(default_factory=dict)

    @property
    def before(self) -> Mapping[str, Any]:
        """What an earlier process kept beside the server's state; empty for a new run."""
        return self.checkpoint.extra if self.checkpoint else {}

    def extra(self) -> dict[str, Any]:
        """Return what a later process needs beside the server's state."""
        # A seed gives the secret again; without one it is nowhere else.
        is_drawn = self.config.simulation.seed is None
        return {
            "job": self.job,
            "secret": self.secret.hex() if is_drawn else None,
            "resumed": list(self.resumed),
            "seconds": self.watch.seconds(),
        }


class Carrier(Protocol):
    """What stands behind the grid of a run: worker processes, a network, this process."""

    def connect(self) -> AbstractContextManager[tuple[Grid, Reach]]:
        """Open the grid for the run's rounds."""

    def extra(self, server_round: int) -> Mapping[str, Any]:
        """Return what a later process needs of the carrier after a round; JSON."""

    def committed(self) -> None:
        """Hear that the last round is durable, before anybody else hears of it."""

    def findings(self, outcome: Outcome) -> Findings:
        """Find out what is known beyond the rounds: scores, baselines, budgets."""

    def close(self) -> None:
        """End what was started."""


PrepareFn = Callable[[Run, TrainingPlan, Workload], Carrier]
"""Makes ready what will carry a run's messages."""


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
        raise UnforeseenError(error) from error


def _run(run: Run, prepare_fn: PrepareFn, tracker: Tracker) -> dict[str, Any]:
    """Run, save, and return the summary."""
    algorithm = build_strategy(run.config.strategy)  # first: its mistakes need no records
    if run.checkpoint is not None and not algorithm.resumable:
        raise ConfigError(
            "strategy: it hides its state inside its class, as Flower's own do; start this run"
            " anew."
        )
    with run.progress, MetricsSink(run.run_dir / "metrics.jsonl", tracker) as sink:
        with run.watch.phase("prepare"):
            plan, workload = _plan_and_workload(run)
            carrier = prepare_fn(run, plan, workload)
        with closing(carrier):
            job = _job(run, carrier, algorithm, plan, sink)
            with run.watch.phase("federated"), carrier.connect() as (grid, reach):
                budget = plan.privacy.epsilon if plan.private else None
                run.progress.planned(epsilon_budget=budget)
                run.progress.phase("federated", total=job.settings.num_rounds)
                initial = trainable_tensors(workload.model)
                outcome = run_server_app(replace(job, reach=reach), grid, initial=initial)
            # Baselines need what the carrier started, so it is closed after them.
            findings = carrier.findings(outcome)
    with run.watch.phase("save"):
        # The tensors of both rounds for those who look at the run, one model for those who use it.
        save_models(run.run_dir / CHECKPOINTS, outcome)
        digest = save_model(run.run_dir / "model", workload, outcome.kept, plan)
    return summarise(
        RunResult(
            plan=plan,
            outcome=outcome,
            findings=findings,
            model_sha256=digest,
            seconds=run.watch.seconds(),
            versions=versions(),
            resumed=run.resumed,
            withdrawn=run.withdrawn,
        )
    )


def _plan_and_workload(run: Run) -> tuple[TrainingPlan, Workload]:
    """Write what institutions are asked to do, and build what it is done with."""
    config = run.config
    plan = make_plan(config, backbone_sha256=pretrained_hash(config.backbone), job=run.job)
    # Written before anything is trained, so that a run that fails shows what was asked for.
    write_text(run.run_dir / PLAN, plan.to_json() + "\n")
    workload = build_workload(
        config.task,
        config.backbone,
        config.tuning,
        compute=make_compute(config.trainer),
        seed=initial_seed(run.secret),
        custom_tasks=config.task.custom_tasks,
    )
    return plan, workload


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
        run.store.save(replace(reached, extra=extra))
        carrier.committed()
        heads.write(reached.state.server_round, reached.ledger_heads)

    return Job(
        algorithm=algorithm,
        plan=plan,
        settings=run.config.server,
        secret=server_secret(run.secret, plan.job),
        observers=[sink, run.progress],
        commit_fn=commit,
        checkpoint=run.checkpoint,
        without=frozenset(run.withdrawn),
    )


__all__ = ["Carrier", "PrepareFn", "Run", "carry_out", "open_run"]
