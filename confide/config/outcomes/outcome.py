"""What every outcome's settings say: columns, outputs, metrics, and what bounds the loss."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting
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
    # A class variable: neither Hydra nor a plan sees it, so that no setting can change it.
    metrics: ClassVar[Mapping[str, Metric]] = {}
    """Metrics of the kind, by name; the first one decides where nothing else is said."""

    kind: str = setting("???", "Chosen by its group: task/outcome=KIND.")

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics, by name: those of the kind, with ranges of its own where it has some."""
        return self.metrics

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


def listed(words: Sequence[str]) -> str:
    """Join words: "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


__all__ = [
    "DEFAULT_OUTCOME",
    "LABEL_COLUMN",
    "Labelling",
    "LossBounds",
    "OutcomeConfig",
    "listed",
]
