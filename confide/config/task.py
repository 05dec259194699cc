"""Kinds of task: the schema of each, and the table that says what implements it.

``TASKS`` is the one place that lists kinds. The plan's union, Hydra's groups, policy, prediction,
export, report and model card are built from its entries; see docs/design/0021-tables.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar

from confide.config.columns import FIGURES, RELEASE, ColumnConfig, NumericConfig
from confide.config.custom import named_problems
from confide.config.fields import STRICT, setting
from confide.config.model import BACKBONES, Network
from confide.config.one_of import OneOf
from confide.config.outcomes.outcome import (
    DEFAULT_OUTCOME,
    LABEL_COLUMN,
    Labelling,
    LossBounds,
    OutcomeConfig,
)
from confide.config.outcomes.table import OUTCOMES
from confide.errors import ConfigError
from confide.metrics.metric import Metric, reported

_DECIDES = "Metric that picks the best model and stops early"


@dataclass
class TaskConfig:
    """What is learnt: the schema of a record, its outcome, and the metric that decides.

    A kind with metrics of its own sets ``metric_table`` as a class variable, and declares
    ``metrics`` and ``primary_metric`` anew.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("???", "Kind of task.")
    labels: list[str] = setting(list, "Class names, in the order of the model's outputs.")
    label_column: str = setting(LABEL_COLUMN, "Column that holds the label.")
    label_values: dict[str, str] = setting(
        dict, "Raw value of the label column -> class name; empty: values are names."
    )
    metrics: list[str] = setting(list, "Metrics to report; empty: the outcome's usual ones.")
    primary_metric: str = setting("", f"{_DECIDES}; empty: the first one of the outcome's.")
    _target_: str | None = setting(
        None,
        "Dotted path of a task of your own, which then stands in place of kind's on the same"
        " schema; an institution imports it only if its own policy.tasks lists it.",
    )
    drafted: list[str] = setting(
        list,
        "Columns whose range or categories were drafted from records and which nobody has"
        " confirmed yet; remove a name once its column says what is possible and not what occurs.",
    )
    # Plain values: they travel in a plan, which is JSON.
    kwargs: dict[str, bool | int | float | str] = setting(
        dict, "Arguments of _target_, beside the schema."
    )
    outcome: Annotated[OutcomeConfig, OneOf(OUTCOMES)] = field(default_factory=OutcomeConfig)

    def __post_init__(self) -> None:
        # What is not said is written out once, so that plans, reports and replies all name the same
        self.metrics = self.metrics or reported(self.metric_table)
        self.primary_metric = self.primary_metric or next(iter(self.metric_table), "")

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics, by name."""
        return self.outcome.metric_table

    @property
    def labelling(self) -> Labelling:
        """What it says of its label itself, which is all that classes need."""
        return Labelling(labels=self.labels, column=self.label_column, values=self.label_values)

    @property
    def target_columns(self) -> tuple[str, ...]:
        """Columns that hold what is to be predicted."""
        return self.outcome.columns(self.labelling)

    @property
    def loss_bounds(self) -> LossBounds | None:
        """What the loss of any record can do to a linear model; None where nothing bounds it."""
        return self.outcome.bounds(self.labelling)

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
        return len(self.outcome.output_names(self.labelling))

    @property
    def custom_tasks(self) -> tuple[str, ...]:
        """What has to be imported to build this task, beside confide."""
        return () if self._target_ is None else (self._target_,)

    def encoded(self, *, scaling: str, edges: Mapping[str, Sequence[float]]) -> "TaskConfig":
        """Return the task as a plan has its records encoded.

        Args:
            scaling: how long rows may be, where the schema leaves it to the plan.
            edges: column -> inner edges that were released privately.
        """
        return self

    def for_trees(self, encoding: str) -> "TaskConfig":
        """Return the task as trees read its records.

        Args:
            encoding: one of :data:`~confide.encodings.tree_cells.TREE_ENCODINGS`.

        Raises:
            ConfigError: if its records are no rows of a table.
        """
        raise ConfigError(f"task.kind={self.kind} has no columns for trees to split.")

    def in_cells(self) -> "TaskConfig":
        """Return the task as it reads records for a release of quantiles.

        Raises:
            ConfigError: if it has no column to release any of.
        """
        raise ConfigError(f"task.kind={self.kind} has no numeric columns to release quantiles of.")

    @property
    def released_columns(self) -> tuple[str, ...]:
        """Columns whose edges are to be released before the run; () where none is."""
        return ()

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)
        own_range = self.target_columns if self.outcome.kind != DEFAULT_OUTCOME else ()
        strangers = sorted(set(self.drafted) - {*self.table_columns, *own_range})
        if strangers:
            yield f"drafted={strangers}: expected names of input columns; remove the others."
        if not all(isinstance(value, bool | int | float | str) for value in self.kwargs.values()):
            yield (
                f"kwargs={self.kwargs}: expected numbers, truth values and text, which a plan can"
                " carry."
            )
        if self.outcome.kind not in OUTCOMES:  # reported as out of range
            return
        yield from self.outcome.labelling_problems(self.labelling)
        for name in self.metrics:
            if name not in self.metric_table:
                yield f"metrics={name}: expected only {', '.join(self.metric_table)}."
        if self.primary_metric not in self.metric_table and not _declares_choices(self):
            yield (
                f"primary_metric={self.primary_metric}: expected one of"
                f" {', '.join(self.metric_table)}. {_DECIDES}."
            )
        if self.primary_metric in self.metric_table and self.primary_metric not in self.metrics:
            yield (
                f"primary_metric={self.primary_metric} is not in metrics={self.metrics}; add it or"
                " choose one of these."
            )


def _declares_choices(task: TaskConfig) -> bool:
    """Say whether a kind names its deciding metrics itself, which are checked as a range."""
    declared = {item.name: item.metadata for item in fields(task)}
    return declared["primary_metric"]["choices"] is not None


@dataclass
class TextClassificationConfig(TaskConfig):
    """One outcome for one text."""

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
class TabularConfig(TaskConfig):
    """One outcome for one row of a table."""

    kind: str = setting("tabular", "Kind of task.", choices=("tabular",))
    columns: dict[str, ColumnConfig] = setting(
        dict, "Input columns, in order, each with its public range or categories."
    )
    numeric: NumericConfig = field(default_factory=NumericConfig)

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The input columns, in their order."""
        return tuple(self.columns)

    @property
    def table_columns(self) -> Mapping[str, ColumnConfig]:
        """The input columns."""
        return self.columns

    @property
    def num_inputs(self) -> int:
        """Width of an encoded row."""
        return sum(column.width(self.numeric) for column in self.columns.values())

    @property
    def released_columns(self) -> tuple[str, ...]:
        """Columns whose edges are to be released before the run; () where none is."""
        if self.numeric.edges != "released":
            return ()
        return tuple(name for name, one in self.columns.items() if one.lacks_edges(self.numeric))

    def encoded(self, *, scaling: str, edges: Mapping[str, Sequence[float]]) -> "TabularConfig":
        """Return the schema with everything that encoding takes written into it."""
        numeric = self.numeric
        if numeric.scaling == "auto":
            # One input a column fills no norm, and models of releases before had them as they are.
            one_each = numeric.encoding == "linear"
            numeric = replace(numeric, scaling="none" if one_each else scaling)
        columns = {
            name: replace(column, edges=list(edges[name])) if name in edges else column
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns, numeric=numeric)

    def in_cells(self) -> "TabularConfig":
        """Return the schema with the columns that are to be released as cells of a public grid."""
        return self._read_as(RELEASE, self.released_columns)

    def as_figures(self) -> "TabularConfig":
        """Return the schema with each numeric column as its cell and its place in the range."""
        return self._read_as(FIGURES, [n for n, it in self.columns.items() if it.kind == "numeric"])

    def _read_as(self, encoding: str, names: Sequence[str]) -> "TabularConfig":
        chosen = set(names)
        columns = {
            name: replace(column, encoding=encoding) if name in chosen else column
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns, numeric=replace(self.numeric, scaling="none"))

    def for_trees(self, encoding: str) -> "TabularConfig":
        """Return the schema with columns as trees read them."""
        columns = {name: column.for_trees(encoding) for name, column in self.columns.items()}
        return replace(self, columns=columns, numeric=replace(self.numeric, scaling="none"))

    @property
    def tree_cells(self) -> list[int]:
        """Number of cells of each input, as trees read a record (:meth:`for_trees`)."""
        columns = self.columns.values()
        return [count for column in columns for count in column.tree_cells(self.numeric)]

    def places(self, names: Sequence[str]) -> list[int]:
        """Return where in an encoded row the first input of each of some columns is."""
        starts, start = {}, 0
        for name, column in self.columns.items():
            starts[name] = start
            start += column.width(self.numeric)
        return [starts[name] for name in names]

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from TaskConfig.problems(self)
        if not self.columns:
            yield "columns={}: expected at least one input column."
        # A model that sees the label learns nothing else.
        for name in self.target_columns if self.outcome.kind in OUTCOMES else ():
            if name in self.columns:
                yield f"columns.{name} is the label; remove it from the inputs."
        for name, column in self.columns.items():
            yield from column.encoding_problems(f"columns.{name}", self.numeric)


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
        purpose: what a model of classes is for, as the beginning of a sentence that they end.
        records: what its records are, in words.
        pipeline_tag: Hugging Face's name for it with classes, for the model card; None: other.
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
    records: str = "records"
    pipeline_tag: str | None = None
    assets: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    forms: tuple[str, ...] | None = None
    networks: Mapping[str, Network] = field(default_factory=dict)

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the kinds of backbone that it goes with."""
        # Not a list of names: a backbone that is added later fits wherever its inputs do.
        return tuple(
            name
            for name, kind in BACKBONES.items()
            if kind.inputs == self.inputs and (kind.tasks is None or self.schema.kind in kind.tasks)
        )

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Those of its own, by name; {} where an outcome's are all there are."""
        own: Any = self.schema.metric_table
        return {} if isinstance(own, property) else own


TASKS: dict[str, TaskKind] = {
    "text_classification": TaskKind(
        schema=TextClassificationConfig,
        task="confide.tasks.text_classification.TextClassification",
        inputs=("input_ids", "attention_mask"),
        reader="confide.tasks.schema.read_texts",
        inventor="confide.tasks.invented.texts",
        title="Text classification",
        purpose="Classifies texts",
        records="texts",
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
        records="rows of a table",
        pipeline_tag="tabular-classification",
        members=("num_inputs",),
    ),
}
"""Kinds of task, by name."""


def known_metrics() -> dict[str, Metric]:
    """Return the metrics of all outcomes and of all kinds of task, by name."""
    tables = [
        *(kind.metrics for kind in OUTCOMES.values()),
        *(kind.metrics for kind in TASKS.values()),
    ]
    return {name: metric for table in tables for name, metric in table.items()}


__all__ = [
    "TASKS",
    "ColumnConfig",
    "NumericConfig",
    "TabularConfig",
    "TaskConfig",
    "TaskKind",
    "TextClassificationConfig",
    "known_metrics",
]
