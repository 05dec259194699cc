"""Settings of privacy: a run's guarantee, an institution's policy and a population's budget."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.config.aggregation import FEWEST_INSTITUTIONS, MOST_INSTITUTIONS
from confide.config.custom import is_dotted
from confide.config.fields import STRICT, setting
from confide.config.models.table import without_weights
from confide.config.tasks.table import TASKS, known_metrics

ACCOUNTANTS: dict[str, str] = {
    "pld": "confide.privacy.accounting.pld_epsilon",
    "prv": "confide.privacy.accounting.prv_epsilon",
    "rdp": "confide.privacy.accounting.rdp_epsilon",
}
"""Name of each accountant -> dotted name of the function that returns the epsilon of a
:class:`~confide.privacy.accounting.Schedule` at a delta; imported when first used."""


@dataclass
class PrivacyConfig:
    """The guarantee of the whole run towards each institution's units.

    Neighbouring data sets differ by one unit zeroed out; the number of units is public.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    unit: str = setting(
        "none",
        "Protected unit: a record, a group (all records with one value of data.group_column, such"
        " as a patient's or an account's), or none.",
        choices=("none", "record", "group"),
    )
    epsilon: float = setting(
        8.0, "Bound on the privacy loss at one institution, for the whole run.", gt=0, le=100
    )
    delta: float = setting(1e-5, "Probability that the bound fails.", ge=1e-12, lt=1)
    clipping_norm: float = setting(1.0, "L2 bound C on one unit's gradient.", ge=1e-3, le=1e6)
    metrics_epsilon: float | None = setting(
        None,
        "Bound on the privacy loss by all noisy scores of validation records together, and by the"
        " one of test records; null: the same as epsilon. A unit is in one split, so that a run"
        " costs it the largest of the three.",
        gt=0,
        le=100,
    )
    metrics_every: int = setting(
        1,
        "Noisy scores of validation records are released in every such round, from the first, and"
        " at the end: fewer hold less noise. 0: at the end only.",
        ge=0,
        le=1_000_000,
    )
    edges_epsilon: float = setting(
        0.3,
        "Part of epsilon that goes to the release of quantiles (task.numeric.edges=released); what"
        " is left for training follows by composition, and is more than the difference.",
        gt=0,
        le=100,
    )
    accountant: str = setting(
        "pld", "Method by which epsilon is composed over steps.", choices=ACCOUNTANTS
    )
    trust: str = setting(
        "alone",
        "Against whom epsilon bounds the privacy loss. alone: anybody; peers: a coordinator that"
        " sees sums alone (aggregation=secure), as long as honest_peers of the institutions in each"
        " of them keep their noise to themselves, each of which then adds less. What it is against"
        " anybody else is told too, and bounded by each institution's policy.max_epsilon.",
        choices=("alone", "peers"),
    )
    honest_peers: int | None = setting(
        None,
        "Institutions of each sum, a record's own among them, whose noise together hides a record"
        " (trust=peers); null: no other's counts.",
        ge=2,
        le=MOST_INSTITUTIONS,
    )
    spare_rounds: int = setting(
        0,
        "Number of rounds beyond num_rounds that the noise is calibrated for (crashes, retries).",
        ge=0,
        le=10_000,
    )
    max_records_per_group: int = setting(
        16,
        "Largest number of a group's records that are trained on (group); further ones are left"
        " out.",
        ge=1,
        le=10_000,
    )

    @property
    def honest(self) -> int:
        """Institutions whose noise the calibration counts on, a record's own among them."""
        return self.honest_peers or 1

    @property
    def condition(self) -> str:
        """Against whom alone epsilon holds, to end a sentence with; '' for anybody."""
        if self.trust == "alone":
            return ""
        return (
            " against a coordinator that sees sums alone, if"
            f" {self.honest} of the institutions in each of them are honest"
        )

    def problems(self) -> Iterator[str]:
        """Yield contradictions, one sentence each."""
        if (self.trust == "peers") != (self.honest_peers is not None):
            yield (
                f"trust={self.trust}, honest_peers={self.honest_peers}: noise counts on a number of"
                " honest institutions under trust=peers alone; set both, or neither."
            )
        if self.trust == "peers" and self.unit == "none":
            yield "trust=peers: without a protected unit there is no noise; set privacy=record."


@dataclass
class BudgetConfig:
    """Privacy budget of one declared population in its lifetime, over all runs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    id: str | None = setting(
        None,
        "Name of the population, all of whose members carry the cost of every run. null: in a"
        " simulation the institution's name; in a kit the only population of its ledger folder,"
        " whatever the institution is called.",
    )
    unit: str = setting(
        "record",
        "Unit that the budget promises to protect; fixed once the budget was charged.",
        choices=("record", "group"),
    )
    epsilon: float | None = setting(
        None,
        "Lifetime bound on the privacy loss; required by a ledger that outlives the process.",
        gt=0,
        le=1000,
    )
    delta: float = setting(
        1e-5,
        "Probability that the lifetime bound fails; below 1 / n for a population of n units.",
        ge=1e-12,
        lt=1,
    )
    epsilon_with_peers: float | None = setting(
        None,
        "Lifetime bound on the privacy loss against coordinators that see sums alone, as long as as"
        " many institutions of each are honest as policy.secure counts on; fixed before the first"
        " run. null: not promised.",
        gt=0,
        le=1000,
    )

    def problems(self) -> Iterator[str]:
        """Yield contradictions, one sentence each."""
        promised, alone = self.epsilon_with_peers, self.epsilon
        if promised is not None and (alone is None or promised > alone):
            yield (
                f"epsilon_with_peers={promised:g}, epsilon={alone}: noise of others only lowers"
                " what is spent; set an epsilon of at least as much."
            )


_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


@dataclass
class SecureSumsPolicyConfig:
    """An institution's rules of sums that nobody sees inside (plans of ``aggregation=secure``)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    required: bool = setting(
        False,
        "Whether plans by which the coordinator would see this institution's update alone are"
        " refused, and so are releases, which no masks cover.",
    )
    min_cohort: int = setting(
        FEWEST_INSTITUTIONS,
        "Fewest institutions that count, this one included, in the cohort of a sum and among those"
        " whose sum is opened.",
        ge=FEWEST_INSTITUTIONS,
        le=MOST_INSTITUTIONS,
    )
    max_colluding: int | None = setting(
        None,
        "Institutions of a cohort that may collude with the coordinator and still learn no update;"
        " a plan's threshold t must fulfil 2 t > n + this; null: a third, floor((n - 1) / 3). With"
        " peers, this is of those that count, and all others may collude beside them.",
        ge=0,
        lt=MOST_INSTITUTIONS,
    )
    min_survivors: int | None = setting(
        None,
        "Fewest institutions whose sum is opened; null: as many as open a secret.",
        ge=FEWEST_INSTITUTIONS,
        le=MOST_INSTITUTIONS,
    )
    peers: list[str] | None = setting(
        None,
        "Fingerprints of the trainers' public keys that count towards min_cohort, compared by"
        " telephone; null: all that the federation's authority signed.",
    )

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each contradiction."""
        for peer in self.peers or ():
            if not _FINGERPRINT.fullmatch(peer):
                yield (
                    f"peers={peer}: expected fingerprints as `confide doctor` prints one at each"
                    " institution: SHA256: and 43 characters."
                )
        if self.peers is not None and len(set(self.peers)) + 1 < self.min_cohort:
            yield (
                f"peers names {len(set(self.peers))} others, min_cohort={self.min_cohort}: no"
                " cohort would be large enough; name more, or lower min_cohort."
            )


@dataclass
class PolicyConfig:
    """Rules of an institution.

    Its own code checks every plan and every reply against them; no plan can loosen them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    # The defaults are what a new institution starts from, and are strict
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    required_unit: str = setting(
        "record",
        "Weakest protected unit that a plan may ask for.",
        choices=("none", "record", "group"),
    )
    max_epsilon: float = setting(8.0, "Largest epsilon that one run may ask for.", gt=0, le=1000)
    max_epsilon_with_peers: float | None = setting(
        None,
        "Largest epsilon of one run against a coordinator that sees sums alone, by the noise of as"
        " many honest institutions as secure counts on; max_epsilon bounds what anybody else learns"
        " all the same. null: not bounded by itself.",
        gt=0,
        le=1000,
    )
    max_delta: float = setting(1e-5, "Largest delta that one run may ask for.", gt=0, lt=1)
    min_records: int = setting(100, "Smallest number of training units.", ge=1)
    public_n: int | None = setting(
        None,
        "Declared number of training units, at least the true number; null: the true number, which"
        " is then public.",
        ge=1,
    )
    # Exact lists: what an institution has not named is refused, and no plan adds to them.
    tasks: list[str] = setting(
        lambda: list(TASKS),
        "Kinds of task allowed, and dotted paths of custom tasks, which are imported here if a plan"
        " names them; any: in a simulation, the task that its own config names.",
    )
    allow_drafted: bool = setting(
        False,
        "Whether a plan's columns may have ranges or categories that were drafted from records and"
        " that nobody has confirmed (task.drafted).",
    )
    min_confidence: float = setting(
        0.0,
        "Probability that a model has to give a class, more than this, for a record without a label"
        " to be trained on as one of it, where a plan's task.self_training is lower; 1: never.",
        ge=0,
        le=1,
    )
    backbones: list[str] = setting(
        lambda: list(without_weights()),
        "Backbones allowed: kinds without weights, and content hashes (SHA-256) of pretrained ones;"
        " any: all that the institution has.",
    )
    max_rounds: int = setting(
        1000, "Largest number of rounds of one run, spare ones included.", ge=1, le=1_000_000
    )
    max_epochs: float = setting(
        100.0, "Largest number of passes over the records in one round.", gt=0, le=10_000
    )
    max_update_mb: float = setting(
        256.0,
        "Largest update in MiB, as it leaves: masked words of 64 bits are twice float32's.",
        gt=0,
    )
    max_update_norm: float = setting(1e6, "Largest L2 norm of an update.", gt=0)
    max_value: float = setting(
        1e4,
        "Largest absolute value of any number that a coordinator sends; large ones blow up rounding"
        " and norms.",
        gt=0,
        le=1e30,
    )
    metrics: list[str] = setting(
        lambda: list(known_metrics()),
        "Metrics on validation and test records that may leave the institution.",
    )
    metrics_privacy: str = setting(
        "noisy",
        "How metrics leave. noisy: with noise, charged to the budget, and only for plans with a"
        " protected unit; exact: unprotected, max_evaluations of them; none: not at all.",
        choices=("noisy", "exact", "none"),
    )
    min_support: int = setting(
        20, "Smallest number of records whose metrics may leave the institution.", ge=1
    )
    release_statistics: str = setting(
        "federation",
        "Whether statistics of the columns may be released. none: refused, for people (confide"
        " statistics) and for runs (quantiles of task.numeric.edges=released, the Gram matrix of"
        " client=private_newton); federation: for the sums over all institutions; institution: its"
        " own may be shown too. The coordinator adds sums up, so that the last two differ in what"
        " it may show, and not in what reaches it.",
        choices=("none", "federation", "institution"),
    )
    min_cell: int = setting(
        10,
        "Smallest number of units in a count, category, cell or group that leaves without noise"
        " (confide statistics without privacy, and a bin of exact counts by score); smaller ones"
        " are merged with others or left out. Units are owners where data.group_column is known."
        " 1: no floor.",
        ge=1,
    )
    max_evaluations: int = setting(
        20,
        "Largest number of exact scores that ever leave a population, over all rounds, evaluations"
        " and runs (metrics_privacy=exact, deployed); each reveals something about labels.",
        ge=0,
    )
    secure: SecureSumsPolicyConfig = field(default_factory=SecureSumsPolicyConfig)
    approval: str = setting(
        "automatic",
        "Way in which a run is approved. manual: it begins once its plan was approved here.",
        choices=("automatic", "manual"),
    )
    hours: str | None = setting(
        None, "Hours in which a round may begin, local time, such as 20:00-06:00; null: always."
    )
    allow_download: bool = setting(False, "Whether a backbone may be downloaded.")
    allow_reproducible_noise: bool | None = setting(
        False,
        "Whether noise may derive from a simulation's seed: anyone who knows the seed can remove"
        " the noise. null: only for public records.",
    )

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each contradiction."""
        for name in self.metrics:
            if name not in known_metrics():
                yield f"metrics={name}: expected only {', '.join(known_metrics())}."
        for kind in self.tasks:
            if kind not in (*TASKS, "any") and not is_dotted(kind):
                yield (
                    f"tasks={kind}: expected only {', '.join(TASKS)}, any, or the dotted path"
                    " of a task."
                )
        # 20:00-06:00 is right: hours may go past midnight.
        if self.hours is not None and not re.fullmatch(
            r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", self.hours
        ):
            yield f"hours={self.hours}: expected HH:MM-HH:MM."
        name, least = (
            ("min_records", self.min_records)
            if self.public_n is None
            else ("public_n", self.public_n)
        )
        # Whoever may publish one of n units outright has delta 1 / n
        if self.budget.epsilon is not None and self.budget.delta * least >= 1:
            yield (
                f"budget.delta={self.budget.delta:g}, {name}={least}: expected a delta below 1 /"
                f" {name}; set budget.delta=1e-{len(str(least))}."
            )
        # Under a budget for records each run that protects groups costs several times as much
        if self.budget.unit == "record" and self.required_unit == "group":
            yield (
                "required_unit=group, budget.unit=record: the budget's unit is the strongest; set"
                " budget.unit=group."
            )
