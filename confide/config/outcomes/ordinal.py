"""Settings of labels in order."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import (
    LABEL_COLUMN,
    Labelling,
    LossBounds,
    OutcomeConfig,
    label_problems,
    listed,
)
from confide.metrics.metric import Metric
from confide.metrics.outcomes.ordinal import ORDINAL


@dataclass
class OrdinalConfig(OutcomeConfig):
    """One of several labels that have an order, such as a grade."""

    metrics: ClassVar[Mapping[str, Metric]] = ORDINAL

    kind: str = setting(
        "ordinal", "Chosen by its group: task/outcome=ordinal.", choices=("ordinal",)
    )
    column: str = setting(LABEL_COLUMN, "Column that holds the label.")
    labels: list[str] = setting(list, "Names of the labels, the lowest first.")
    label_values: dict[str, str] = setting(
        dict, "Raw value of the column -> label; empty: values are labels."
    )

    @property
    def own_labelling(self) -> Labelling:
        """What it says of its labels, as a task does of classes."""
        return Labelling(labels=self.labels, column=self.column, values=self.label_values)

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the column of the label."""
        return (self.column,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the steps of the order, one fewer than labels."""
        return tuple(f"above {label}" for label in self.labels[:-1])

    def label_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the labels, the lowest first."""
        return tuple(self.labels)

    def bounds(self, labelling: Labelling) -> LossBounds:
        """Return those of sigmoid cross entropy, summed over k steps and divided by sqrt(k)."""
        scale = math.sqrt(max(len(self.labels) - 1, 1))
        return LossBounds(smoothness=0.25 / scale, gradient=1.0, noise=1.0)

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Name the labels, in their order."""
        return f"Grades {records} as {listed([f'“{one}”' for one in self.labels])}, in this order"

    def intended(self, labelling: Labelling) -> str:
        """Name the labels, in their order."""
        return (
            "grade records of the same kind, from institutions like those that took part, as"
            f" {', '.join(self.labels)}, in this order"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from label_problems(self.own_labelling, prefix="task.outcome.")


__all__ = ["OrdinalConfig"]
