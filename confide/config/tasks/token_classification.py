"""Words with a tag each: named entities, and other spans in texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from confide.config.fields import setting
from confide.config.one_of import OneOf
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.spans import SpansConfig
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.task import TaskConfig


@dataclass
class TokenClassificationConfig(TaskConfig):
    """Spans in a sequence of words."""

    kind: str = setting("token_classification", "Kind of task.", choices=("token_classification",))
    words_column: str = setting(
        "words", "Column of the words: a list, or text in which blanks separate them."
    )
    words: str = setting(
        "separated",
        "What a word is. separated: an item of the list, or what stands between blanks; characters:"
        " each character that is no blank.",
        choices=("separated", "characters"),
    )
    unknown: str = setting(
        "unknown_token",
        "Words that the tokenizer does not know. unknown_token: its token for these; hashed: one a"
        " character, by code point, the same everywhere (docs/tasks.md).",
        choices=("unknown_token", "hashed"),
    )
    max_tokens: int = setting(64, "Records are cut after this many tokens.", ge=8, le=8192)
    outcome: Annotated[OutcomeConfig, OneOf(OUTCOMES)] = field(default_factory=SpansConfig)

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The words."""
        return (self.words_column,)

    @property
    def text_limits(self) -> Mapping[str, int]:
        """The words, and where they are cut."""
        return {self.words_column: self.max_tokens}


__all__ = ["TokenClassificationConfig"]
