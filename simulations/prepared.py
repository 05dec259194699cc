"""A simulation made ready: its records, its institutions, and the engine that asks them."""

import functools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from flwr.serverapp import Grid

from confide.client.algorithm_state import keeps_state
from confide.client.assembly import make_trainer
from confide.client.records.encoded import InstitutionData
from confide.client.secure_sums.rules import sum_rules
from confide.client.secure_sums.sum_rules import SumRules
from confide.client.training.trainer import Trainer
from confide.config.client import TrainerConfig
from confide.config.run import Config
from confide.config.simulation import POOLED
from confide.config.strategies.aggregators import num_withstood
from confide.config.strategies.strategy import ALGORITHMS, timing_of
from confide.config.tunings.named import check_named
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import derive_key
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.exchange import Reach
from confide.server.rounds.outcome import Outcome
from confide.server.run.measured import over_institutions
from confide.server.run.run import Run
from confide.server.run.summary import Findings
from confide.server.run_folder import CHECKPOINTS, STATES
from confide.simulations.accounts.ledgers import LedgerFolder, ledger_folder
from confide.simulations.accounts.lines import lines
from confide.simulations.accounts.released_rounds import ReleasedRounds
from confide.simulations.accounts.reproducible import noise_repeats, noise_secret
from confide.simulations.accounts.spent import (
    SpentBefore,
    as_json,
    asked_as_json,
    spent_as_json,
    spent_before,
)
from confide.simulations.attacks.attack import Attack, make_attack
from confide.simulations.baselines.baselines import Baselines, Comparison, score_pooled
from confide.simulations.baselines.cache import BaselineCache, Circumstances
from confide.simulations.cluster.launch import check_address
from confide.simulations.engines.engine import ENGINES, EngineParts
from confide.simulations.faults import make_faults
from confide.simulations.federation import Federation
from confide.simulations.institutions import (
    DRAW,
    Setup,
    check_states,
    masked_sums,
    simulated_states,
)
from confide.simulations.populations.build import records_on_demand, source_on_demand
from confide.simulations.populations.on_demand import RecordsOnDemand
from confide.simulations.records import listed_records
from confide.simulations.references import reference_scores
from confide.simulations.virtual.timeline import Timeline, delays_of, timeline_of

_RUN = "hydra.run.dir"
_FEW_SIZES = 64
"""Numbers of training units up to which each institution's epsilon is worked out for each round."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Many institutions on one machine; a :class:`~confide.server.run.run.Carrier`.

    Attributes:
        run: this process's part of the run.
        plan: what is asked of institutions.
        federation: the institutions.
        setup: what they have in common in every job of this run.
        fingerprints: hash of each one's records.
        ledgers: where their ledgers lie; None for memory.
        released: count of released rounds; None where nothing has to be counted.
        attack: what some of them do against the others; None for nothing.
        before: what institutions had spent when this process began.
        timeline: when clients answer; None for at once.
        draw: number of the keys that masks derive from; 0 for the first, or none.
    """

    run: Run
    plan: TrainingPlan
    federation: Federation
    setup: Setup
    fingerprints: Mapping[str, str]
    ledgers: LedgerFolder | None
    released: ReleasedRounds | None
    attack: Attack | None
    before: SpentBefore
    timeline: Timeline | None
    draw: int

    @contextmanager
    def connect(self) -> Iterator[tuple[Grid, Reach]]:
        """Open the engine's grid; baselines have grids of their own, and no virtual time."""
        with self.federation.connect(self.plan.job) as (grid, known):
            reach = replace(known, emulates_sums=self.setup.emulates_sums)
            if self.attack is not None and self.attack.forges:
                reach = replace(reach, collect_fn=self.attack.collect)
            yield grid, self.timeline.reach(reach) if self.timeline else reach

    def extra(self, server_round: int) -> Mapping[str, Any]:
        """Return what institutions have spent, which none of them keeps itself."""
        # From the engine and not from replies: a training that was cut off sent none
        spent, others = self.federation.engine.spent(self.plan.job), self.before.others
        on_demand = self.federation.roster is not None
        return {
            "spent": asked_as_json(spent) if on_demand else spent_as_json(spent),
            "released": self.released.count(server_round) if self.released else 0,
            "records": dict(self.fingerprints),
            **({"spent_others": as_json(others)} if on_demand and others.count else {}),
            **({DRAW: self.draw} if self.draw else {}),
        }

    def committed(self) -> None:
        """Count the round as released, before anybody hears of it."""
        if self.released:
            self.released.write()

    def concluding(self) -> None:
        """Count the last scores as released, before anybody is asked for them."""
        if self.released:
            self.released.score()

    def findings(self, outcome: Outcome) -> Findings:
        """Train the baselines, and score the kept model on all test records together."""
        watch, federation = self.run.watch, self.federation
        with watch.phase("baselines"):
            baselines = self._train_baselines()
        # Where institutions would not tell exact scores, a simulation does not either; nor where
        # nobody holds everybody's records.
        exact = self.setup.policy.metrics_privacy == "exact" and federation.roster is None
        # Nor of tensors that are no model without what stays at institutions
        pooled = exact and ALGORITHMS[self.plan.objective.kind].personal != "within"
        with watch.phase("save"):
            together, how = over_institutions(outcome, self.plan.task.metric_table)
            pooled_test = score_pooled(federation, outcome.kept) if pooled else together
        compute = federation.trainer.workload.compute
        simulation = self.run.config.simulation
        return Findings(
            emulates_sums=self.setup.emulates_sums,
            pooled_test=pooled_test,
            institutions=lines(
                federation, self.plan, outcome, baselines.alone, rules=self._open_rules
            ),
            reproducible=self.setup.reproducible,
            engine={
                "name": simulation.engine,
                "device": str(compute.device),
                "threads": self._threads(),
            },
            data=federation.source,
            budgets=self.ledgers.totals(federation.data) if self.ledgers else {},
            pooled=baselines.pooled,
            measured=None if pooled else how,
            attack=self._attacked(outcome),
            references=(
                reference_scores(federation.trainer.workload.task, federation.data) if exact else {}
            ),
        )

    @property
    def _open_rules(self) -> SumRules | None:
        """Each institution's rules of masked sums, where these are added up in the open."""
        # Nor does an institution with a ledger count on noise that a seed gives away
        setup, nominal = self.setup, self.ledgers is not None and self.setup.reproducible
        return sum_rules(setup.policy.secure) if setup.emulates_sums and not nominal else None

    def _attacked(self, outcome: Outcome) -> dict[str, Any]:
        """Describe the attack; {} for none."""
        if self.attack is None:
            return {}
        trainer, data = self.federation.trainer, self.federation.data
        return {
            "kind": self.attack.config.kind,
            "clients": sorted(self.attack.hostile),
            **self.attack.success(trainer, outcome.kept, data),
        }

    def close(self) -> None:
        """End the engine's processes."""
        self.federation.engine.close()

    def _train_baselines(self) -> Baselines:
        if self.federation.roster is not None:
            log.info("No baselines: they would be trained on the records of all.")
            return Baselines()
        setup, declared = self.setup, self.setup.policy.public_n
        if declared is not None:  # a bound for each institution; the holder of all has more records
            together = declared * len(self.federation.data)
            setup = replace(setup, policy=replace(setup.policy, public_n=together))
        # Baselines are of no institution's speed
        client = replace(self.plan.client, steps_within_s=None)
        comparison = Comparison(
            plan=replace(self.plan, client=client),
            settings=self.run.config.server,
            federation=self.federation,
            setup=setup,
            progress=self.run.progress,
            folder=self.run.run_dir / CHECKPOINTS,
            cache=self._baseline_cache(setup),
        )
        return comparison.train(self.run.config.baselines)

    def _baseline_cache(self, setup: Setup) -> BaselineCache | None:
        """Open the cache where training again would give exactly the same.

        Not where a ledger has to hear of it, nor for custom tasks, whose code may change.
        """
        federation = self.federation
        compute = federation.trainer.workload.compute
        repeats = self.plan.seed is not None and (not self.plan.private or setup.reproducible)
        if not repeats or self.ledgers is not None or self.plan.task.custom_tasks:
            return None
        if compute.feature_cache is None:
            return None
        circumstances = Circumstances(
            data=federation.data,
            initial=federation.initial,
            policy=setup.policy,
            secrets=(self.run.secret, setup.noise_secret),
            by_round=setup.by_round,
            compute=compute,
            threads=self._threads_here(),
        )
        return BaselineCache(compute.feature_cache, circumstances)

    def _threads(self) -> int:
        """Return the number of torch's threads where institutions train."""
        config = self.run.config
        if config.simulation.engine in POOLED:
            return config.trainer.num_threads or 1
        return self._threads_here()

    def _threads_here(self) -> int:
        """Return the number of torch's threads where this process trains and scores."""
        return self.federation.trainer.num_threads or torch.get_num_threads()


def prepare(run: Run, plan: TrainingPlan, workload: Workload) -> Simulation:
    """Load and partition records, open the institutions, and start the engine."""
    config, ledgers = run.config, ledger_folder(run.config)
    # Before records are read, which may take minutes: what is wrong elsewhere is told at once
    timeline = timeline_of(config, plan, run.secret, run.checkpoint)
    if config.simulation.engine == "ray":
        check_address(config.simulation.ray)
    source = source_on_demand(config, plan)
    if source is not None:
        records, fingerprints = records_on_demand(run, plan, workload, source)
        taking_part = records.data
    else:
        records, fingerprints = listed_records(run, plan, workload)
        taking_part = {name: it for name, it in records.data.items() if name not in run.withdrawn}
    # Before anything is trained: a second budget for the same people must not be spent from
    if ledgers is not None:
        ledgers.know_units({name: records.units[name] for name in taking_part})
    states = functools.partial(
        simulated_states, run.run_dir.absolute() / STATES, config.server.checkpoints + 1
    )
    check_states(run, plan, states)
    setup = _setup(config, plan, records.data)
    released = _released(run, plan, setup, ledgers)
    spent = spent_before(
        run.checkpoint,
        None if source else list(taking_part),
        released,
        answers=timing_of(config.strategy).answers_a_step,
        own_models=ALGORITHMS[plan.objective.kind].personal == "beside",
    )
    secret = derive_key(run.secret, "faults")
    faults = make_faults(config.simulation.faults, records.data, secret=secret, job=plan.job)
    attack = _attack(run, plan, taking_part)
    check_named(plan.tuning, records.data)
    trainer, initial = make_trainer(workload, plan), trainable_tensors(workload.model)
    sums = masked_sums(run, plan, setup, taking_part)
    delays = delays_of(config, run.secret) if timeline else None
    parts = EngineParts(
        data=taking_part if attack is None else attack.poisoned(taking_part),
        trainer=trainer,
        make_trainer=functools.partial(build_trainer, plan, config.trainer),
        initial=initial,
        setup=replace(
            setup, ledgers=ledgers, faults=faults, states=states, delays=delays, sums=sums
        ),
        workers=config.simulation.workers,
        num_threads=config.trainer.num_threads,
        ray=config.simulation.ray,
        folders=_written_folders(run, plan, ledgers),
    )
    # Last: it starts processes, which an error from here on would leave behind.
    engine = ENGINES[config.simulation.engine](parts)
    engine.restore_spent(plan.job, spent)
    federation = Federation(
        data=engine.data,
        trainer=trainer,
        initial=initial,
        secret=run.secret,
        engine=engine,
        source=records.source,
    )
    return Simulation(
        run=run,
        plan=plan,
        federation=federation,
        setup=setup,
        fingerprints=fingerprints,
        ledgers=ledgers,
        released=released,
        attack=attack,
        before=spent,
        timeline=timeline,
        draw=sums.draw if sums else 0,
    )


def _released(
    run: Run, plan: TrainingPlan, setup: Setup, ledgers: LedgerFolder | None
) -> ReleasedRounds | None:
    """Return the count of released rounds; None where nothing has to be counted.

    With a seed a round that is run again gives the same noise on the same input, which costs
    nothing more; a ledger that outlives the process knows by itself.
    """
    if not plan.private or setup.reproducible or ledgers is not None:
        return None
    return ReleasedRounds(run.run_dir / CHECKPOINTS / "released.json")


def _attack(
    run: Run, plan: TrainingPlan, taking_part: Mapping[str, InstitutionData]
) -> Attack | None:
    """Return what some institutions do against the others; None for nothing."""
    return make_attack(
        run.config.simulation.attack,
        taking_part,
        secret=derive_key(run.secret, "attack"),
        task=plan.task,
        withstood=num_withstood(getattr(run.config.strategy, "aggregator", None)),
    )


def _written_folders(run: Run, plan: TrainingPlan, ledgers: LedgerFolder | None) -> dict[str, Path]:
    """Return the folders that institutions write to, by the setting that names each."""
    masks = run.config.aggregation.is_simulated_with_masks
    kept = {_RUN: run.run_dir} if masks or keeps_state(plan) else {}
    return {**(ledgers.folders if ledgers else {}), **kept}


def _setup(config: Config, plan: TrainingPlan, data: Mapping[str, InstitutionData]) -> Setup:
    """Return what institutions have in common in every job of a run."""
    reproducible = noise_repeats(config)
    brackets = plan.private and config.policy.public_n is None
    if brackets and not isinstance(data, RecordsOnDemand):
        brackets = len({one.num_units(plan.privacy.unit) for one in data.values()}) > _FEW_SIZES
    return Setup(
        serves=plan,
        policy=replace(config.policy, allow_reproducible_noise=reproducible),
        noise_secret=noise_secret(config.simulation.seed, reproducible=reproducible),
        reproducible=reproducible,
        by_round=reproducible and config.data.is_public,
        brackets=brackets,
        emulates_sums=config.aggregation.simulated == "emulate",
    )


def build_trainer(plan: TrainingPlan, settings: TrainerConfig, worker: int) -> Trainer:
    """Build a worker's trainer.

    Every round loads the global tensors, so what its own start from does not matter.

    Args:
        plan: what will be trained.
        settings: device, precision, batches.
        worker: number of the worker.
    """
    workload = build_workload(
        plan.encoded_task,
        plan.backbone,
        plan.tuning,
        compute=make_compute(settings, worker=worker),
        seed=0,
        custom_tasks=plan.task.custom_tasks,
    )
    return make_trainer(workload, plan)


__all__ = [
    "Simulation",
    "build_trainer",
    "prepare",
]
