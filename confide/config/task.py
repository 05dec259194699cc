"""Kinds of task: the schema of each, and the table that says what implements it.

``TASKS`` is the one place that lists kinds. The plan's union, Hydra's groups, an institution's
policy, prediction, export, report and model card are built from its entries; see
docs/design/0021-tables.md.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.config.custom import named_problems
from confide.config.fields import STRICT, setting
from confide.config.model import BACKBONES, Network
from confide.config.spelling import repeats
from confide.metrics.classification import CLASSIFICATION
from confide.metrics.metric import Metric


@dataclass
class TaskConfig:
    """What is learnt: the schema of a record, its label, and the metric that decides.

    A kind with other metrics sets ``metric_table`` and declares ``metrics`` and ``primary_metric``
    anew, with that table's defaults.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    # A class variable: neither Hydra nor a plan sees it, so that no setting can change it.
    metric_table: ClassVar[Mapping[str, Metric]] = CLASSIFICATION

    kind: str = setting("???", "Kind of task.")
    labels: list[str] = setting(list, "Class names, in the order of the model's outputs.")
    label_column: str = setting("label", "Column that holds the label.")
    label_values: dict[str, str] = setting(
        dict, "Raw value of the label column -> class name; empty: values are names."
    )
    metrics: list[str] = setting(lambda: list(CLASSIFICATION), "Metrics to report.")
    primary_metric: str = setting(
        "accuracy", "Metric that picks the best model and stops early.", choices=CLASSIFICATION
    )
    _target_: str | None = setting(
        None,
        "Dotted path of a task of your own, which then stands in place of kind's on the same"
        " schema; an institution imports it only if its own policy.tasks lists it.",
    )
    drafted: list[str] = setting(
        list,
        "Input columns whose range or categories were drafted from records and which nobody has"
        " confirmed yet; remove a name once its column says what is possible and not what occurs.",
    )
    # Plain values: they travel in a plan, which is JSON.
    kwargs: dict[str, bool | int | float | str] = setting(
        dict, "Arguments of _target_, beside the schema."
    )

    @property
    def content_columns(self) -> tuple[str, ...]:
        """Columns that make a record what it is, label excluded; equal contents are one unit."""
        return ()

    @property
    def table_columns(self) -> Mapping[str, "ColumnConfig"]:
        """Input columns of a table; {} for any other kind of input."""
        return {}

    @property
    def text_limits(self) -> Mapping[str, int]:
        """Column of texts -> tokens that they are cut after; {} for any other kind of input."""
        return {}

    @property
    def num_outputs(self) -> int:
        """Numbers that a model predicts for one record."""
        return len(self.labels)

    @property
    def custom_tasks(self) -> tuple[str, ...]:
        """What has to be imported to build this task, beside confide."""
        return () if self._target_ is None else (self._target_,)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)
        strangers = sorted(set(self.drafted) - set(self.table_columns))
        if strangers:
            yield f"drafted={strangers}: expected names of input columns; remove the others."
        if not all(isinstance(value, bool | int | float | str) for value in self.kwargs.values()):
            yield (
                f"kwargs={self.kwargs}: expected numbers, truth values and text, which a plan can"
                " carry."
            )
        # Outputs are in the order of labels: one that is there twice would be two classes.
        if len(set(self.labels)) < 2 or len(set(self.labels)) != len(self.labels):
            yield f"labels={self.labels}: expected at least two distinct class names."
        elif repeats(self.label_values or self.labels):
            key, names = (
                ("label_values", list(self.label_values))
                if self.label_values
                else ("labels", self.labels)
            )
            yield f"{key}={names}: two of them are one value, as 1 and 1.0 are; leave one out."
        unknown = sorted(set(self.label_values.values()) - set(self.labels))
        if unknown:
            yield (
                f"label_values names {unknown}, which task.labels={self.labels} lacks; add them"
                " there or map to one of these."
            )
        for name in self.metrics:
            if name not in self.metric_table:
                yield f"metrics={name}: expected only {', '.join(self.metric_table)}."
        if self.primary_metric in self.metric_table and self.primary_metric not in self.metrics:
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

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The text."""
        return (self.text_column,)

    @property
    def text_limits(self) -> Mapping[str, int]:
        """The text, and where it is cut."""
        return {self.text_column: self.max_tokens}


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

    @property
    def width(self) -> int:
        """Inputs that it becomes."""
        # A missing category is all zeros; a missing number needs no input of its own either.
        return (1 if self.kind == "numeric" else len(self.categories)) + int(self.indicator)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        low, high = self.minimum, self.maximum
        # The difference of two finite numbers may be infinite.
        if self.kind == "numeric" and (
            low is None or high is None or not 0 < high - low < math.inf
        ):
            yield (
                f"minimum={self.minimum}, maximum={self.maximum}: expected two numbers, minimum <"
                " maximum."
            )
        # TRUE and true are one category, and so are 1 and 1.0
        if self.kind == "categorical" and (not self.categories or repeats(self.categories)):
            yield f"categories={self.categories}: expected distinct values, at least one."


@dataclass
class TabularConfig(TaskConfig):
    """One label for one row of a table."""

    kind: str = setting("tabular", "Kind of task.", choices=("tabular",))
    columns: dict[str, ColumnConfig] = setting(
        dict, "Input columns, in order, each with its public range or categories."
    )

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The input columns, in their order."""
        return tuple(self.columns)

    @property
    def table_columns(self) -> Mapping[str, ColumnConfig]:
        """The input columns."""
        return self.columns

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from TaskConfig.problems(self)
        if not self.columns:
            yield "columns={}: expected at least one input column."
        # A model that sees the label learns nothing else.
        if self.label_column in self.columns:
            yield f"columns.{self.label_column} is the label; remove it from the inputs."


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """A kind of task: an entry of :data:`TASKS`.

    Dotted names are imported when first used (:func:`~confide.config.custom.implementation`).

    Attributes:
        schema: dataclass of its settings, ``kind`` among them.
        task: dotted name of its class (:class:`~confide.tasks.task.Task`), made of the schema and,
            by keyword, of ``assets``.
        inputs: columns of encoded records that a model takes; it goes with backbones that take the
            same ones.
        reader: dotted name of a :data:`~confide.tasks.schema.ReadFn`, which reads and checks input
            columns without torch.
        inventor: dotted name of a function (schema, count, generator) -> column -> values, which
            invents raw records for checks that need no real ones.
        title: what it is, in a report.
        purpose: what it is for, as the beginning of a sentence that the classes end.
        pipeline_tag: Hugging Face's name for it, for the model card; None: other.
        assets: what a task needs of a pretrained backbone's folder, such as a tokenizer.
        members: what a custom task on this schema must have, beside the members of every task.
        forms: forms that a model of it can be exported to; None for every form.
        networks: backbone kind -> network in place of that backbone's own, for outputs that are not
            one row of numbers a record.
    """

    schema: type[TaskConfig]
    task: str
    inputs: tuple[str, ...]
    reader: str
    inventor: str
    title: str
    purpose: str
    pipeline_tag: str | None = None
    assets: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    forms: tuple[str, ...] | None = None
    networks: Mapping[str, Network] = field(default_factory=dict)

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the kinds of backbone that it goes with."""
        # Not a list of names: a backbone that is added later fits wherever its inputs do.
        return tuple(name for name, kind in BACKBONES.items() if kind.inputs == self.inputs)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Its metrics, by name."""
        return self.schema.metric_table


TASKS: dict[str, TaskKind] = {
    "text_classification": TaskKind(
        schema=TextClassificationConfig,
        task="confide.tasks.text_classification.TextClassification",
        inputs=("input_ids", "attention_mask"),
        reader="confide.tasks.schema.read_texts",
        inventor="confide.tasks.invented.texts",
        title="Text classification",
        purpose="Classifies texts",
        pipeline_tag="text-classification",
        assets=("tokenizer",),
    ),
    "tabular": TaskKind(
        schema=TabularConfig,
        task="confide.tasks.tabular.Tabular",
        inputs=("features",),
        reader="confide.tasks.schema.read_table",
        inventor="confide.tasks.invented.rows",
        title="Classification of a table",
        purpose="Classifies rows of a table",
        pipeline_tag="tabular-classification",
        members=("num_inputs",),
    ),
}
"""Kinds of task, by name."""


def known_metrics() -> dict[str, Metric]:
    """Return the metrics of all kinds of task, by name."""
    return {name: metric for kind in TASKS.values() for name, metric in kind.metrics.items()}


__all__ = [
    "TASKS",
    "ColumnConfig",
    "TabularConfig",
    "TaskConfig",
    "TaskKind",
    "TextClassificationConfig",
    "known_metrics",
]
