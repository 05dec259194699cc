"""Every code that stands for an answer, an update or a model that is not there, with its meaning.

A code travels in place of an error's text, which could quote a record. Codes are part of the
protocol: a value does not change. An explanation reads on from the name of an institution.
"""

from collections.abc import Mapping
from enum import StrEnum


class Refusal(StrEnum):
    """A code and what it means; most are an institution's, some the coordinator's own.

    Attributes:
        explanation: what happened and, where somebody can do something, what.
    """

    explanation: str

    # The default is for type checkers: to them, finding a member by its code makes one.
    def __new__(cls, code: str, explanation: str = "") -> "Refusal":
        """Make a member whose value is its code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.explanation = explanation
        return member

    # Nobody there
    NO_REPLY = "no_reply", "did not answer before the round's deadline"
    NOT_NEEDED = "not_needed", "answered after the round had the updates that it wanted"
    ERROR_REPLY = "error_reply", "answered with an error; its own log says which"
    WORKER_LOST = "worker_lost", "was computed by a process that ended; memory may have run out"
    TRAINER_UNAVAILABLE = "trainer_unavailable", "could not reach its own trainer; restart it"
    DEADLINE = "deadline", "could not have finished in time; give a round more time"
    CANCELLED = "cancelled", "was told to stop what it computed; it goes on when asked again"
    INTERNAL_ERROR = "internal_error", "failed inside; its own log says why"

    # Messages and tensors that are not what was expected
    INVALID_MESSAGE = "invalid_message", "sent something that is no reply"
    TOO_LARGE = "too_large", "was sent more than it takes; raise its limit or send a smaller model"
    TENSOR_NAMES = "tensor_names", "sent tensors of other names than the model's"
    TENSOR_SHAPE = "tensor_shape", "sent tensors of another shape"
    TENSOR_DTYPE = "tensor_dtype", "sent tensors of another type"
    TENSOR_VALUES = "tensor_values", "sent values that are not finite, or too large"
    NUM_EXAMPLES = "num_examples", "declared another number of records than at enrolment"
    INSTITUTION = "institution", "answered under another institution's name"
    REVOKED = "revoked", "was revoked while the run went on, and is asked nothing more"
    NO_RECORDS = "no_records", "has no records to train on"
    TOO_MANY_RECORDS = "too_many_records", "has more records than its sums hold exactly; divide it"

    # Plans
    PLAN_INVALID = "plan_invalid", "cannot read the plan; run the same release on both sides"
    PLAN_VERSION = "plan_version", "runs another release of confide; install the same one"
    PLAN_CHANGED = "plan_changed", "began this job with another plan; name a new job"
    PLAN_NOT_SERVED = "plan_not_served", "serves another task, backbone or tuning"
    TASK_NOT_SERVED = "task_not_served", "serves another task, which its client.yaml names"
    BACKBONE_NOT_HERE = "backbone_not_here", "does not have the plan's backbone; bring its folder"
    TOO_MANY_STEPS = "too_many_steps", "was asked for more steps than any run needs; lower them"
    NO_STATE = "no_state", "has no folder for what the algorithm keeps at it"
    STOPPED = "stopped", "declined: its people stopped this job; `confide client approve` resumes"
    NOT_TRAINED = "not_trained", "declined to score for a job that has not trained there"

    # Sums that nobody sees inside
    SUM_KEYS = "sum_keys", "declined: a key of the cohort is none that an institution signed"
    SUM_COHORT = "sum_cohort", "declined: the cohort of a masked sum is not what it may be"
    SUM_REVOKED = "sum_revoked", "declined: a key of the cohort is on its list of revoked ones"
    SUM_UNKNOWN = "sum_unknown", "has put nothing into that masked sum"
    SUM_SURVIVORS = "sum_survivors", "declined: it opens a masked sum for one set of survivors"
    SUM_SHARES = "sum_shares", "was sent, or sent, shares of a masked sum that are not whole"
    SUM_TOO_FEW = "sum_too_few", "was in a masked sum that too few were left to open"
    SUM_OUT_OF_RANGE = (
        "sum_out_of_range",
        "was in a masked sum that so many updates cannot have: one of them spoilt it",
    )
    SUM_GRID = "sum_grid", "declined: its noise is too little for the steps of the masked sum"
    SUM_REQUIRED = (
        "sum_required",
        "declined: its policy asks for sums that nobody sees inside (aggregation=secure)",
    )

    # The budget
    NO_BUDGET = "no_budget", "declined: it has no lifetime budget to charge"
    BUDGET_EXHAUSTED = "budget_exhausted", "declined: its lifetime budget would not cover the run"
    BUDGET_WITH_PEERS = (
        "budget_with_peers",
        "declined: its lifetime budget against who sees sums alone would not cover the run",
    )
    BUDGET_UNIT = "budget_unit", "declined: its budget promises a stronger unit than the plan's"
    BUDGET_DELTA = (
        "budget_delta",
        "declined: its lifetime delta is not below 1 / its units; lower it",
    )
    BUDGET_UNPROTECTED = "budget_unprotected", "declined: nothing without privacy can be accounted"
    UNDECLARED_POPULATION = "undeclared_population", "declined: its population has no budget yet"
    SCORES_SPENT = "scores_spent", "declined: the scores that the run declared are spent"
    ROUNDS_SPENT = "rounds_spent", "declined: the rounds that were charged for are spent"
    ALREADY_ANSWERED = "already_answered", "answered this before and keeps the reply no more"
    LEDGER = "ledger", "cannot trust its ledger; its own log says why"

    # Whatever else keeps it from answering
    STORAGE = "storage", "could not read or write a file; its own log says which"
    PRIVACY = "privacy", "cannot train so without voiding the guarantee; its own log says why"
    ROWS_DIFFER = "rows_differ", "cannot keep a record's gradient apart from others; use its CPU"
    CANNOT_COMPLY = "cannot_comply", "cannot do what was asked; its own log says why"

    # The policy: one code a rule
    POLICY_TASKS = "policy_tasks", "declined: its policy does not list the task"
    POLICY_ALLOW_DRAFTED = (
        "policy_allow_drafted",
        "declined: ranges of the task were drafted from records, and nobody has confirmed them",
    )
    POLICY_BACKBONES = "policy_backbones", "declined: its policy does not list the backbone"
    POLICY_ALLOW_DOWNLOAD = "policy_allow_download", "declined: its policy allows no downloads"
    POLICY_REQUIRED_UNIT = "policy_required_unit", "declined: its policy asks for a stronger unit"
    POLICY_RELEASE_STATISTICS = (
        "policy_release_statistics",
        "declined: its policy releases no statistics, nor quantiles or a Gram matrix",
    )
    POLICY_MAX_EPSILON = "policy_max_epsilon", "declined: epsilon is above what its policy allows"
    POLICY_MAX_EPSILON_WITH_PEERS = (
        "policy_max_epsilon_with_peers",
        "declined: epsilon against who sees sums alone is above what its policy allows",
    )
    POLICY_MAX_DELTA = "policy_max_delta", "declined: delta is above what its policy allows"
    POLICY_MAX_ROUNDS = "policy_max_rounds", "declined: more rounds than its policy allows"
    POLICY_MAX_EPOCHS = "policy_max_epochs", "declined: more epochs a round than its policy allows"
    POLICY_MAX_EVALUATIONS = (
        "policy_max_evaluations",
        "declined: it gave as many exact scores before",
    )
    POLICY_MAX_UPDATE_MB = "policy_max_update_mb", "declined: the update would be too large"
    POLICY_MAX_VALUE = "policy_max_value", "declined: it was sent larger numbers than it takes"
    POLICY_MAX_UPDATE_NORM = "policy_max_update_norm", "declined: its update was too long to leave"
    POLICY_UPDATE_DTYPE = "policy_update_dtype", "declined: its update was of another type"
    POLICY_UPDATE_FINITE = "policy_update_finite", "declined: its update was not finite"
    POLICY_PUBLIC_N = "policy_public_n", "declined: it has more records than it declared"
    POLICY_MIN_RECORDS = "policy_min_records", "declined: it has fewer records than its policy asks"
    SUM_MIN_COHORT = "sum_min_cohort", "declined: too few institutions share the masked sum"
    SUM_THRESHOLD = "sum_threshold", "declined: too few shares would open the masked sum"
    SUM_MIN_SURVIVORS = (
        "sum_min_survivors",
        "declined: too few institutions are left in the masked sum",
    )
    POLICY_APPROVAL = "policy_approval", "waits for its people to approve the plan"
    POLICY_HOURS = "policy_hours", "trains at other hours only; it is asked again"

    @classmethod
    def of(cls, text: str) -> "Refusal | None":
        """Find the code in ``CODE`` or ``CODE: figures``; None for one of another release."""
        # Releases may differ: a code that is not known here is shown as it came.
        try:
            return cls(text.partition(":")[0])
        except ValueError:
            return None


def with_figures(code: str, figures: Mapping[str, float]) -> str:
    """Write a refusal with what was asked and what is allowed.

    Args:
        code: its code.
        figures: its figures; without ``asked`` where that follows from records and stays with them.

    >>> with_figures("policy_max_rounds", {"asked": 30, "allowed": 20})
    'policy_max_rounds: asked 30, allowed 20'
    >>> with_figures("policy_min_records", {"allowed": 100})
    'policy_min_records: has fewer than the 100 needed'
    """
    if "allowed" in figures and "asked" not in figures:
        relation = (
            "fewer than the {:.4g} needed"
            if code == Refusal.POLICY_MIN_RECORDS
            else "more than the {:.4g} allowed"
        )
        return f"{code}: has {relation.format(figures['allowed'])}"
    told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return f"{code}: {told}" if told else code


SILENCES: frozenset[str] = frozenset({Refusal.NO_REPLY, Refusal.ERROR_REPLY, Refusal.WORKER_LOST})
"""Codes of those from whom no answer came, as against those who declined."""

NOT_YET: frozenset[str] = frozenset({Refusal.POLICY_APPROVAL, Refusal.POLICY_HOURS})
"""Codes that time, or the institution's people, may lift: asking again makes sense."""

NOT_AFFORDED: frozenset[str] = frozenset(
    {
        Refusal.BUDGET_EXHAUSTED,
        Refusal.BUDGET_WITH_PEERS,
        Refusal.ROUNDS_SPENT,
        Refusal.ALREADY_ANSWERED,
    }
)
"""Codes of those whose ledger does not cover what was asked."""

__all__ = ["NOT_AFFORDED", "NOT_YET", "SILENCES", "Refusal", "with_figures"]
