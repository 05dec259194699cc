"""The rules of a policy that a plan is held against before anything is loaded.

None needs the records. Each is a :class:`~confide.client.verdicts.Verdict`, in the order in which
people read them; the first that does not hold is what a coordinator is told.
"""

from collections.abc import Iterator

from confide.client.secure_sums.rules import has_sums_alone
from confide.client.verdicts import Verdict, at_most, few, one_of
from confide.config.models.table import BACKBONES, without_weights
from confide.config.privacy import PolicyConfig
from confide.config.tasks.table import TASKS
from confide.protocol.plan import TrainingPlan

# From the weakest promise to the strongest: a plan may protect more than the policy asks for.
_UNITS = ("none", "record", "group")
_YES_NO = {True: "yes", False: "no"}
_SEEN = {True: "sums alone", False: "each institution's"}


def plan_rules(config: PolicyConfig, plan: TrainingPlan) -> Iterator[Verdict]:
    """Check a plan against the rules that need no knowledge of the records.

    Args:
        config: the institution's rules.
        plan: of a run.
    """
    yield from _task_rules(config, plan)
    yield from _model_rules(config, plan)
    yield from _release_rules(config, plan)
    if plan.private:
        yield from _budget_rules(config, plan)


def _task_rules(config: PolicyConfig, plan: TrainingPlan) -> Iterator[Verdict]:
    """Check what is to be learnt."""
    yield one_of("tasks", plan.task._target_ or plan.task.kind, config.tasks, known=TASKS)
    drafted = plan.task.drafted
    yield Verdict(
        rule="allow_drafted",
        asked=f"unconfirmed: {few(drafted)}" if drafted else "confirmed",
        allowed="unconfirmed" if config.allow_drafted else "confirmed",
        holds=config.allow_drafted or not drafted,
    )
    if plan.task.self_training is not None:
        surest = max(plan.task.self_training, config.min_confidence)
        yield Verdict(  # nothing to deny: the institution trains by its own figure
            rule="min_confidence",
            asked=plan.task.self_training,
            allowed=f"above {surest:g}" if surest < 1 else "never",
            holds=True,
        )


def _model_rules(config: PolicyConfig, plan: TrainingPlan) -> Iterator[Verdict]:
    """Check what it is learnt with."""
    pretrained = BACKBONES[plan.backbone.kind].has_weights
    yield one_of(
        "backbones",
        str(plan.backbone_sha256) if pretrained else plan.backbone.kind,
        _backbones(config, pretrained),
        known=without_weights(),
    )
    weights = plan.backbone.pretrained
    downloads = weights is not None and weights.allow_download
    yield Verdict(
        rule="allow_download",
        asked=_YES_NO[downloads],
        allowed=_YES_NO[config.allow_download],
        holds=config.allow_download or not downloads,
    )


def _release_rules(config: PolicyConfig, plan: TrainingPlan) -> Iterator[Verdict]:
    """Check whom what leaves protects, and who sees it."""
    yield Verdict(
        rule="required_unit",
        asked=plan.privacy.unit,
        allowed=config.required_unit,
        holds=_UNITS.index(plan.privacy.unit) >= _UNITS.index(config.required_unit),
    )
    if plan.releases:
        # Counts of cells and sums of products are statistics of columns, whoever asks for them
        yield Verdict(
            rule="release_statistics",
            asked=plan.releases,
            allowed=config.release_statistics,
            holds=config.release_statistics != "none",
        )
    masked, required = has_sums_alone(plan), config.secure.required
    yield Verdict(
        rule="secure.required",
        asked=_SEEN[masked],
        allowed=_SEEN[required],
        holds=masked or not required,
    )


def _budget_rules(config: PolicyConfig, plan: TrainingPlan) -> Iterator[Verdict]:
    """Check what a private plan may spend."""
    privacy = plan.privacy
    # A run may spend either: a unit is read by training or by scores.
    asked = max(privacy.epsilon, privacy.metrics_epsilon or 0.0)
    trusts, bound = privacy.trust == "peers", config.max_epsilon_with_peers
    if not trusts:  # or else it follows from the number of records
        yield at_most("max_epsilon", asked, config.max_epsilon)
    # Where others' noise counts, and is not calibrated for, it follows from each cohort
    is_known = trusts or plan.peers_problem is not None
    yield Verdict(
        rule="max_epsilon_with_peers",
        asked=asked if is_known else "less than epsilon, by each cohort",
        allowed="any" if bound is None else bound,
        holds=bound is None or not is_known or asked <= bound,
    )
    yield at_most("max_delta", privacy.delta, config.max_delta)


def _backbones(config: PolicyConfig, pretrained: bool) -> list[str]:
    """Return the allowed backbones of one sort: hashes of pretrained ones, or kinds of others."""
    kinds = without_weights()
    return [name for name in config.backbones if name == "any" or (name in kinds) != pretrained]


__all__ = ["plan_rules"]
