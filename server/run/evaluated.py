"""What is told of a kept model's test beside its metrics."""

from typing import Any

from confide.config.report import ReportConfig
from confide.metrics.evaluation import Measured, describe
from confide.metrics.subgroups.describe import describe_subgroups
from confide.protocol.masked_sums import EVERYBODY
from confide.protocol.messages import Evaluation
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.outcome import Outcome


def evaluation_of(
    plan: TrainingPlan,
    outcome: Outcome,
    report: ReportConfig,
    federated: Evaluation,
    *,
    is_pooled: bool,
) -> dict[str, Any]:
    """Return a summary's ``evaluation``.

    Args:
        plan: of the run.
        outcome: how its rounds ended.
        report: what the report says of mistakes and of groups.
        federated: metrics of the kept model on all test records.
        is_pooled: whether they were measured on the records themselves.
    """
    task, costs = plan.task, report.costs
    measured = Measured(
        labels=task.outcome.label_names(task.labelling),
        metrics=task.metric_table,
        federated=federated,
        is_pooled=is_pooled,
        test={name: one for name, one in outcome.test.items() if name != EVERYBODY},
        tallies=outcome.tallies.get("test", {}),
        validation=outcome.tallies.get("validation", {}),
        positive=report.positive,
        false_negative=costs.false_negative,
        false_positive=costs.false_positive,
        is_summed=EVERYBODY in outcome.test,
        settings=task.outcome,
        subgroups=task.told_apart,
        least_in_group=report.least_in_group,
    )
    section = describe(task.outcome.kind, measured)
    return section | describe_subgroups(task.outcome.kind, measured, section)


__all__ = ["evaluation_of"]
