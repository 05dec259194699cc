"""Outcomes: what is predicted of a record, whatever the record is.

``OUTCOMES`` is the one place that lists kinds. A task's records and its outcome are chosen apart:
any outcome goes with tables and with texts. The settings of classes stand on the task itself, from
before there was anything else; each other outcome has its own here. See
docs/design/0032-outcomes.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting
from confide.config.spelling import repeats
from confide.metrics.classification import CLASSIFICATION
from confide.metrics.metric import Metric

LABEL_COLUMN = "label"
"""Column of labels where a task names none."""
DEFAULT_OUTCOME = "classes"
"""What a task has that names no outcome."""


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """What a task itself says of its label; outcomes other than classes do not read it.

    Attributes:
        labels: class names, in the order of the model's outputs.
        column: column that holds the label.
        values: raw value of that column -> class name; {} if values are names.
    """

    labels: Sequence[str]
    column: str
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_idle(self) -> bool:
        """Whether it says nothing."""
        return not self.labels and not self.values and self.column == LABEL_COLUMN


@dataclass(frozen=True, kw_only=True)
class LossBounds:
    """What the loss of any record can do, as a function of the model's outputs z.

    Steps that follow from public figures rest on them
    (:mod:`confide.strategies.gradient_sum`).

    Attributes:
        smoothness: largest eigenvalue of the loss's Hessian in z.
        gradient: largest L2 norm of its gradient in z.
        noise: what noise of standard deviation 1 in each output comes to in what is predicted, in
            units of one logit.
    """

    smoothness: float
    gradient: float
    noise: float


@dataclass
class OutcomeConfig:
    """What is predicted of a record; each kind extends this."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("???", "Chosen by its group: task/outcome=KIND.")

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Metrics of it, by name; the first one decides where nothing else is said."""
        # A kind that is not there is reported as out of range
        return OUTCOMES[self.kind].metrics if self.kind in OUTCOMES else {}

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the columns that it is read from."""
        raise NotImplementedError

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the numbers that a model gives for one record."""
        raise NotImplementedError

    def bounds(self, labelling: Labelling) -> LossBounds | None:
        """Return what its loss can do; None where nothing bounds it."""
        raise NotImplementedError

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Say what a model of it does, as the beginning of a sentence.

        Args:
            labelling: what the task says of its label.
            purpose: what it does if it tells classes, such as "Classifies texts".
            records: what it does it to, such as "texts".
        """
        raise NotImplementedError

    def intended(self, labelling: Labelling) -> str:
        """Say what to use it for, after "To"."""
        raise NotImplementedError

    def labelling_problems(self, labelling: Labelling) -> Iterator[str]:
        """Yield what contradicts the settings that classes have on the task itself."""
        if not labelling.is_idle:
            yield (
                f"labels={list(labelling.labels)}, label_column={labelling.column}: these are"
                f" settings of outcome=classes, and this task has outcome.kind={self.kind}, whose"
                " own are under task.outcome; leave them out."
            )


@dataclass
class ClassesConfig(OutcomeConfig):
    """One of several classes, named by task.labels and read from task.label_column."""

    kind: str = setting(
        "classes", "Chosen by its group: task/outcome=classes.", choices=("classes",)
    )

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the label column."""
        return (labelling.column,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the classes."""
        return tuple(labelling.labels)

    def bounds(self, labelling: Labelling) -> LossBounds:
        """Return those of softmax cross entropy.

        Its Hessian is diag(p) - p p^T, its gradient p - e_y, and the difference of two logits says
        which of two classes is likelier.
        """
        return LossBounds(smoothness=0.5, gradient=2.0**0.5, noise=2.0**0.5)

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Name the classes, in quotes."""
        return f"{purpose} as {_and([f'“{label}”' for label in labelling.labels])}"

    def intended(self, labelling: Labelling) -> str:
        """Name the classes."""
        return (
            "classify records of the same kind, from institutions like those that took part, as"
            f" {', '.join(labelling.labels)}"
        )

    def labelling_problems(self, labelling: Labelling) -> Iterator[str]:
        """Yield what contradicts itself in labels and their raw values."""
        labels, values = list(labelling.labels), dict(labelling.values)
        # Outputs are in the order of labels: one that is there twice would be two classes.
        if len(set(labels)) < 2 or len(set(labels)) != len(labels):
            yield f"labels={labels}: expected at least two distinct class names."
        elif repeats(values or labels):
            key, names = ("label_values", list(values)) if values else ("labels", labels)
            yield f"{key}={names}: two of them are one value, as 1 and 1.0 are; leave one out."
        unknown = sorted(set(values.values()) - set(labels))
        if unknown:
            yield (
                f"label_values names {unknown}, which task.labels={labels} lacks; add them"
                " there or map to one of these."
            )


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


@dataclass(frozen=True, kw_only=True)
class OutcomeKind:
    """A kind of outcome: an entry of :data:`OUTCOMES`.

    Attributes:
        schema: dataclass of its settings, ``kind`` among them.
        outcome: dotted name of its class (:class:`~confide.tasks.outcomes.outcome.Outcome`), made
            of the schema and of the task's :class:`Labelling`; imported when first used.
        metrics: its metrics by name, the one that decides by default first.
        title: what it is, in a report; "" where the kind of task has a title for it.
        pipeline_tags: kind of task -> Hugging Face's name for both together; {} where that of the
            kind of task does.
        problem_type: what transformers calls it; None: it has no name for it.
    """

    schema: type[OutcomeConfig]
    outcome: str
    metrics: Mapping[str, Metric]
    title: str = ""
    pipeline_tags: Mapping[str, str] = field(default_factory=dict)
    problem_type: str | None = None


OUTCOMES: dict[str, OutcomeKind] = {
    "classes": OutcomeKind(
        schema=ClassesConfig,
        outcome="confide.tasks.outcomes.classes.Classes",
        metrics=CLASSIFICATION,
        problem_type="single_label_classification",
    ),
}
"""Kinds of outcome, by name."""


__all__ = [
    "DEFAULT_OUTCOME",
    "LABEL_COLUMN",
    "OUTCOMES",
    "ClassesConfig",
    "Labelling",
    "LossBounds",
    "OutcomeConfig",
    "OutcomeKind",
]
