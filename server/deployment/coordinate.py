"""The process that runs a federation's rounds.

It submits a run to SuperLink, takes it itself, and leaves RUN.

Flower would start a SuperExec, which starts a process for each run, which unpacks the bundle. Here
one process does it all with the code that is installed. Killed at any instant, it is started again
and goes on from the last checkpoint as a new run of Flower's, under the same job: institutions know
the job alone.
"""

import argparse
import contextlib
import logging
import os
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict

from confide.config.compose import compose
from confide.config.run import Config
from confide.deployment.lifetime import end_with_parent, stop_signals
from confide.deployment.logs import OneLine, log_to_stderr
from confide.errors import (
    EXIT_FAILED,
    EXIT_USAGE,
    ConfideError,
    ConfigError,
    FlowerError,
    RunFailedError,
)
from confide.flower.grid import take_run
from confide.flower.processes import SuperLinkControl
from confide.flower.runtime import Runtime
from confide.models.backbones import pretrained_hash
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import Workload, build_workload
from confide.privacy.keys import initial_seed, seeded_secret, server_secret
from confide.protocol.plan import TrainingPlan, make_plan
from confide.protocol.tensors import num_bytes
from confide.server.app import make_server_app
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.progress.make import make_progress
from confide.server.progress.view import ProgressView
from confide.server.report.write import write_report_or_warn
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.exchange import AskAgain, Reach
from confide.server.rounds.loop import RoundLoop
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import mean_metrics
from confide.server.run.metrics_log import MetricsSink
from confide.server.run.outputs import Stopwatch, save_models, versions
from confide.server.run.summary import InstitutionResult, RunResult, summarise, summarise_failure
from confide.server.run_folder import CHECKPOINTS, PLAN, SUMMARY, command_of
from confide.server.trackers.build import tracked
from confide.server.trackers.tracker import Tracker
from confide.storage.files import locked, write_json, write_text
from confide.strategies.build import build_strategy

log = logging.getLogger(__name__)

EXIT_AGAIN = 75
"""SuperLink gave the run up or does not answer: started again, the run goes on from its
checkpoint."""
_MIB = 2**20
_TAKE_S = 60.0
_ORPHAN_S = 15.0


def main(argv: Sequence[str]) -> int:
    """Run the rounds of RUN.

    Returns:
        The exit status: 0 done; 1 the run failed; 2 its config is wrong; 75 to be started again.
    """
    parser = argparse.ArgumentParser(
        prog="python -m confide.server.deployment.coordinate", description=__doc__
    )
    parser.add_argument("run", type=Path, help="RUN, whose command.yaml says what to run")
    parser.add_argument("--superlink", required=True, help="HOST:PORT, on loopback")
    arguments = parser.parse_args(argv)
    log_to_file(arguments.run)
    busy = f"Another process still runs the rounds of {arguments.run}; end it first."
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    with stop_signals() as stop:
        end_with_parent(stop)
        stop_hard(stop)
        try:
            with locked(arguments.run / ".coordinate.lock", otherwise=busy, wait_s=_ORPHAN_S):
                coordinate(arguments.run, arguments.superlink)
        except FlowerError as error:
            log.warning("%s", error)
            return EXIT_AGAIN
        except ConfideError as error:
            log.error("%s", error)
            print(f"confide server: {error}", file=sys.stderr)
            return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    return 0


def log_to_file(run_dir: Path) -> None:
    """Write what happens to RUN/confide.log; the terminal is for progress."""
    log_to_stderr()
    handler = logging.FileHandler(run_dir / "confide.log")
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    shown = logging.StreamHandler()
    shown.setFormatter(OneLine("%(message)s"))
    logging.getLogger("confide.server.rounds").addHandler(shown)  # whom the run waits for, and why


def stop_hard(stop: threading.Event) -> None:
    """End this process as soon as it is told to.

    What is lost is done again from the last checkpoint.
    """

    def wait() -> None:
        stop.wait()
        os._exit(EXIT_AGAIN)

    threading.Thread(target=wait, name="stop", daemon=True).start()


def coordinate(run_dir: Path, superlink: str) -> None:
    """Run all rounds, or those that are left, and save.

    Raises:
        ConfideError: if it ends without a model.
    """
    command = command_of(run_dir)
    os.chdir(command.cwd)
    config = compose(command.overrides)
    if config.server.kit is None:
        raise ConfigError("server.kit=null: name the coordinator's kit.")
    kit = load_coordinator_kit(Path(config.server.kit))
    progress = make_progress(config.server.progress, config.task.primary_metric)
    try:
        summary = _carry_out(_Deployment(config, run_dir, kit, progress), superlink)
    except FlowerError:
        raise  # this process is started again
    except ConfideError as error:
        progress.failed(str(error))
        if isinstance(error, RunFailedError):
            write_report_or_warn(run_dir)
        raise
    write_report_or_warn(run_dir)
    progress.finished(summary, run_dir)


def _carry_out(deployment: "_Deployment", superlink: str) -> dict[str, Any]:
    """Run the rounds and leave a summary, also of a failure."""
    path = deployment.run_dir / SUMMARY
    with tracked(deployment.config, deployment.run_dir, job=deployment.job) as tracker:
        try:
            summary = deployment.run(superlink, tracker)
        except RunFailedError as error:
            reached = deployment.store.latest()
            failure = summarise_failure(deployment.job, error, reached.state if reached else None)
            write_json(path, failure)
            tracker.finish(failure)
            raise
        write_json(path, summary)
        tracker.finish(summary)
    return summary


class _Deployment:
    """One process's part of a deployed run.

    Args:
        config: of the run; its job has a name.
        run_dir: RUN.
        kit: the coordinator's.
        progress: shown to whoever watches.
    """

    def __init__(
        self, config: Config, run_dir: Path, kit: CoordinatorKit, progress: ProgressView
    ) -> None:
        self.config, self.run_dir, self._kit, self._progress = config, run_dir, kit, progress
        self.job = str(config.job)
        self.store = CheckpointStore(run_dir / CHECKPOINTS, kept=config.server.checkpoints)
        self._checkpoint = self.store.latest()
        before = self._checkpoint.extra if self._checkpoint else {}
        self._watch = Stopwatch(before.get("seconds", {}))
        self._resumed = [*before.get("resumed", [])]
        if self._checkpoint:
            self._resumed.append(self._checkpoint.state.server_round)
        seed = config.simulation.seed
        drawn = bytes.fromhex(before["secret"]) if before.get("secret") else secrets.token_bytes(32)
        self._secret = drawn if seed is None else seeded_secret(seed)

    def run(self, superlink: str, tracker: Tracker) -> dict[str, Any]:
        """Run, save, and return the summary."""
        config = self.config
        algorithm = build_strategy(config.strategy)
        if self._checkpoint is not None and not algorithm.resumable:
            raise ConfigError(
                "strategy: it hides its state inside its class, as Flower's own do; start this run"
                " anew."
            )
        with self._progress, MetricsSink(self.run_dir / "metrics.jsonl", tracker) as sink:
            with self._watch.phase("prepare"):
                plan, workload = self._prepare()
            with self._watch.phase("federated"), self._taken(superlink) as (grid, names):
                self._progress.planned(
                    epsilon_budget=plan.privacy.epsilon if plan.private else None
                )
                self._progress.phase("federated", total=config.server.num_rounds)
                loop = RoundLoop(
                    algorithm,
                    plan=plan,
                    settings=config.server,
                    secret=server_secret(self._secret, plan.job),
                    observers=[sink, self._progress],
                    commit_fn=self._commit,
                    checkpoint=self._checkpoint,
                    reach=Reach(names=names, again=AskAgain(names=names)),
                )
                app = make_server_app(
                    loop,
                    initial=trainable_tensors(workload.model),
                    num_rounds=config.server.num_rounds,
                    timeout_s=config.server.round_timeout_s,
                )
                app(
                    grid,
                    Context(run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={}),
                )
        outcome = loop.outcome
        if outcome is None:
            raise RunFailedError(f"Job {self.job} ended without an outcome.")
        with self._watch.phase("save"):
            save_models(self.run_dir / CHECKPOINTS, outcome)
            digest = save_model(self.run_dir / "model", workload, loop.kept(), plan)
        return summarise(self._result(plan, workload, outcome, digest))

    def _prepare(self) -> tuple[TrainingPlan, Workload]:
        config, backbone = self.config, self.config.backbone
        digest = pretrained_hash(backbone)
        plan = make_plan(config, backbone_sha256=digest, job=self.job)
        write_text(self.run_dir / PLAN, plan.to_json() + "\n")
        compute = make_compute(config.trainer)
        seed, own = initial_seed(self._secret), config.task.custom_tasks
        workload = build_workload(
            config.task, backbone, config.tuning, compute=compute, seed=seed, custom_tasks=own
        )
        size = num_bytes(trainable_tensors(workload.model)) / _MIB
        if size > config.server.max_payload_mb:
            raise ConfigError(
                f"An update of this model has {size:.0f} MiB,"
                f" server.max_payload_mb={config.server.max_payload_mb:g}: Flower's SuperLink on"
                " SQLite fails beyond that. Choose tuning=lora, a smaller backbone, or raise it"
                " after a trial."
            )
        return plan, workload

    @contextlib.contextmanager
    def _taken(self, superlink: str) -> Iterator[tuple[Any, Mapping[int, str]]]:
        """Submit a run and take it; what an earlier process of this run submitted is ended first."""
        control = SuperLinkControl(superlink, self._kit.inner.ca)
        names = control.register(self._kit.institutions)
        mark = self.run_dir / CHECKPOINTS / "flower_run.txt"
        with contextlib.suppress(OSError, ValueError):
            control.stop_run(int(mark.read_text()))
        number = control.start_run(self.job)
        write_text(mark, f"{number}\n")
        log.info(
            "Job %s is run %d of SuperLink's; institutions: %s.",
            self.job,
            number,
            ", ".join(names.values()),
        )
        runtime = Runtime(
            address=superlink, secret=self._kit.secret, ca=self._kit.inner.ca, patience_s=120.0
        )
        with take_run(runtime, timeout_s=_TAKE_S) as grid:
            if grid.run.run_id != number:
                raise FlowerError(
                    f"SuperLink offers run {grid.run.run_id}, not {number}; it was left by another"
                    " job."
                )
            yield grid, names

    def _commit(self, reached: Checkpoint) -> None:
        extra = {
            "job": self.job,
            "secret": self._secret.hex() if self.config.simulation.seed is None else None,
            "resumed": self._resumed,
            "seconds": self._watch.seconds(),
        }
        self.store.save(replace(reached, extra=extra))

    def _result(
        self, plan: TrainingPlan, workload: Workload, outcome: Outcome, digest: str
    ) -> RunResult:
        state, best = outcome.state, outcome.state.best
        lines = {
            name: InstitutionResult(num_examples=n, test=outcome.test.get(name, {}))
            for name, n in outcome.clients.items()
        }
        return RunResult(
            plan=plan,
            outcome=outcome,
            pooled_test=mean_metrics(outcome.test),  # nobody has their records together
            institutions=lines,
            model_sha256=digest,
            kept_round=(
                best.server_round
                if best and self.config.server.keep == "best"
                else state.server_round
            ),
            seconds=self._watch.seconds(),
            reproducible=bool(outcome.reproducible),
            versions=versions(),
            engine={"name": "deployment", "device": str(workload.compute.device)},
            resumed=self._resumed,
            measured="mean over institutions, by support",
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
