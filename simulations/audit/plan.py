"""The audit of a plan: its parts, one after the other."""

from collections.abc import Mapping

from confide.client.assembly import make_trainer
from confide.config.audit import AUDITS
from confide.config.custom import implementation
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload
from confide.protocol.plan import TrainingPlan
from confide.simulations.audit.crafted import craft, stand_still
from confide.simulations.audit.door import Door
from confide.simulations.audit.findings import PartResult
from confide.simulations.audit.situation import (
    MOST_TESTS,
    Mechanism,
    Part,
    Situation,
    Still,
)

# Noise moves adapters away from zero, and gradients grow with them: less than float32 tells
_STILL_DRIFT = 1e-8


def fresh_workload(plan: TrainingPlan, compute: Compute, *, seed: int = 0) -> Workload:
    """Build a plan's workload with a model that nobody else uses."""
    return build_workload(
        plan.encoded_task,
        plan.backbone,
        plan.tuning,
        compute=compute,
        seed=seed,
        custom_tasks=plan.task.custom_tasks,
    )


def make_mechanism(
    plan: TrainingPlan, compute: Compute, *, num_units: int, most: int, seed: int
) -> Mechanism:
    """Open the door of a private plan, and craft the worst case for it.

    Args:
        plan: what is audited.
        compute: where and how.
        num_units: n.
        most: largest number of canaries.
        seed: of the canaries.
    """
    trainer = make_trainer(fresh_workload(plan, compute), plan)
    door = Door(plan, trainer, num_units=num_units)
    crafted = craft(
        fresh_workload(plan, compute),
        clipping_norm=plan.privacy.clipping_norm,
        most=most,
        seed=seed,
    )
    return Mechanism(door=door, once=door.one_step(plan), crafted=crafted)


def make_still(plan: TrainingPlan, compute: Compute, *, num_units: int, seed: int) -> Still:
    """Open the door of a private plan without classes where its updates are noise alone.

    Args:
        plan: what is audited.
        compute: where and how.
        num_units: n.
        seed: of the invented records.

    Raises:
        PrivacyError: if there is no such place.
    """
    start, records = stand_still(fresh_workload(plan, compute), seed=seed)
    other = {name: tensor.clone() for name, tensor in start.items()}
    next(iter(other.values())).view(-1)[0] = _STILL_DRIFT
    trainer = make_trainer(fresh_workload(plan, compute), plan)
    door = Door(plan, trainer, num_units=num_units, drift=_STILL_DRIFT)
    return Still(door=door, start=start, other=other, records=records)


def run_parts(situation: Situation) -> Mapping[str, PartResult]:
    """Run the parts that are asked for, in the order of the table."""
    results = {}
    for name, path in AUDITS.items():
        if name in situation.settings.parts:
            part: Part = implementation(path)
            results[name] = part(situation)
    tests = sum(len(result.findings) for result in results.values())
    if tests > MOST_TESTS:
        raise ValueError(f"{tests} tests share a level for MOST_TESTS={MOST_TESTS}; raise it.")
    return results


__all__ = ["fresh_workload", "make_mechanism", "make_still", "run_parts"]
