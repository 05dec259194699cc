"""The process that runs a deployment's rounds: it submits a run to SuperLink and takes it itself.

Flower would start a SuperExec, which starts a process for each run, which unpacks the bundle. Here
one process does it all with the code that is installed. Killed at any instant, it is started again
and goes on from the last checkpoint as a new run of Flower's, under the same job: institutions know
the job alone.
"""

import argparse
import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from confide.config.composing.compose import compose
from confide.config.composing.folders import searching
from confide.config.run import Config
from confide.config.tunings.named import check_named
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
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload
from confide.protocol.codecs.travel import PLAIN, travel_of, update_bytes
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import shapes_of
from confide.security.ec_keys import read_private_key
from confide.security.ledger_heads import countersign
from confide.server.deployment.audited import RunAudit, open_audit_log
from confide.server.deployment.gone import Gone, withdraw_revoked
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.deployment.watched import watched
from confide.server.progress.make import make_progress
from confide.server.report.write import write_report_or_warn, write_statistics
from confide.server.rounds.exchange import AskAgain, Reach
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.participants import CountersignFn
from confide.server.run.carrier import PrepareFn
from confide.server.run.measured import over_institutions
from confide.server.run.run import Run, carry_out, open_run
from confide.server.run.summary import Findings, InstitutionResult
from confide.server.run_folder import CHECKPOINTS, LOG, command_of, kept_own_files
from confide.server.statistics.gather import gather
from confide.server.statistics.told import show_statistics
from confide.storage.files import locked, write_text
from confide.strategies.parts import build_algorithm
from confide.terminal import plain

log = logging.getLogger(__name__)

EXIT_AGAIN = 75
"""SuperLink gave the run up or does not answer: started again, the run goes on from its
checkpoint."""
_MIB = 2**20
_TAKE_S = 60.0
_ORPHAN_S = 15.0
"""An earlier process that lost its supervisor ends within this time."""
_PATIENCE_S = 120.0
"""How long SuperLink may be silent."""


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
            print(plain(f"confide server: {error}"), file=sys.stderr)
            return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    return 0


def log_to_file(run_dir: Path) -> None:
    """Write what happens to RUN/confide.log; the terminal is for progress."""
    log_to_stderr()
    handler = logging.FileHandler(run_dir / LOG, encoding="utf-8")
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
    # Relative paths of the overrides begin where the run was started, and not at the supervisor.
    os.chdir(command.cwd)
    with searching(kept_own_files(run_dir)):
        config = compose(command.overrides)
    if config.server.kit is None:
        raise ConfigError("server.kit=null: name the coordinator's kit.")
    kit = load_coordinator_kit(Path(config.server.kit))
    audit = RunAudit(open_audit_log(kit), kit, run_dir, job=str(config.job))
    for gone in withdraw_revoked(kit, run_dir, least=config.server.min_clients):
        audit.revoked(gone.name, gone.key)

    def prepare(run: Run, plan: TrainingPlan, workload: Workload) -> _Deployment:
        audit.planned(plan)
        check_payload(workload, plan, config.server.max_payload_mb)
        device = str(workload.compute.device)
        gone = Gone(kit, audit.revoked)
        return _Deployment(run=run, kit=kit, superlink=superlink, device=device, gone=gone)

    with audit.told():
        if command.program == "statistics":
            _ask_statistics(config, run_dir, prepare)
            audit.finished(None)
        else:
            _run_rounds(config, run_dir, prepare, audit)


def _run_rounds(config: Config, run_dir: Path, prepare_fn: PrepareFn, audit: RunAudit) -> None:
    """Run all rounds, or those that are left, and show what came of it."""
    progress = make_progress(config.server.progress, config.task.primary_metric)
    try:
        run = open_run(config, run_dir, progress=progress, job_fn=lambda config: str(config.job))
        run = replace(run, observers=[audit], absent_fn=audit.absent)
        summary = carry_out(run, prepare_fn, final=RunFailedError)
    except FlowerError:
        raise  # this process is started again
    except ConfideError as error:
        progress.failed(str(error))
        if isinstance(error, RunFailedError):
            write_report_or_warn(run_dir)
        raise
    audit.finished(str(summary["model_sha256"]))
    write_report_or_warn(run_dir)
    progress.finished(summary, run_dir)


def _ask_statistics(config: Config, run_dir: Path, prepare_fn: PrepareFn) -> None:
    """Ask the institutions for statistics of their columns, and show them."""
    progress = make_progress(config.server.progress, config.task.primary_metric)
    run = open_run(config, run_dir, progress=progress, job_fn=lambda config: str(config.job))
    found = gather(run, prepare_fn)
    write_statistics(run_dir)
    show_statistics(found, run_dir)


@dataclass(frozen=True, kw_only=True)
class _Deployment:
    """Institutions behind SuperLink; a :class:`~confide.server.run.run.Carrier`.

    Attributes:
        run: this process's part of the run.
        kit: the coordinator's.
        superlink: HOST:PORT.
        device: that this process computes on.
        gone: who was revoked since.
    """

    run: Run
    kit: CoordinatorKit
    superlink: str
    device: str
    gone: Gone

    @contextlib.contextmanager
    def connect(self) -> Iterator[tuple[Grid, Reach]]:
        """Submit a run and take it; what an earlier process submitted is ended first."""
        check_named(self.run.config.tuning, self.kit.institutions)
        control = SuperLinkControl(self.superlink, self.kit.inner.ca)
        names = control.register(self.kit.institutions)
        self.gone.known_by(control, names)
        mark = self.run.run_dir / CHECKPOINTS / "flower_run.txt"
        # Institutions would go on training for it. A new run has no such file.
        with contextlib.suppress(OSError, ValueError):
            control.stop_run(int(mark.read_text()))
        # Flower numbers each process's run anew; institutions key what they keep by the job.
        number = control.start_run(self.run.job)
        write_text(mark, f"{number}\n")
        log.info(
            "Job %s is run %d of SuperLink's; institutions: %s.",
            self.run.job,
            number,
            ", ".join(names.values()),
        )
        runtime = Runtime(
            address=self.superlink,
            secret=self.kit.secret,
            ca=self.kit.inner.ca,
            patience_s=_PATIENCE_S,
        )
        with take_run(runtime, timeout_s=_TAKE_S) as grid:
            if grid.run.run_id != number:
                raise FlowerError(
                    f"SuperLink offers run {grid.run.run_id}, not {number}; it was left by another"
                    " job."
                )
            reach = Reach(
                names=names,
                again=AskAgain(names=names, gone_fn=self.gone),
                countersign_fn=countersign_fn(self.kit.heads),
            )
            job, run_dir = self.run.job, self.run.run_dir
            with watched(grid, names, self.kit, job=job, run_dir=run_dir) as seen:
                yield seen, reach

    def extra(self, server_round: int) -> Mapping[str, Any]:
        """Nothing: institutions keep what they spent themselves."""
        return {}

    def committed(self) -> None:
        """Nothing is counted here."""

    def concluding(self) -> None:
        """Nothing is counted here."""

    def findings(self, outcome: Outcome) -> Findings:
        """Average what institutions tell: nobody has their records together."""
        institutions = {
            name: InstitutionResult(num_examples=count, test=outcome.test.get(name, {}))
            for name, count in outcome.clients.items()
        }
        together, how = over_institutions(outcome, self.run.config.task.metric_table)
        return Findings(
            pooled_test=together,
            institutions=institutions,
            reproducible=bool(outcome.reproducible),
            engine={"name": "deployment", "device": self.device},
            measured=how,
        )

    def close(self) -> None:
        """Nothing was started."""


def countersign_fn(path: Path) -> CountersignFn | None:
    """Return what countersigns heads of ledgers; None where the kit has no key for it.

    Raises:
        UnreadableError: if the file holds no key.
    """
    if not path.is_file():
        log.warning(
            "%s is not there, so that heads of ledgers are not countersigned; run `confide"
            " provision` again, and send each institution its heads.pub.",
            path,
        )
        return None
    return functools.partial(countersign, key=read_private_key(path))


def check_payload(workload: Workload, plan: TrainingPlan, most_mib: float) -> None:
    """Check that SuperLink can carry the model, and what institutions send back.

    Raises:
        ConfigError: if either has more MiB than ``most_mib``.
    """
    model = shapes_of(trainable_tensors(workload.model))
    reply = build_algorithm(plan.objective).reply_shapes(model)
    up, down = travel_of(plan.upload).num_bytes(reply), travel_of(plan.download).num_bytes(model)
    if plan.sums is not None:
        up = update_bytes(reply, plan.sums)
    # The kept model is scored as it is
    size = max(up, down, PLAIN.num_bytes(model)) / _MIB
    if size > most_mib:
        raise ConfigError(
            f"An update of this model has {size:.0f} MiB, server.max_payload_mb={most_mib:g}:"
            " Flower's SuperLink on SQLite fails beyond that. Choose tuning=lora, a smaller"
            " backbone, or raise it after a trial."
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
