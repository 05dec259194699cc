"""What a user takes next: records are made of interactions by whoever has these."""

from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.tasks.task import TaskConfig

HISTORY = "history"
"""Column of what a user had before, which an institution makes of interactions: a JSON list of item
ids, the oldest first."""


@dataclass
class RecommendationConfig(TaskConfig):
    """The next item of a user, from the last ones.

    An institution has a row for each interaction. Of a user's rows, in the order of time, it makes
    records: the items until then, and the next one.
    """

    kind: str = setting("recommendation", "Kind of task.", choices=("recommendation",))
    user_column: str = setting("user", "Column that names the user.")
    item_column: str = setting("item", "Column that holds the item's id, as in the catalogue.")
    time_column: str = setting(
        "time",
        "Column of the time, by which a user's rows are ordered: numbers, or dates as 2026-11-29.",
    )
    recent: int = setting(10, "Last items that a model sees.", ge=1, le=100)
    known: int = setting(
        200, "Last items of a user that are remembered, so as not to recommend them.", ge=1, le=2000
    )
    records_per_user: int = setting(
        16,
        "Most records of a user; of more, that many spread evenly over the user's rows, the last"
        " one among them.",
        ge=1,
        le=10_000,
    )
    repeats: bool = setting(
        False,
        "Whether an item may be taken again. If not, what a user has had is not recommended, and"
        " of rows with one item only the user's first counts.",
    )

    @property
    def content_columns(self) -> tuple[str, ...]:
        """What the user had before."""
        return (HISTORY,)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Columns of interactions."""
        return (self.user_column, self.item_column, self.time_column)

    @property
    def owner_columns(self) -> tuple[str, ...]:
        """The user, whose records are to be in one split."""
        return (self.user_column,)

    def unit_note(self, unit: str) -> str:
        """Say that a user is in many records."""
        if unit != "record":
            return ""
        return (
            f"privacy.unit=record protects one of up to {self.records_per_user} records of a user,"
            " each of which repeats most of the one before, so that its epsilon flatters; the user"
            f" is protected by privacy=group data.group_column={self.user_column}."
        )


__all__ = ["HISTORY", "RecommendationConfig"]
