"""Texts that are written from others: translations, summaries, plain words for a report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from confide.config.fields import setting
from confide.config.one_of import OneOf
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.table import OUTCOMES
from confide.config.outcomes.text import TextConfig
from confide.config.tasks.task import TaskConfig


@dataclass
class SequenceToSequenceConfig(TaskConfig):
    """A text, written from another."""

    kind: str = setting("sequence_to_sequence", "Kind of task.", choices=("sequence_to_sequence",))
    source_column: str = setting("source", "Column that holds the text to write from.")
    max_tokens: int = setting(
        64, "Texts to write from are cut after this many tokens.", ge=4, le=8192
    )
    # A text has no other
    outcome: Annotated[OutcomeConfig, OneOf(OUTCOMES)] = field(default_factory=TextConfig)

    @property
    def content_columns(self) -> tuple[str, ...]:
        """Both texts: the same one may be written anew in several ways."""
        return tuple(dict.fromkeys((self.source_column, *self.target_columns)))

    @property
    def text_limits(self) -> Mapping[str, int]:
        """The text to write from, and where it is cut."""
        return {self.source_column: self.max_tokens}

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from super().problems()
        if isinstance(self.outcome, TextConfig) and self.outcome.column == self.source_column:
            yield (
                f"outcome.column={self.outcome.column} is source_column; name the column of the"
                " text to be written."
            )


__all__ = ["SequenceToSequenceConfig"]
