"""Records as releases read them, encoded by the task of a real plan."""

import numpy
from builders import build_plan
from datasets import Dataset

from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.models.compute import Compute
from confide.models.workload import build_workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.releases import release_plan
from confide.releases.release import Records

TASK = TabularConfig(
    labels=["no", "yes"],
    label_column="ill",
    columns={
        "age": ColumnConfig(minimum=0.0, maximum=100.0),
        "sex": ColumnConfig(kind="categorical", categories=["f", "m"]),
        "tsh": ColumnConfig(minimum=0.0, maximum=530.0, indicator=True),
        "ward": ColumnConfig(kind="categorical", categories=["a", "b"], unseen="other"),
    },
    numeric=NumericConfig(bins=4),
)


def question(unit: str = "none", kind: str = "statistics", edges: str = "public") -> TrainingPlan:
    """Return the plan that asks for a release."""
    task = TabularConfig(
        labels=TASK.labels,
        label_column=TASK.label_column,
        columns=TASK.columns,
        numeric=NumericConfig(bins=4, edges=edges),
    )
    privacy = PrivacyConfig(unit=unit, epsilon=2.0)
    return release_plan(build_plan(task=task, privacy=privacy, seed=None), kind, epsilon=0.5)


def encoded(
    plan: TrainingPlan, rows: dict[str, list[str]], groups: list[int] | None = None
) -> Records:
    """Encode raw values, as an institution does for a plan."""
    workload = build_workload(
        plan.encoded_task, plan.backbone, plan.tuning, compute=Compute(), seed=0
    )
    examples = workload.prepare(Dataset.from_dict(rows))
    return Records(
        features=examples.columns["features"].double().numpy(),
        labels=examples.labels.numpy(),
        groups=None if groups is None else numpy.array(groups),
        by_group=plan.privacy.unit == "group",
    )


def without(records: Records, chosen: "numpy.typing.NDArray[numpy.bool_]") -> Records:
    """Return records without the chosen ones: a unit that is zeroed out adds nothing."""
    groups = None if records.groups is None else records.groups[~chosen]
    return Records(
        features=records.features[~chosen],
        labels=records.labels[~chosen],
        groups=groups,
        by_group=records.by_group,
    )
