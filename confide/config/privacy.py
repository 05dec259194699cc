"""Settings of privacy: what a run asks for, what an institution allows and has."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.config.custom import is_dotted
from confide.config.fields import STRICT, setting
from confide.config.task import METRICS, TASK_KINDS


@dataclass
class PrivacyConfig:
    """The guarantee an institution asks for, for the whole run.

    Neighbouring data sets differ by one unit zeroed out; the number of units is public.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    unit: str = setting(
        "none",
        "What is protected: a record, a group (all records with one data.group_column: a patient's,"
        " an account's), or none.",
        choices=("none", "record", "group"),
    )
    epsilon: float = setting(
        8.0, "Privacy loss bound of one institution for the whole run.", gt=0, le=100
    )
    delta: float = setting(1e-5, "Probability that the bound fails.", ge=1e-12, lt=1)
    clipping_norm: float = setting(1.0, "L2 bound C on one unit's gradient.", ge=1e-6, le=1e6)
    accountant: str = setting("pld", "How epsilon is composed.", choices=("pld", "prv", "rdp"))
    spare_rounds: int = setting(
        0,
        "Rounds beyond num_rounds that the noise is calibrated for (crashes, retries).",
        ge=0,
        le=10_000,
    )
    max_records_per_group: int = setting(
        16, "group: further records of a group are left out of training.", ge=1, le=10_000
    )


@dataclass
class BudgetConfig:
    """What one declared population may spend in its lifetime, over all runs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    id: str | None = setting(
        None,
        "Name of the population: everybody in it carries every event, whoever trained; null: the"
        " institution's name.",
    )
    unit: str = setting(
        "record",
        "Strongest unit that is promised; fixed once declared.",
        choices=("record", "group"),
    )
    epsilon: float | None = setting(
        None, "Lifetime bound; a ledger that outlives the process needs one.", gt=0, le=1000
    )
    delta: float = setting(1e-5, "Lifetime probability that the bound fails.", ge=1e-12, lt=1)


@dataclass
class PolicyConfig:
    """What an institution allows.

    Its own code holds every plan and every reply against it; no plan can loosen it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    required_unit: str = setting(
        "record", "Weakest unit a plan may ask for.", choices=("none", "record", "group")
    )
    max_epsilon: float = setting(8.0, "Largest epsilon that one run may ask for.", gt=0, le=1000)
    max_delta: float = setting(1e-5, "Largest delta of one run.", gt=0, lt=1)
    min_records: int = setting(100, "Fewest units to train on.", ge=1)
    public_n: int | None = setting(
        None,
        "Declared number of training units, at least the true one; null: the true one, which is"
        " then public.",
        ge=1,
    )
    tasks: list[str] = setting(
        lambda: list(TASK_KINDS),
        "Kinds of task, and dotted paths of tasks of one's own, which are imported here if a plan"
        " names them; any: in a simulation, whatever its own config names.",
    )
    backbones: list[str] = setting(
        lambda: ["logistic", "mlp"],
        "Kinds without weights, and content hashes (SHA-256) of pretrained ones; any: whatever the"
        " institution has.",
    )
    max_rounds: int = setting(
        1000, "Most rounds of one run, spare ones included.", ge=1, le=1_000_000
    )
    max_epochs: float = setting(
        100.0, "Most passes over the records in one round.", gt=0, le=10_000
    )
    max_update_mb: float = setting(256.0, "Largest update, in MiB.", gt=0)
    max_update_norm: float = setting(1e6, "Largest L2 norm of an update.", gt=0)
    metrics: list[str] = setting(
        lambda: list(METRICS), "Metrics on validation and test records that may leave, unprotected."
    )
    min_support: int = setting(20, "Metrics on fewer records stay.", ge=1)
    max_evaluations: int = setting(
        4,
        "Deployed: different models that one run may have scored beside its rounds; each exact"
        " score tells of labels.",
        ge=0,
    )
    approval: str = setting(
        "automatic",
        "manual: a run begins once its plan was approved here.",
        choices=("automatic", "manual"),
    )
    hours: str | None = setting(
        None, "When a round may begin, local time, as 20:00-06:00; null: always."
    )
    allow_download: bool = setting(False, "Whether a backbone may be downloaded.")
    allow_reproducible_noise: bool | None = setting(
        False,
        "Whether noise may derive from a simulation's seed: whoever knows it can remove the noise."
        " null: for public records.",
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        for name in self.metrics:
            if name not in METRICS:
                yield f"metrics={name}: expected only {', '.join(METRICS)}."
        for kind in self.tasks:
            if kind not in (*TASK_KINDS, "any") and not is_dotted(kind):
                yield (
                    f"tasks={kind}: expected only {', '.join(TASK_KINDS)}, any, or the dotted path"
                    " of a task."
                )
        if self.hours is not None and not re.fullmatch(
            r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", self.hours
        ):
            yield f"hours={self.hours}: expected HH:MM-HH:MM."
        if self.budget.unit == "record" and self.required_unit == "group":
            yield (
                "required_unit=group, budget.unit=record: the budget's unit is the strongest; set"
                " budget.unit=group."
            )
