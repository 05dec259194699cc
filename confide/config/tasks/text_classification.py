"""Texts with one outcome each."""

from collections.abc import Mapping
from dataclasses import dataclass

from confide.config.fields import setting
from confide.config.tasks.task import TaskConfig


@dataclass
class TextClassificationConfig(TaskConfig):
    """One outcome for one text."""

    kind: str = setting("text_classification", "Kind of task.", choices=("text_classification",))
    text_column: str = setting("text", "Column that holds the text.")
    max_tokens: int = setting(48, "Texts are cut after this many tokens.", ge=4, le=8192)

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The text."""
        return (self.text_column,)

    @property
    def text_limits(self) -> Mapping[str, int]:
        """The text, and where it is cut."""
        return {self.text_column: self.max_tokens}


__all__ = ["TextClassificationConfig"]
