"""Texts, or pairs of them, with one outcome each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.tasks.task import TaskConfig


@dataclass
class TextClassificationConfig(TaskConfig):
    """One outcome for one text, or for a text and another beside it."""

    kind: str = setting("text_classification", "Kind of task.", choices=("text_classification",))
    text_column: str = setting("text", "Column that holds the text.")
    pair_column: str | None = setting(
        None,
        "Column of a second text, such as the answer to a question or the premise of a hypothesis;"
        " null: each text stands alone.",
    )
    max_tokens: int = setting(
        48,
        "Texts are cut after this many tokens; of a pair the longer text first.",
        ge=4,
        le=8192,
    )

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The text, and the one beside it."""
        return (
            (self.text_column,)
            if self.pair_column is None
            else (self.text_column, self.pair_column)
        )

    @property
    def text_limits(self) -> Mapping[str, int]:
        """Each text, and where it is cut."""
        return dict.fromkeys(self.content_columns, self.max_tokens)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from super().problems()
        if self.pair_column == self.text_column:
            yield (
                f"pair_column={self.pair_column} is text_column too; name the column of the other"
                " text."
            )


__all__ = ["TextClassificationConfig"]
