"""Conversations, answered by a causal language model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from confide.config.fields import setting
from confide.config.one_of import OneOf
from confide.config.outcomes.answer import AnswerConfig
from confide.config.outcomes.outcome import LABEL_COLUMN, Labelling, OutcomeConfig
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.task import TaskConfig


@dataclass
class CausalLmConfig(TaskConfig):
    """The answer to a conversation."""

    kind: str = setting("causal_lm", "Kind of task.", choices=("causal_lm",))
    prompt_column: str = setting("prompt", "Column that holds what is asked.")
    context_column: str | None = setting(
        None,
        "Column that holds what a question is asked about, such as input beside instruction: it"
        " follows the question after an empty line, where it is not empty itself; null: none.",
    )
    messages_column: str | None = setting(
        None,
        "Column that holds conversations whole: [{role, content}, ...] or [{from, value}, ...], the"
        " answer last; null: one column for the question and one, task.outcome.column, for the"
        " answer.",
    )
    # Said aloud: templates write one of their own where none is given
    system_message: str | None = setting(
        "You answer questions.",
        "First message of every conversation that brings none of its own; null: none, for chat"
        " templates that know no such role.",
    )
    max_tokens: int = setting(
        128,
        "Question and answer together are cut to this many tokens; a question loses its beginning.",
        ge=8,
        le=8192,
    )
    # A conversation has no other
    outcome: Annotated[OutcomeConfig, OneOf(OUTCOMES)] = field(default_factory=AnswerConfig)

    @property
    def labelling(self) -> Labelling:
        """Where answers are, if they are the last messages of conversations."""
        return Labelling(
            labels=self.labels,
            column=self.messages_column or LABEL_COLUMN,
            values=self.label_values,
            smoothing=self.label_smoothing,
        )

    @property
    def content_columns(self) -> tuple[str, ...]:
        """The conversation, its answer included: the same question may have several."""
        if self.messages_column is not None:
            return (self.messages_column,)
        context = () if self.context_column is None else (self.context_column,)
        return tuple(dict.fromkeys((self.prompt_column, *context, *self.target_columns)))

    @property
    def text_limits(self) -> Mapping[str, int]:
        """The question, or the conversation, and where it is cut."""
        return {self.messages_column or self.prompt_column: self.max_tokens}

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from super().problems()
        if not isinstance(self.outcome, AnswerConfig):  # told by the table of tasks
            return
        if self.outcome.max_tokens >= self.max_tokens:
            yield (
                f"outcome.max_tokens={self.outcome.max_tokens}: expected less than"
                f" max_tokens={self.max_tokens}, which question and answer share; raise that."
            )
        if self.context_column is not None and (
            self.messages_column is not None
            or self.context_column in (self.prompt_column, self.outcome.column)
        ):
            yield (
                f"context_column={self.context_column}: expected a third column beside"
                f" prompt_column={self.prompt_column} and outcome.column={self.outcome.column},"
                " and no messages_column, whose conversations are whole; null where there is none."
            )
        if self.messages_column is None and self.outcome.column == self.prompt_column:
            yield (
                f"outcome.column={self.outcome.column} is prompt_column; name another column, or"
                " messages_column for whole conversations."
            )


__all__ = ["CausalLmConfig"]
