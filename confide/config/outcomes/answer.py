"""Settings of answers: what somebody said next in a conversation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import (
    LABEL_COLUMN,
    Labelling,
    LossBounds,
    OutcomeConfig,
    smoothing_problems,
)
from confide.metrics.metric import Metric
from confide.metrics.outcomes.answers import answer_metrics

_TOKENS = 48


@dataclass
class AnswerConfig(OutcomeConfig):
    """The answer to a conversation, word by word."""

    metrics: ClassVar[Mapping[str, Metric]] = answer_metrics(_TOKENS)
    linear_model: ClassVar[str] = "a language model"
    is_written: ClassVar[bool] = True

    kind: str = setting("answer", "Chosen by its group: task/outcome=answer.", choices=("answer",))
    column: str = setting(
        "answer",
        "Column that holds the answer; not read where task.messages_column holds conversations"
        " whole.",
    )
    max_tokens: int = setting(
        _TOKENS, "Answers are cut after this many tokens, their end among them.", ge=1, le=8192
    )

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics; under noise they know how long an answer can be."""
        return answer_metrics(self.max_tokens)

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the column of answers, or that of whole conversations, whose last message it is."""
        return (self.column if labelling.column == LABEL_COLUMN else labelling.column,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the answer: there is no number for a record as a whole."""
        return (self.kind,)

    def bounds(self, labelling: Labelling) -> LossBounds | None:
        """Return None: no model of it is linear."""
        return None

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Say what it writes."""
        return f"Answers {records}, in at most {self.max_tokens} tokens"

    def intended(self, labelling: Labelling) -> str:
        """Say what to use it for."""
        return (
            "draft answers to conversations like those of the institutions that took part, for"
            " somebody who reads them before they are sent"
        )

    def labelling_problems(self, labelling: Labelling) -> Iterator[str]:
        """Yield that classes are named, which answers have none of."""
        if labelling.labels or labelling.values:
            yield (
                f"labels={list(labelling.labels)}: these are settings of outcome=classes, and this"
                f" task has outcome.kind={self.kind}; leave them out."
            )
        yield from smoothing_problems(self.kind, labelling)


__all__ = ["AnswerConfig"]
