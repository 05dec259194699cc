"""Settings of the next item: how many are recommended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import Labelling, OutcomeConfig
from confide.metrics.metric import Metric
from confide.metrics.outcomes.ranking import RANKING

NEXT_ITEM = "next_item"
"""Column of the item that a user took next, which an institution makes of interactions."""


@dataclass
class NextItemConfig(OutcomeConfig):
    """One item of a public catalogue, ranked among all of them."""

    metrics: ClassVar[Mapping[str, Metric]] = RANKING
    linear_model: ClassVar[str] = "a linear model of items"

    kind: str = setting(
        "next_item", "Chosen by its group: task/outcome=next_item.", choices=("next_item",)
    )
    top: int = setting(10, "Items that a prediction names.", ge=1, le=100)

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the column of the item."""
        return (NEXT_ITEM,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name nothing: the catalogue does."""
        return ()

    def bounds(self, labelling: Labelling) -> None:
        """Return nothing: steps from bounds are for linear models, and none is of items."""
        return None

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Say what is recommended."""
        return "Recommends the items of a catalogue that a user may take next"

    def intended(self, labelling: Labelling) -> str:
        """Say for whom."""
        return (
            "recommend items of its catalogue to users like those of the institutions that took"
            " part, where nothing of weight depends on it"
        )


__all__ = ["NEXT_ITEM", "NextItemConfig"]
