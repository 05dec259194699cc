"""Prepares a simulated run: records, institutions, and the engine that asks them."""

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from confide.client.algorithm_state import keeps_state
from confide.client.assembly import make_trainer
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.client import TrainerConfig
from confide.config.run import Config
from confide.config.strategies.aggregators import num_withstood
from confide.config.strategies.strategy import ALGORITHMS, timing_of
from confide.config.tunings.named import check_named
from confide.models.compute import make_compute
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import derive_key
from confide.protocol.plan import TrainingPlan
from confide.server.run.going_on import origin
from confide.server.run.run import Run
from confide.server.run_folder import CHECKPOINTS, STATES
from confide.simulations.accounts.ledgers import LedgerFolder, ledger_folder
from confide.simulations.accounts.released_rounds import ReleasedRounds
from confide.simulations.accounts.reproducible import noise_repeats, noise_secret
from confide.simulations.accounts.spent import (
    SpentBefore,
    spent_before,
)
from confide.simulations.attacks.attack import Attack, make_attack
from confide.simulations.cluster.launch import check_address
from confide.simulations.engines.engine import ENGINES, EngineParts
from confide.simulations.faults import Faults, make_faults
from confide.simulations.federation import Federation
from confide.simulations.institutions import (
    Setup,
    StatesFn,
    check_states,
    masked_sums,
    simulated_states,
)
from confide.simulations.populations.build import records_on_demand, source_on_demand
from confide.simulations.populations.on_demand import RecordsOnDemand
from confide.simulations.prepared import Simulation
from confide.simulations.records import EncodedRecords, listed_records
from confide.simulations.virtual.timeline import delays_of, timeline_of

log = logging.getLogger(__name__)
_RUN = "hydra.run.dir"
_FEW_SIZES = 64
"""Numbers of training units up to which each institution's epsilon is worked out for each round."""


def prepare(run: Run, plan: TrainingPlan, workload: Workload) -> Simulation:
    """Load and partition records, open the institutions, and start the engine."""
    config, ledgers = run.config, ledger_folder(run.config)
    _warn_of_other_splits(run, plan)
    # Before records are read, which may take minutes: what is wrong elsewhere is told at once
    timeline = timeline_of(config, plan, run.secret, run.checkpoint)
    if config.simulation.engine == "ray":
        check_address(config.simulation.ray)
    population = _population(run, plan, workload)
    records, taking_part = population.records, population.taking_part
    # Before anything is trained: a second budget for the same people must not be spent from
    if ledgers is not None:
        ledgers.know_units({name: records.units[name] for name in taking_part})
    states = _states(run, plan)
    setup = _setup(config, plan, records.data)
    released = _released(run, plan, setup, ledgers)
    spent = _spent(run, plan, list(taking_part) if population.is_listed else None, released)
    faults = _faults(run, plan, records.data)
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
        fingerprints=population.fingerprints,
        ledgers=ledgers,
        released=released,
        attack=attack,
        before=spent,
        timeline=timeline,
        draw=sums.draw if sums else 0,
    )


class _Population(NamedTuple):
    """Everybody's records, and of whom they are.

    Attributes:
        records: of all institutions.
        taking_part: records of those who have not left.
        fingerprints: hashes of the records, by institution.
        is_listed: whether all institutions are opened beforehand, or each on demand.
    """

    records: EncodedRecords
    taking_part: Mapping[str, InstitutionData]
    fingerprints: Mapping[str, str]
    is_listed: bool


def _population(run: Run, plan: TrainingPlan, workload: Workload) -> _Population:
    source = source_on_demand(run.config, plan)
    if source is not None:
        records, fingerprints = records_on_demand(run, plan, workload, source)
        return _Population(records, records.data, fingerprints, is_listed=False)
    records, fingerprints = listed_records(run, plan, workload)
    stays = {name: it for name, it in records.data.items() if name not in run.withdrawn}
    return _Population(records, stays, fingerprints, is_listed=True)


def _warn_of_other_splits(run: Run, plan: TrainingPlan) -> None:
    """Say so where records are split anew, so that the earlier model knows some of the test's."""
    earlier = origin(run.config) if plan.compares else None
    if earlier is not None and (earlier.plan.seed != plan.seed or plan.seed is None):
        log.warning(
            "simulation.seed=%s, and %s had %s: institutions are made up and split anew, so that"
            " the model which the run starts from may have been trained on test records. Set the"
            " same.",
            plan.seed,
            run.config.server.start_from,
            earlier.plan.seed,
        )


def _states(run: Run, plan: TrainingPlan) -> StatesFn:
    """Return where institutions keep tensors between rounds; they have what they kept before."""
    kept, most = run.run_dir.absolute() / STATES, run.config.server.checkpoints + 1
    states = functools.partial(simulated_states, kept, most)
    check_states(run, plan, states)
    return states


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


def _spent(
    run: Run, plan: TrainingPlan, names: Sequence[str] | None, released: ReleasedRounds | None
) -> SpentBefore:
    """Return what institutions had spent when this process began."""
    return spent_before(
        run.checkpoint,
        names,
        released,
        answers=timing_of(run.config.strategy).answers_a_step,
        own_models=ALGORITHMS[plan.objective.kind].personal == "beside",
        compares=plan.compares,
    )


def _faults(run: Run, plan: TrainingPlan, data: Mapping[str, InstitutionData]) -> Faults | None:
    """Return what goes wrong with some institutions."""
    secret = derive_key(run.secret, "faults")
    return make_faults(run.config.simulation.faults, data, secret=secret, job=plan.job)


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


__all__ = ["build_trainer", "prepare"]
