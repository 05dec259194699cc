"""Settings of tasks: the schema of a record, its label, the metrics."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.custom import named_problems
from confide.config.fields import STRICT, setting

METRICS: dict[str, str] = {
    "accuracy": "max",
    "macro_f1": "max",
    "auc": "max",
    "log_loss": "min",
}
"""Metrics a classification task reports, and the direction that is better."""
METRIC_RANGES: dict[str, tuple[float, float]] = {
    "accuracy": (0.0, 1.0),
    "macro_f1": (0.0, 1.0),
    "auc": (0.0, 1.0),
    "log_loss": (0.0, float("inf")),
}
"""Least and largest value that each of these can have."""
TASK_KINDS = ("text_classification", "tabular")


@dataclass
class TaskConfig:
    """What is learnt: the schema of a record, its label, and the metric that decides."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("???", "Kind of task.", choices=TASK_KINDS)
    labels: list[str] = setting(list, "Class names, in the order of the model's outputs.")
    label_column: str = setting("label", "Column that holds the label.")
    label_values: dict[str, str] = setting(
        dict, "Raw value of the label column -> class name; empty: values are names."
    )
    metrics: list[str] = setting(lambda: list(METRICS), "Metrics to report.")
    primary_metric: str = setting(
        "accuracy", "Metric that picks the best model and stops early.", choices=tuple(METRICS)
    )
    _target_: str | None = setting(
        None,
        "Dotted path of a task of your own, which then stands in place of kind's on the same"
        " schema; an institution imports it only if its own policy.tasks lists it.",
    )
    kwargs: dict[str, bool | int | float | str] = setting(
        dict, "Arguments of _target_, beside the schema."
    )

    @property
    def custom_tasks(self) -> tuple[str, ...]:
        """What has to be imported to build this task, beside confide."""
        return () if self._target_ is None else (self._target_,)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)
        if not all(isinstance(value, bool | int | float | str) for value in self.kwargs.values()):
            yield (
                f"kwargs={self.kwargs}: expected numbers, truth values and text, which a plan can"
                " carry."
            )
        if len(set(self.labels)) < 2 or len(set(self.labels)) != len(self.labels):
            yield f"labels={self.labels}: expected at least two distinct class names."
        unknown = sorted(set(self.label_values.values()) - set(self.labels))
        if unknown:
            yield (
                f"label_values names {unknown}, which task.labels={self.labels} lacks; add them"
                " there or map to one of these."
            )
        for name in self.metrics:
            if name not in METRICS:
                yield f"metrics={name}: expected only {', '.join(METRICS)}."
        if self.primary_metric in METRICS and self.primary_metric not in self.metrics:
            yield (
                f"primary_metric={self.primary_metric} is not in metrics={self.metrics}; add it or"
                " choose one of these."
            )


@dataclass
class TextClassificationConfig(TaskConfig):
    """One label for one text."""

    kind: str = setting("text_classification", "Kind of task.", choices=("text_classification",))
    text_column: str = setting("text", "Column that holds the text.")
    max_tokens: int = setting(48, "Texts are cut after this many tokens.", ge=4, le=8192)


@dataclass
class ColumnConfig:
    """One column of a table, with a public range.

    No statistic of the records is needed to encode it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("numeric", "numeric or categorical.", choices=("numeric", "categorical"))
    minimum: float | None = setting(
        None, "Numeric: lowest value of the public range; lower ones are clipped."
    )
    maximum: float | None = setting(
        None, "Numeric: highest value of the public range; higher ones are clipped."
    )
    categories: list[str] = setting(list, "Categorical: the values, one input each.")
    missing_values: list[str] = setting(list, "Values that mean 'missing', beside an empty cell.")
    indicator: bool = setting(False, "Add an input that is 1 where the value is missing.")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        low, high = self.minimum, self.maximum
        if self.kind == "numeric" and (
            low is None or high is None or not 0 < high - low < math.inf
        ):
            yield (
                f"minimum={self.minimum}, maximum={self.maximum}: expected two numbers, minimum <"
                " maximum."
            )
        distinct = {
            value.lower() if value.lower() in ("true", "false") else value
            for value in self.categories
        }
        if self.kind == "categorical" and (
            not self.categories or len(distinct) != len(self.categories)
        ):
            yield f"categories={self.categories}: expected distinct values, at least one."


@dataclass
class TabularConfig(TaskConfig):
    """One label for one row of a table."""

    kind: str = setting("tabular", "Kind of task.", choices=("tabular",))
    columns: dict[str, ColumnConfig] = setting(
        dict, "Input columns, in order, each with its public range or categories."
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from TaskConfig.problems(self)
        if not self.columns:
            yield "columns={}: expected at least one input column."
        if self.label_column in self.columns:
            yield f"columns.{self.label_column} is the label; remove it from the inputs."
