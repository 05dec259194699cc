"""Settings of masks: a class for every pixel of a picture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import Labelling, OutcomeConfig, listed
from confide.config.spelling import repeats
from confide.metrics.metric import Metric
from confide.metrics.outcomes.mask import mask_metrics


@dataclass
class MaskConfig(OutcomeConfig):
    """A class for every pixel, such as tissue of several kinds."""

    metrics: ClassVar[Mapping[str, Metric]] = mask_metrics(("background",))
    linear_model: ClassVar[str] = "a logistic regression of each pixel"

    kind: str = setting("mask", "Chosen by its group: task/outcome=mask.", choices=("mask",))
    column: str = setting(
        "mask",
        "Column of the masks: paths or bytes of pictures whose values are classes, as large as the"
        " record's picture.",
    )
    labels: list[str] = setting(
        list, "Names of the classes, what is behind everything else first: [background, lesion]."
    )
    values: list[int] = setting(
        list, "Value in the masks of each class, such as [0, 255]; empty: 0, 1, 2 and so on."
    )

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics, of tallies as wide as the classes make them."""
        return mask_metrics(tuple(self.labels))

    @property
    def levels(self) -> tuple[int, ...]:
        """Value of each class."""
        return tuple(self.values) or tuple(range(len(self.labels)))

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the column of masks."""
        return (self.column,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the classes: a model gives a number for each in every pixel."""
        return tuple(self.labels)

    def bounds(self, labelling: Labelling) -> None:
        """Return nothing: no linear model of a record as a whole has this loss."""

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Name the classes."""
        return f"Finds where {listed([f'“{one}”' for one in self.labels[1:]])} is in {records}"

    def intended(self, labelling: Labelling) -> str:
        """Name the classes."""
        return (
            f"find where {', '.join(self.labels[1:])} is in records of the same kind, from"
            " institutions like those that took part"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if len(self.labels) < 2 or repeats(self.labels):
            yield f"labels={self.labels}: expected at least two distinct names."
        if self.values and len(set(self.values)) != len(self.labels):
            yield f"values={self.values}: expected a value for each of labels={self.labels}."
        if not all(0 <= value <= 255 for value in self.values) or len(self.labels) > 256:
            yield f"values={self.values}: expected at most 256 numbers of 0 to 255."


__all__ = ["MaskConfig"]
