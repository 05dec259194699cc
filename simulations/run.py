"""A whole simulation: records, federation, baselines, and what it leaves in RUN."""

import contextlib
import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from confide.client.ledger.ledger import RoundsSpent
from confide.client.records.custom import check_custom_records
from confide.client.records.encoded import InstitutionData, encode_institution
from confide.client.schedule import make_schedule
from confide.client.training.custom_checks import check_custom_encoding
from confide.client.training.trainer import Trainer
from confide.config.run import Config
from confide.errors import ConfideError, ConfigError, DataError, StorageError, UnreadableError
from confide.models.backbones import pretrained_hash
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model
from confide.models.workload import Workload, build_workload
from confide.privacy.keys import initial_seed, seeded_secret, split_key
from confide.privacy.randomness import derive_key
from confide.protocol.messages import Evaluation
from confide.protocol.plan import TrainingPlan, make_plan
from confide.protocol.tensors import Tensors
from confide.server.progress.view import ProgressView
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.outcome import Observer, Outcome
from confide.server.run.metrics_log import MetricsSink
from confide.server.run.outputs import Stopwatch, save_models, versions
from confide.server.run.summary import InstitutionResult, RunResult, summarise, summarise_failure
from confide.server.run_folder import CHECKPOINTS, PLAN, STATES, SUMMARY, claimed
from confide.server.trackers.build import tracked
from confide.server.trackers.tracker import Tracker
from confide.simulations.baselines.baselines import Alone, Baselines, Comparison, score_pooled
from confide.simulations.baselines.cache import BaselineCache, Circumstances
from confide.simulations.engines.engine import Engine, InlineEngine, ProcessEngine, default_workers
from confide.simulations.engines.shared_memory import SharedRecords
from confide.simulations.faults import Faults
from confide.simulations.federation import Federation, Job
from confide.simulations.institutions import Setup, simulated_states
from confide.simulations.ledgers import job_name, ledger_folder
from confide.simulations.population import partition_records, refuse_split_groups
from confide.simulations.released_rounds import ReleasedRounds
from confide.storage.files import write_json, write_text
from confide.strategies.build import build_strategy
from confide.strategies.objectives import keeps_state
from confide.strategies.strategy import FederatedAlgorithm

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What is random in a simulation.

    Attributes:
        layout: decides partition, splits, initial tensors and selection; a run that goes on needs
            the same.
        noise: decides noise and sampling masks; without a seed it is drawn anew by each process and
            never written.
    """

    layout: bytes
    noise: bytes


def simulate(
    config: Config, run_dir: Path, *, progress: ProgressView, resume: bool = False
) -> dict[str, Any]:
    """Run a federation on this machine, or go on with one that was stopped.

    Args:
        config: the checked config.
        run_dir: RUN, made if need be.
        progress: shown to whoever watches.
        resume: whether RUN holds a run, with the same config, that is to go on.

    Returns:
        The summary, as in ``RUN/summary.json``.

    Raises:
        ConfideError: if the records, the backbone or the privacy asked for do not allow it, too few
            institutions answer, or RUN cannot be written or belongs to another run.
    """
    with claimed(run_dir, config, resume=resume):
        return carry_out(config, run_dir, progress=progress)


def carry_out(config: Config, run_dir: Path, *, progress: ProgressView) -> dict[str, Any]:
    """Run in a folder that this process holds already, from its last checkpoint if it has one.

    See :func:`simulate`.
    """
    simulation = _Simulation(config, run_dir, progress)
    with tracked(config, run_dir, job=simulation.job) as tracker:
        try:
            summary = simulation.run(tracker)
        except ConfideError as error:
            with contextlib.suppress(StorageError):  # that of a full disk comes first
                reached = simulation.store.latest()
                failure = summarise_failure(
                    simulation.job, error, reached.state if reached else None
                )
                write_json(run_dir / SUMMARY, failure)
                tracker.finish(failure)
            raise
        write_json(run_dir / SUMMARY, summary)
        tracker.finish(summary)
    return summary


class _Simulation:
    """One process's part of a run.

    Args:
        config: of the run.
        run_dir: RUN.
        progress: shown to whoever watches.
    """

    def __init__(self, config: Config, run_dir: Path, progress: ProgressView) -> None:
        self._config, self._run_dir, self._progress = config, run_dir, progress
        self.store = CheckpointStore(run_dir / CHECKPOINTS, kept=config.server.checkpoints)
        self._checkpoint = self.store.latest()
        self._extra_before: Mapping[str, Any] = self._checkpoint.extra if self._checkpoint else {}
        before = self._extra_before
        self._resumed: list[int] = [*before.get("resumed", [])]
        if self._checkpoint:
            self._resumed.append(self._checkpoint.state.server_round)
        self._records: dict[str, str] = {}
        self._states = functools.partial(
            simulated_states, run_dir / STATES, config.server.checkpoints + 1
        )
        self._watch = Stopwatch(before.get("seconds", {}))
        self.job = str(before.get("job") or job_name(config))
        self._ledgers = ledger_folder(config)
        self._reproducible = noise_repeats(config)
        self._secrets = simulation_secrets(
            config.simulation.seed, layout=before.get("secret"), reproducible=self._reproducible
        )
        # With a seed a round that is run again gives the same noise on the same input, which costs
        # nothing more; a ledger that outlives the process knows by itself.
        counted = config.privacy.unit != "none" and not self._reproducible and self._ledgers is None
        self._released = (
            ReleasedRounds(run_dir / CHECKPOINTS / "released.json") if counted else None
        )

    def run(self, tracker: Tracker) -> dict[str, Any]:
        """Run, save, and return the summary."""
        config = self._config
        algorithm = build_strategy(config.strategy)  # first: its mistakes need no records
        check_custom_records(config.data)
        if self._checkpoint is not None and not algorithm.resumable:
            raise ConfigError(
                "strategy: it hides its state inside its class, as Flower's own do; start this run"
                " anew."
            )
        with self._progress, MetricsSink(self._run_dir / "metrics.jsonl", tracker) as sink:
            with self._watch.phase("prepare"):
                plan, federation = self._prepare()
            with closing(federation.engine):
                with self._watch.phase("federated"):
                    outcome, kept = self._federate(
                        federation, algorithm, plan, [sink, self._progress]
                    )
                with self._watch.phase("baselines"):
                    baselines = self._compare(federation, plan)
        with self._watch.phase("save"):
            pooled = score_pooled(federation, kept)
            save_models(self._run_dir / CHECKPOINTS, outcome)
            digest = save_model(self._run_dir / "model", federation.trainer.workload, kept, plan)
        return summarise(
            self._result(
                federation, plan, outcome, pooled=pooled, baselines=baselines, digest=digest
            )
        )

    def _prepare(self) -> tuple[TrainingPlan, Federation]:
        """Load and deal out records, build the model, open the institutions' doors."""
        config, secret = self._config, self._secrets.layout
        backbone = config.backbone
        digest = pretrained_hash(backbone)
        plan = make_plan(config, backbone_sha256=digest, job=self.job)
        write_text(self._run_dir / PLAN, plan.to_json() + "\n")
        workload = build_workload(
            config.task,
            backbone,
            config.tuning,
            compute=make_compute(config.trainer),
            seed=initial_seed(secret),
            custom_tasks=config.task.custom_tasks,
        )
        population = partition_records(config.data, task=config.task, secret=secret)
        self._check_records(population.parts)
        self._progress.phase("prepare records", total=len(population.parts))
        data, units = {}, {}
        for name, records in population.parts.items():
            key = split_key(secret, name)
            data[name], units[name] = encode_institution(
                name, records, config.data, workload=workload, key=key
            )
            self._progress.advance(f"{name}, {len(records)} records")
        if plan.private:
            check_custom_encoding(workload, max(population.parts.values(), key=len))
        if plan.privacy.unit == "group":
            refuse_split_groups(units, config.data)
        if self._ledgers is not None:
            self._ledgers.know_units(units)
        return plan, replace(self._open(plan, workload, data), source=population.summary)

    def _open(
        self, plan: TrainingPlan, workload: Workload, data: Mapping[str, InstitutionData]
    ) -> Federation:
        config, initial = self._config, trainable_tensors(workload.model)
        trainer = Trainer(workload, private=plan.private, grouped=plan.privacy.unit == "group")
        self._check_states(plan)
        setup = replace(
            self._setup(plan),
            ledgers=self._ledgers,
            faults=self._faults(plan.job, data),
            states=self._states,
        )
        engine: Engine
        if config.simulation.engine == "process":
            records = SharedRecords(data)
            data = {name: records[name] for name in data}
            engine = ProcessEngine(
                records,
                make_trainer=functools.partial(build_trainer, config, plan.private),
                initial=initial,
                setup=setup,
                workers=min(config.simulation.workers or default_workers(), len(data)),
                num_threads=config.trainer.num_threads or 1,
            )
        else:
            engine = InlineEngine(data, trainer=trainer, setup=setup)
        engine.restore_spent(plan.job, self._spent(data))
        return Federation(
            data=data, trainer=trainer, initial=initial, secret=self._secrets.layout, engine=engine
        )

    def _setup(self, plan: TrainingPlan) -> Setup:
        """Return what institutions have in common, in every job of this run."""
        return Setup(
            serves=plan,
            policy=replace(self._config.policy, allow_reproducible_noise=self._reproducible),
            noise_secret=self._secrets.noise,
            reproducible=self._reproducible,
        )

    def _spent(self, data: Mapping[str, InstitutionData]) -> dict[str, RoundsSpent]:
        """Return what institutions have spent.

        What the checkpoint knows, and rounds after it that were released.
        """
        known = {
            name: RoundsSpent(count, tuple(recent))
            for name, (count, recent) in self._extra_before.get("spent", {}).items()
        }
        lost = self._released.after(self._checkpoint) if self._released else 0
        if lost:
            log.warning(
                "%d rounds were released after this checkpoint; each institution is charged for"
                " them.",
                lost,
            )
        return {name: _charged(known.get(name, RoundsSpent()), lost) for name in data}

    def _check_records(self, parts: Mapping[str, Dataset]) -> None:
        """Check that a run goes on with the records it began with."""
        self._records = {name: fingerprint(records) for name, records in parts.items()}
        before = self._extra_before.get("records", self._records)
        changed = [
            name
            for name in sorted(before.keys() | self._records.keys())
            if before.get(name) != self._records.get(name)
        ]
        if changed:
            raise DataError(
                f"The records of {', '.join(changed)} are others than when the run began; bring"
                " them back, or start a new run."
            )

    def _check_states(self, plan: TrainingPlan) -> None:
        """Check that institutions still have what the algorithm kept at them when the checkpoint was written."""
        if self._checkpoint is None or not keeps_state(plan.objective):
            return
        state = self._checkpoint.state
        last = {name: record.server_round for record in state.history for name in record.accepted}
        lost = [
            n
            for n, r in last.items()
            if (self._states(n).version(plan.job, before=state.server_round + 1) or 0) < r
        ]
        if lost:
            raise UnreadableError(
                f"{self._run_dir / STATES} lacks the state of {', '.join(lost)}; start the run"
                " anew."
            )

    def _faults(self, job: str, data: Mapping[str, InstitutionData]) -> Faults | None:
        configs = self._config.simulation.faults
        unknown = sorted(
            {fault.client for fault in configs if fault.client is not None} - data.keys()
        )
        if unknown:
            raise ConfigError(
                f"simulation.faults names {', '.join(unknown)}; the clients are {', '.join(data)}."
            )
        return (
            Faults(tuple(configs), derive_key(self._secrets.layout, "faults"), job)
            if configs
            else None
        )

    def _federate(
        self,
        federation: Federation,
        algorithm: FederatedAlgorithm,
        plan: TrainingPlan,
        observers: Sequence[Observer],
    ) -> tuple[Outcome, Tensors]:
        self._progress.planned(epsilon_budget=plan.privacy.epsilon if plan.private else None)
        self._progress.phase("federated", total=self._config.server.num_rounds)

        def commit(reached: Checkpoint) -> None:
            released = self._released.count(reached.state.server_round) if self._released else 0
            self.store.save(replace(reached, extra=self._extra(federation, plan, released)))
            if self._released:
                self._released.write()

        return federation.run(
            Job(
                algorithm=algorithm,
                plan=plan,
                settings=self._config.server,
                observers=observers,
                commit_fn=commit,
                checkpoint=self._checkpoint,
            )
        )

    def _extra(self, federation: Federation, plan: TrainingPlan, released: int) -> dict[str, Any]:
        """Return what a later process of this run needs beside the server's state."""
        spent = sorted(federation.engine.spent(plan.job).items())
        return {
            "job": self.job,
            "secret": self._secrets.layout.hex() if self._config.simulation.seed is None else None,
            "spent": {name: [one.count, list(one.recent)] for name, one in spent},
            "released": released,
            "records": self._records,
            "resumed": self._resumed,
            "seconds": self._watch.seconds(),
        }

    def _compare(self, federation: Federation, plan: TrainingPlan) -> Baselines:
        setup, declared = self._setup(plan), self._config.policy.public_n
        if declared is not None:  # of each institution
            setup = replace(
                setup, policy=replace(setup.policy, public_n=declared * len(federation.data))
            )
        comparison = Comparison(
            plan=plan,
            settings=self._config.server,
            federation=federation,
            setup=setup,
            progress=self._progress,
            folder=self._run_dir / CHECKPOINTS,
            cache=self._baseline_cache(federation, setup),
        )
        return comparison.train(self._config.baselines)

    def _baseline_cache(self, federation: Federation, setup: Setup) -> BaselineCache | None:
        """Open the cache where baselines repeat exactly, by code that has a version, and no ledger has to hear of them."""
        config, compute = self._config, federation.trainer.workload.compute
        repeats = config.simulation.seed is not None and (
            config.privacy.unit == "none" or self._reproducible
        )
        if (
            not repeats
            or self._ledgers is not None
            or compute.feature_cache is None
            or config.task.custom_tasks
        ):
            return None
        circumstances = Circumstances(
            data=federation.data,
            initial=federation.initial,
            policy=setup.policy,
            secrets=(self._secrets.layout, self._secrets.noise),
            compute=compute,
            threads=self._threads(),
        )
        return BaselineCache(compute.feature_cache, circumstances)

    def _threads(self) -> int:
        """Return the number of torch's threads where institutions train."""
        config = self._config
        return (
            torch.get_num_threads()
            if config.simulation.engine == "inline"
            else config.trainer.num_threads or 1
        )

    def _result(
        self,
        federation: Federation,
        plan: TrainingPlan,
        outcome: Outcome,
        *,
        pooled: Evaluation,
        baselines: Baselines,
        digest: str,
    ) -> RunResult:
        best, config = outcome.state.best, self._config
        return RunResult(
            plan=plan,
            outcome=outcome,
            pooled_test=pooled,
            institutions=_lines(federation, plan, outcome, baselines.alone),
            pooled=baselines.pooled,
            model_sha256=digest,
            kept_round=(
                best.server_round
                if best and config.server.keep == "best"
                else outcome.state.server_round
            ),
            seconds=self._watch.seconds(),
            reproducible=self._reproducible,
            budgets=self._ledgers.totals(federation.data) if self._ledgers else {},
            versions=versions(),
            data=federation.source,
            engine={
                "name": config.simulation.engine,
                "device": str(federation.trainer.workload.compute.device),
                "threads": self._threads(),
            },
            resumed=self._resumed,
        )


def noise_repeats(config: Config) -> bool:
    """Say whether noise follows from the seed.

    Where there is one and the policy allows it, if only for public records.
    """
    allowed = config.policy.allow_reproducible_noise
    return config.simulation.seed is not None and (
        config.data.is_public if allowed is None else allowed
    )


def simulation_secrets(
    seed: int | None, *, layout: str | None = None, reproducible: bool = True
) -> Secrets:
    """Return what everything random in a simulation derives from.

    Args:
        seed: None for one drawn from the operating system.
        layout: of an earlier process of the same run, in hexadecimal; without a seed it cannot be
            derived again.
        reproducible: whether noise may follow from the seed.
    """
    if seed is None:
        return Secrets(
            layout=os.urandom(32) if layout is None else bytes.fromhex(layout), noise=os.urandom(32)
        )
    secret = seeded_secret(seed)
    return Secrets(layout=secret, noise=secret if reproducible else os.urandom(32))


def build_trainer(config: Config, private: bool, worker: int) -> Trainer:
    """Build a worker's trainer; what its tensors start from does not matter, every round loads the global ones."""
    compute = make_compute(config.trainer, worker=worker)
    own = config.task.custom_tasks
    workload = build_workload(
        config.task, config.backbone, config.tuning, compute=compute, seed=0, custom_tasks=own
    )
    return Trainer(workload, private=private, grouped=config.privacy.unit == "group")


def fingerprint(records: Dataset) -> str:
    """Hash records, in their order."""
    digest = hashlib.sha256()
    for name in sorted(records.column_names):
        digest.update(repr((name, records[name][:])).encode())
    return digest.hexdigest()


def _charged(spent: RoundsSpent, rounds: int) -> RoundsSpent:
    for number in range(rounds):
        spent = spent.plus(f"released/{spent.count}/{number}")
    return spent


def _spent_unheard(
    federation: Federation, plan: TrainingPlan, outcome: Outcome
) -> dict[str, float]:
    """Work out the epsilon of institutions that trained in rounds whose answer never came, which no reply tells."""
    if not plan.private:
        return {}
    heard = Counter(name for record in outcome.state.history for name in record.epsilon)
    spent = federation.engine.spent(plan.job)
    unheard = {name: one.count for name, one in spent.items() if one.count > heard[name]}
    told = {}
    for name, count in unheard.items():
        n = outcome.clients.get(name, federation.data[name].num_units(plan.privacy.unit))
        schedule = make_schedule(plan, num_examples=n)
        told[name] = schedule.epsilon_after(
            count, delta=plan.privacy.delta, accountant=plan.privacy.accountant
        )
    return told


def _lines(
    federation: Federation, plan: TrainingPlan, outcome: Outcome, baselines: Alone
) -> dict[str, InstitutionResult]:
    epsilon = _spent_unheard(federation, plan, outcome)
    labels = federation.trainer.workload.task.labels
    lines = {}
    for name, data in federation.data.items():
        counts = data.label_counts(labels)
        pooled, own = baselines.get(name, (None, None))
        lines[name] = InstitutionResult(
            num_examples=outcome.clients.get(name, len(data.train)),
            records=sum(counts.values()),
            labels=counts,
            test=outcome.test.get(name, {}),
            alone=pooled,
            alone_own=own,
            epsilon=epsilon.get(name),
        )
    return lines


__all__ = [
    "Secrets",
    "build_trainer",
    "carry_out",
    "fingerprint",
    "noise_repeats",
    "simulate",
    "simulation_secrets",
]
