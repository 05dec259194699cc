"""Settings of several labels a record."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import Labelling, LossBounds, OutcomeConfig, listed
from confide.config.spelling import repeats
from confide.metrics.metric import Metric
from confide.metrics.outcomes.multi_label import MULTI_LABEL


@dataclass
class MultiLabelConfig(OutcomeConfig):
    """Several labels, each of which holds for a record or not."""

    metrics: ClassVar[Mapping[str, Metric]] = MULTI_LABEL

    kind: str = setting(
        "multi_label", "Chosen by its group: task/outcome=multi_label.", choices=("multi_label",)
    )
    labels: list[str] = setting(
        list, "Names of the labels: of columns of zeros and ones, or in the one column."
    )
    column: str | None = setting(
        None,
        "Column that lists the labels that hold, none if it is empty; null: each label is a column"
        " of its own.",
    )
    separator: str = setting(",", "What stands between two labels in that column.")

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the labels' columns, or the one."""
        return tuple(self.labels) if self.column is None else (self.column,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the labels."""
        return tuple(self.labels)

    def label_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the labels."""
        return tuple(self.labels)

    def bounds(self, labelling: Labelling) -> LossBounds:
        """Return those of sigmoid cross entropy, summed over l labels and divided by sqrt(l)."""
        scale = math.sqrt(max(len(self.labels), 1))
        return LossBounds(smoothness=0.25 / scale, gradient=1.0, noise=1.0)

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Name the labels."""
        return f"Tells which of {listed([f'“{one}”' for one in self.labels])} hold for {records}"

    def intended(self, labelling: Labelling) -> str:
        """Name the labels."""
        return (
            f"tell which of {', '.join(self.labels)} hold for records of the same kind, from"
            " institutions like those that took part"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if not self.labels or repeats(self.labels):
            yield f"labels={self.labels}: expected distinct names, at least one."
        if self.column is not None and not self.separator:
            yield "separator='': expected what stands between two labels of a record."
        inside = [one for one in self.labels if self.separator and self.separator in one]
        if self.column is not None and inside:
            yield f"labels={inside}: hold separator={self.separator!r}; choose another separator."


__all__ = ["MultiLabelConfig"]
