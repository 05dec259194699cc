"""What every kind of task says: its records, its outcome, and the metric that decides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar

from confide.config.custom import named_problems
from confide.config.fields import STRICT, setting
from confide.config.one_of import OneOf
from confide.config.outcomes.outcome import (
    DEFAULT_OUTCOME,
    LABEL_COLUMN,
    Labelling,
    LossBounds,
    OutcomeConfig,
)
from confide.config.outcomes.table import OF_ONE_CLASS, OUTCOMES
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.media.augmentation import Augmentation
from confide.config.tasks.media.files import FileReading
from confide.config.tasks.subgroups import Values, subgroup_problems, subgroups_of
from confide.errors import ConfigError
from confide.metrics.metric import Metric, reported
from confide.metrics.subgroups.groups import Subgroups

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
    label_smoothing: float = setting(
        0.0,
        "Share of each label that all classes have alike in the loss of training (Szegedy et al."
        " 2016); metrics and predictions know nothing of it, and it costs no privacy.",
        ge=0,
        lt=1,
    )
    self_training: float | None = setting(
        None,
        "Records without a label are trained on as the class that the model of the round, as it is"
        " received, gives more than this probability, such as 0.95; policy.min_confidence may raise"
        " it. Each is a unit, and is charged as one. null: records without a label are refused.",
        ge=0.5,
        lt=1,
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
    subgroups: dict[str, Values] = setting(
        dict,
        "Column -> groups by which metrics on test records are told too: public categories, as"
        " [Female, Male]; edges of bands, as [40, 60]; [] for the categories of an input column."
        " What an institution tells of a group, and from how many records, its policy decides.",
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
        return Labelling(
            labels=self.labels,
            column=self.label_column,
            values=self.label_values,
            smoothing=self.label_smoothing,
            may_lack=self.self_training is not None,
        )

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
    def record_columns(self) -> tuple[str, ...]:
        """Columns of a record: its content, and what is to be predicted."""
        return (*self.content_columns, *self.target_columns)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Columns of a source: those of a record, unless records are made of others."""
        return self.record_columns

    @property
    def made_columns(self) -> tuple[str, ...]:
        """Columns of made records that a source lacks."""
        return ()

    @property
    def owner_columns(self) -> tuple[str, ...]:
        """Columns of made records, one of which has to be data.group_column; () where none has."""
        return ()

    def unit_note(self, unit: str) -> str:
        """Say how a guarantee for a unit flatters; "" where it does not.

        Args:
            unit: as in :class:`~confide.config.privacy.PrivacyConfig`.
        """
        return ""

    @property
    def table_columns(self) -> Mapping[str, "ColumnConfig"]:
        """Input columns of a table; {} for any other kind of input."""
        return {}

    @property
    def number_columns(self) -> tuple[str, ...]:
        """Columns of a source, but for labels, of which every value is a number."""
        return tuple(name for name, it in self.table_columns.items() if it.kind == "numeric")

    @property
    def text_limits(self) -> Mapping[str, int]:
        """Column of texts -> tokens that they are cut after; {} for any other kind of input."""
        return {}

    @property
    def files(self) -> FileReading | None:
        """How its pictures or sounds are read; None for any other kind of input."""
        return None

    @property
    def augmentation(self) -> Augmentation | None:
        """How views of its records are made; None where records stand for themselves."""
        return None

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
    def told_apart(self) -> tuple[Subgroups, ...]:
        """Groups by which metrics on test records are told, one entry a column."""
        return subgroups_of(self.subgroups, self.table_columns)

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
        if self.self_training is not None and self.outcome.kind not in OF_ONE_CLASS:
            yield (
                f"self_training={self.self_training:g} finds one class for a record without a"
                f" label, and this task has outcome.kind={self.outcome.kind}; leave it out, and"
                " records without a label too."
            )
        yield from self.outcome.labelling_problems(self.labelling)
        yield from subgroup_problems(
            self.subgroups,
            columns=self.table_columns,
            targets=self.target_columns,
            outcome=self.outcome.kind,
        )
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


__all__ = ["TaskConfig"]
