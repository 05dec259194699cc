"""What every part of an audit is given."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from confide.config.audit import AuditConfig
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.simulations.audit.crafted import Crafted
from confide.simulations.audit.door import Door
from confide.simulations.audit.findings import PartResult
from confide.tasks.task import Examples

_NUDGE = 1.0

MOST_TESTS = 16
"""Largest number of tests in one audit, which share the rate of false alarms."""


@dataclass(frozen=True, kw_only=True)
class Still:
    """A private plan, and a place where updates are noise alone.

    Attributes:
        door: the plan's own schedule.
        start: tensors under which no record has a gradient.
        other: tensors that differ a little.
        records: invented ones.
    """

    door: Door
    start: Tensors
    other: Tensors
    records: Examples


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """A private plan and the worst case for it.

    Attributes:
        door: the plan's own schedule.
        once: the same promise in one step on all units.
        crafted: tensors and canaries.
    """

    door: Door
    once: Door
    crafted: Crafted

    @property
    def still(self) -> Still:
        """Where its companions have no gradient."""
        crafted = self.crafted
        other = {name: tensor.clone() for name, tensor in crafted.start.items()}
        other[crafted.weight.removesuffix("weight") + "bias"][0] += _NUDGE
        return Still(door=self.door, start=crafted.start, other=other, records=crafted.companions)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A run's model and the public records that it was trained on.

    Attributes:
        start: tensors that training started from.
        final: tensors of the run's model.
        members: training records of all institutions.
        others: validation and test records of all institutions.
    """

    start: Tensors
    final: Tensors
    members: Examples
    others: Examples


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Records among which an inverted update is looked up.

    Attributes:
        examples: c encoded records.
        texts: each in words.
        is_real: whether they are the run's public records; otherwise they are invented.
    """

    examples: Examples
    texts: Sequence[str]
    is_real: bool


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything an audit knows.

    Attributes:
        plan: what is audited.
        settings: of the audit.
        workload: a copy of the model without hooks.
        num_units: n, the declared number of units of the audited institution.
        mechanism: None where the plan is not private, or predicts no classes.
        trained: None where there is no model, or no records to compare it on.
        candidates: records to look an inverted update up in.
        watch: passes trials on, and shows how far they have come: (title, trials) -> trials.
        still: where noise is measured; None where the plan is not private, or it is not asked for.
    """

    plan: TrainingPlan
    settings: AuditConfig
    workload: Workload
    num_units: int
    mechanism: Mechanism | None
    trained: Trained | None
    candidates: Candidates
    watch: Callable[[str, Sequence[int]], Iterator[int]]
    still: Still | None = None

    @property
    def untested(self) -> str:
        """Why there are no crafted canaries, where there are none."""
        return WITHOUT_CLASSES if self.plan.private else WITHOUT_PRIVACY

    @property
    def level(self) -> float:
        """Probability that one test calls a sound run faulty."""
        return self.settings.alarm_rate / MOST_TESTS

    @property
    def doubt(self) -> float:
        """Probability that one printed bound is wrong."""
        return 1 - self.settings.confidence


Part = Callable[[Situation], PartResult]
"""One part of an audit."""

WITHOUT_CLASSES = (
    "Canaries are crafted of two classes, and this plan predicts none: what one record adds was not"
    " measured."
)
WITHOUT_PRIVACY = "privacy.unit=none: there is no claim to test."


def words(values: Mapping[str, object]) -> str:
    """Write a record in words."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def rounded(values: Tensor) -> list[float]:
    """Return numbers for a file, with four digits."""
    return [float(f"{value:.4g}") for value in values.tolist()]


__all__ = [
    "MOST_TESTS",
    "WITHOUT_CLASSES",
    "WITHOUT_PRIVACY",
    "Candidates",
    "Mechanism",
    "Part",
    "Situation",
    "Still",
    "Trained",
    "rounded",
    "words",
]
