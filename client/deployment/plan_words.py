"""What a plan asks of an institution, in the words that its people decide by."""

from confide.config.privacy import PolicyConfig
from confide.protocol.plan import TrainingPlan
from confide.releases.table import RELEASES


def asked(plan: TrainingPlan) -> str:
    """Say what a plan asks for, as part of a sentence."""
    if plan.releases:
        return RELEASES[plan.releases].asks_fn(plan)
    by = ", ".join(plan.task.subgroups)
    return (
        f"{plan.task.kind}, {plan.tuning.kind} tuning of {plan.backbone.kind}, {plan.num_rounds}"
        f" rounds{f', test metrics by groups of {by}' if by else ''}{_origin(plan)}"
    )


def _origin(plan: TrainingPlan) -> str:
    """Say which model a plan goes on from, by the coordinator's word; '' for none."""
    if not plan.parents:
        return ""
    newest, runs = plan.parents[-1], len(plan.parents)
    earlier = f", the last of {runs} runs" if runs > 1 else ""
    return f", going on from model {newest.model_sha256[:12]} of job {newest.job}{earlier}"


def seen(plan: TrainingPlan) -> str:
    """Say what the coordinator sees of the answers, as part of a sentence; '' for a release."""
    if plan.releases:
        return ""
    return "sums of updates and of scores alone" if plan.sums else "each update"


def cost(plan: TrainingPlan, policy: PolicyConfig) -> str:
    """Say what a plan costs, as part of a sentence; '' for one without privacy.

    Args:
        plan: the plan.
        policy: of the institution.
    """
    if not plan.private:
        return ""
    privacy = plan.privacy
    # A unit is read by training or by scores, so that a run costs it the larger of the two
    scores = privacy.metrics_epsilon if policy.metrics_privacy == "noisy" else None
    epsilon = max(privacy.epsilon, scores or 0.0)
    price = f"epsilon {epsilon:g} at delta {privacy.delta:g} a {privacy.unit}"
    if not privacy.condition:
        return f"{price}, of the lifetime budget"
    return (
        f"{price}{privacy.condition}; against anybody else, and of the lifetime budget, more:"
        f" at most policy.max_epsilon={policy.max_epsilon:g}"
    )


__all__ = ["asked", "cost", "seen"]
