"""Settings of texts that are written from others, such as translations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.answer import AnswerConfig
from confide.config.outcomes.outcome import LABEL_COLUMN, Labelling
from confide.metrics.metric import Metric
from confide.metrics.outcomes.texts import text_metrics

_TOKENS = 64


@dataclass
class TextConfig(AnswerConfig):
    """A text that is written from another, word by word."""

    metrics: ClassVar[Mapping[str, Metric]] = text_metrics(_TOKENS)
    linear_model: ClassVar[str] = "a sequence-to-sequence model"

    kind: str = setting("text", "Chosen by its group: task/outcome=text.", choices=("text",))
    column: str = setting("target", "Column that holds the text to be written.")
    max_tokens: int = setting(
        _TOKENS, "Texts are cut after this many tokens, their end among them.", ge=1, le=8192
    )

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics; under noise they know how long a text can be."""
        return text_metrics(self.max_tokens)

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the column of texts."""
        return (self.column,)

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Say what it writes."""
        return f"{purpose}, in at most {self.max_tokens} tokens"

    def intended(self, labelling: Labelling) -> str:
        """Say what to use it for."""
        return (
            "draft texts from others like those of the institutions that took part, for somebody"
            " who reads both"
        )

    def labelling_problems(self, labelling: Labelling) -> Iterator[str]:
        """Yield that classes or a label column are named, which it has none of."""
        yield from super().labelling_problems(labelling)
        if labelling.column != LABEL_COLUMN:
            yield (
                f"label_column={labelling.column}: texts to be written stand in outcome.column;"
                " name it there."
            )


__all__ = ["TextConfig"]
