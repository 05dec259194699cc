"""Settings of classes: none, since a task's own labels are all that they need."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import Labelling, LossBounds, OutcomeConfig, listed
from confide.config.spelling import repeats
from confide.metrics.classification import CLASSIFICATION
from confide.metrics.metric import Metric


@dataclass
class ClassesConfig(OutcomeConfig):
    """One of several classes, named by task.labels and read from task.label_column."""

    metrics: ClassVar[Mapping[str, Metric]] = CLASSIFICATION

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
        return f"{purpose} as {listed([f'“{label}”' for label in labelling.labels])}"

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


__all__ = ["ClassesConfig"]
