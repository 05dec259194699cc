"""What either side may do about a refusal, by its code.

What happened is the code's own explanation (:mod:`confide.protocol.refusals`); what may be done
about it differs between who refused and who asked.
"""

from collections.abc import Mapping
from typing import NamedTuple

from confide.protocol.refusals import Refusal


class Fix(NamedTuple):
    """What to do, as a sentence.

    Attributes:
        institution: at the institution that refused.
        coordinator: at the coordinator that asked.
    """

    institution: str
    coordinator: str


_POLICY = "policy_"
_NOTHING = "Nothing: it is asked again by itself."
_OWN_LOG = "state/logs/trainer.log says why, with all figures."
_ASK = "Ask its people: state/logs/trainer.log there says why."
_BUDGET = Fix(
    "Nothing, where your people will not spend more; or decide on a larger budget:"
    " `confide ledger budget`.",
    "Plan a smaller epsilon or fewer rounds, or go on without it.",
)
_RELEASE = Fix(
    "Install the same release of confide as the coordinator.",
    "Install the same release of confide on both sides.",
)
_SUM = Fix(
    "Compare trainers' keys by telephone (`confide doctor`), and policy.secure with the plan.",
    "Have institutions compare policy.secure and trainers' keys; or plan with more of them.",
)
_TENSORS = Fix(
    _RELEASE.institution, "Compare releases and the plan; the round went on without its update."
)
_FIXES: Mapping[str, Fix] = {
    Refusal.NO_REPLY: Fix(
        "Keep `confide client` running; compare server.round_timeout_s with what a round takes.",
        "`confide doctor` on its side says why; or raise server.round_timeout_s.",
    ),
    Refusal.NOT_NEEDED: Fix("Nothing.", "Nothing: the round had what it wanted."),
    Refusal.TRAINER_UNAVAILABLE: Fix(
        "Start the trainer again; state/logs/trainer.log says why it ended.",
        "Its people have to start its trainer again.",
    ),
    Refusal.DEADLINE: Fix(
        "Nothing; more threads or a GPU make a round faster.", "Raise server.round_timeout_s."
    ),
    Refusal.CANCELLED: Fix(_NOTHING, _NOTHING),
    Refusal.TOO_LARGE: Fix(
        "Raise policy.max_update_mb if a model of that size is agreed on.",
        "Send a smaller model, or agree with its people on policy.max_update_mb.",
    ),
    Refusal.TENSOR_NAMES: _TENSORS,
    Refusal.TENSOR_SHAPE: _TENSORS,
    Refusal.TENSOR_DTYPE: _TENSORS,
    Refusal.TENSOR_VALUES: _TENSORS,
    Refusal.PLAN_INVALID: _RELEASE,
    Refusal.PLAN_VERSION: _RELEASE,
    Refusal.PLAN_CHANGED: Fix(
        "Nothing: a job keeps the plan that it began with.", "Start a new run with another job=."
    ),
    Refusal.TASK_NOT_SERVED: Fix(
        "Change task in client.yaml only if your people agreed to the plan's.",
        "Plan the task that kits pin, or send a new one to be agreed on.",
    ),
    Refusal.BACKBONE_NOT_HERE: Fix(
        "Bring the backbone's folder, name it under backbones, its hash under policy.backbones.",
        "Send the backbone's folder to its people.",
    ),
    Refusal.STOPPED: Fix(
        "`confide client approve JOB KIT`, if it shall go on.",
        "Ask its people, or go on without it: `--without NAME`.",
    ),
    Refusal.NO_BUDGET: Fix(
        "Set policy.budget.epsilon in client.yaml.", "Its people have to set a budget."
    ),
    Refusal.BUDGET_EXHAUSTED: _BUDGET,
    Refusal.BUDGET_WITH_PEERS: _BUDGET,
    Refusal.ROUNDS_SPENT: Fix(
        "Nothing: the run was charged for so many rounds, and no more.",
        "Plan privacy.spare_rounds in the next run.",
    ),
    Refusal.UNDECLARED_POPULATION: Fix(
        "Declare the population's budget: `confide ledger budget`.",
        "Its people have to declare a budget.",
    ),
    Refusal.LEDGER: Fix(
        "`confide ledger verify` says what is wrong; bring the newest copy back.",
        "Its people have to bring their ledger back; until then it takes no part.",
    ),
    Refusal.STORAGE: Fix(
        "Free space or mend the folder that state/logs/trainer.log names.",
        "Its people have to free space; it is asked again.",
    ),
    Refusal.SUM_REQUIRED: Fix(
        "Nothing: policy.secure.required holds.", "Plan with aggregation=secure."
    ),
    **dict.fromkeys(
        (
            Refusal.SUM_KEYS,
            Refusal.SUM_COHORT,
            Refusal.SUM_MIN_COHORT,
            Refusal.SUM_THRESHOLD,
            Refusal.SUM_MIN_SURVIVORS,
        ),
        _SUM,
    ),
    # Rules that follow from the plan, and not from a limit that somebody set
    **dict.fromkeys(
        (Refusal.POLICY_UPDATE_DTYPE, Refusal.POLICY_UPDATE_FINITE),
        Fix(_OWN_LOG, "The round went on without its update; a smaller learning rate may help."),
    ),
    Refusal.POLICY_APPROVAL: Fix(
        "Read the plan and decide: `confide client approve JOB KIT`.",
        "Its people have to approve the plan; it is asked again by itself.",
    ),
    Refusal.POLICY_HOURS: Fix(_NOTHING, _NOTHING),
}


def fix_of(code: str) -> Fix:
    """Return what may be done about a code, of another release included."""
    if code in _FIXES:
        return _FIXES[code]
    if code.startswith(_POLICY):
        rule = f"policy.{code.removeprefix(_POLICY)}"
        return Fix(
            f"Nothing, where your people hold to {rule}; they may change it in client.yaml.",
            f"Ask for less, or agree with its people on {rule}.",
        )
    return Fix(_OWN_LOG, _ASK)


def words_of(code: str, name: str) -> str:
    """Say in a sentence what a code means, of the institution ``name``."""
    refusal = Refusal.of(code)
    if refusal is None:
        return f"{name} gave a code of another release: {code}."
    return f"{name} {refusal.explanation}."


__all__ = ["Fix", "fix_of", "words_of"]
