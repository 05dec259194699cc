"""What an outcome's settings say: columns, outputs, metrics, and what bounds the loss."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting
from confide.config.spelling import repeats
from confide.metrics.metric import Metric
from confide.metrics.outcomes.classification import CLASSIFICATION

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
        smoothing: share of a label that all classes have alike in training.
        may_lack: whether a record may have no label, for a model to find one (task.self_training).
    """

    labels: Sequence[str]
    column: str
    values: Mapping[str, str] = field(default_factory=dict)
    smoothing: float = 0.0
    may_lack: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether it says nothing."""
        return not self.labels and not self.values and self.column == LABEL_COLUMN


@dataclass(frozen=True, kw_only=True)
class LossBounds:
    """What the loss of any record can do, as a function of the model's outputs z.

    Steps that follow from public figures rest on them
    (:mod:`confide.strategies.algorithms.gradient_sum`).

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
    """One of several classes, named by task.labels and read from task.label_column.

    Other outcomes extend this, and say all of it anew.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    # A class variable: neither Hydra nor a plan sees it, so that no setting can change it.
    metrics: ClassVar[Mapping[str, Metric]] = CLASSIFICATION
    """Metrics of the kind, by name; the first one decides where nothing else is said."""
    linear_model: ClassVar[str] = "a logistic regression"
    """What a linear model of it is called, in a report."""
    is_written: ClassVar[bool] = False
    """Whether a model writes it, and so may recite what it was trained on."""

    kind: str = setting(
        "classes", "Chosen by its group: task/outcome=classes.", choices=("classes",)
    )

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics, by name: those of the kind, with ranges of its own where it has some."""
        return self.metrics

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the columns that it is read from."""
        return (labelling.column,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the numbers that a model gives for one record: one a class."""
        return tuple(labelling.labels)

    def label_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name what it tells apart: classes, or labels that hold or not; () for numbers."""
        return tuple(labelling.labels)

    def bounds(self, labelling: Labelling) -> LossBounds | None:
        """Return what the loss can do, of any record; None where nothing bounds it.

        Of softmax cross entropy: its Hessian is diag(p) - p p^T, its gradient p - e_y, or, of a
        smoothed label, p less a distribution; and the difference of two logits says which of two
        classes is likelier.
        """
        count, smoothing = max(len(labelling.labels), 1), labelling.smoothing
        each = smoothing / count
        # Where another class than the label's is certain, which is farthest from any label
        squares = (1 - each) ** 2 + (1 - smoothing + each) ** 2 + (count - 2) * each**2
        return LossBounds(smoothness=0.5, gradient=squares**0.5, noise=2.0**0.5)

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Say what a model of it does, as the beginning of a sentence.

        Args:
            labelling: what the task says of its label.
            purpose: what it does if it tells classes, such as "Classifies texts".
            records: what it does it to, such as "texts".
        """
        return f"{purpose} as {listed([f'“{label}”' for label in labelling.labels])}"

    def intended(self, labelling: Labelling) -> str:
        """Say what to use it for, after "To"."""
        return (
            "classify records of the same kind, from institutions like those that took part, as"
            f" {', '.join(labelling.labels)}"
        )

    def labelling_problems(self, labelling: Labelling) -> Iterator[str]:
        """Yield what contradicts itself in what the task says of classes."""
        if self.kind != DEFAULT_OUTCOME:
            yield from _idle_problems(self.kind, labelling)
            yield from smoothing_problems(self.kind, labelling)
            return
        yield from label_problems(labelling, prefix="task.")


def label_problems(labelling: Labelling, *, prefix: str) -> Iterator[str]:
    """Yield what contradicts itself in names of labels and their raw values.

    Args:
        labelling: names and values.
        prefix: dotted key of their settings, with a dot at its end.
    """
    labels, values = list(labelling.labels), dict(labelling.values)
    # Outputs are in the order of labels: one that is there twice would be two classes.
    if len(set(labels)) < 2 or len(set(labels)) != len(labels):
        draft = "" if labels else "; `confide init NAME --from RECORDS` drafts a task that has them"
        yield f"labels={labels}: expected at least two distinct class names{draft}."
    elif repeats(values or labels):
        key, names = ("label_values", list(values)) if values else ("labels", labels)
        yield f"{key}={names}: two of them are one value, as 1 and 1.0 are; leave one out."
    unknown = sorted(set(values.values()) - set(labels))
    if unknown:
        yield (
            f"label_values names {unknown}, which {prefix}labels={labels} lacks; add them"
            " there or map to one of these."
        )


def _idle_problems(kind: str, labelling: Labelling) -> Iterator[str]:
    """Yield that settings of classes say something of another outcome."""
    if not labelling.is_idle:
        yield (
            f"labels={list(labelling.labels)}, label_column={labelling.column}: these are"
            f" settings of outcome=classes, and this task has outcome.kind={kind}, whose"
            " own are under task.outcome; leave them out."
        )


def smoothing_problems(kind: str, labelling: Labelling) -> Iterator[str]:
    """Yield that labels of another outcome would be smoothed."""
    if labelling.smoothing:
        yield (
            f"label_smoothing={labelling.smoothing:g} smooths labels of outcome=classes, and this"
            f" task has outcome.kind={kind}; leave it out."
        )


def listed(words: Sequence[str]) -> str:
    """Join words: "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


__all__ = [
    "DEFAULT_OUTCOME",
    "LABEL_COLUMN",
    "Labelling",
    "LossBounds",
    "OutcomeConfig",
    "label_problems",
    "listed",
    "smoothing_problems",
]
