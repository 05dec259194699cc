"""Settings of labelled spans in sequences of words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import Labelling, LossBounds, OutcomeConfig, listed
from confide.config.spelling import repeats
from confide.metrics.metric import Metric
from confide.metrics.outcomes.spans import span_metrics

SCHEMES = ("bio", "bmes", "bioes")
"""Ways to write spans as one tag a word."""
_MOST = 8


@dataclass
class SpansConfig(OutcomeConfig):
    """Spans of words, each of a type, such as names of people and places."""

    metrics: ClassVar[Mapping[str, Metric]] = span_metrics((), _MOST)
    linear_model: ClassVar[str] = "a logistic regression of each word"

    kind: str = setting("spans", "Chosen by its group: task/outcome=spans.", choices=("spans",))
    types: list[str] = setting(list, "Types of spans, as tags name them: person for B-person.")
    column: str = setting("tags", "Column of the tags, one a word: a list, or separated by blanks.")
    scheme: str = setting(
        "bio",
        "How tags write spans. bio: B- begins one, I- goes on; bmes: B- M- E-, and S- for one word;"
        " bioes: B- I- E-, and S-. O is no span. A word that goes on where nothing began begins.",
        choices=SCHEMES,
    )
    tag_values: dict[str, str] = setting(
        dict, "Raw value -> tag, where tags are numbers; empty: values are tags."
    )
    most: int = setting(
        _MOST,
        "Spans of a record that count in metrics with noise; in a record with more, so many.",
        ge=1,
        le=10_000,
    )

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics, of tallies as wide as the types make them."""
        return span_metrics(tuple(self.types), self.most)

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the column of tags."""
        return (self.column,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the tags, whichever scheme records have: O, then B- and I- of each type."""
        return ("O", *(f"{sign}-{one}" for one in self.types for sign in "BI"))

    def bounds(self, labelling: Labelling) -> LossBounds:
        """Return those of softmax cross entropy, of which the loss is a mean over words."""
        return LossBounds(smoothness=0.5, gradient=2.0**0.5, noise=2.0**0.5)

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Name the types."""
        return f"Finds {listed([f'“{one}”' for one in self.types])} in {records}"

    def intended(self, labelling: Labelling) -> str:
        """Name the types."""
        return (
            f"find {', '.join(self.types)} in records of the same kind, from institutions like"
            " those that took part"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if not self.types or repeats(self.types) or not all(one.strip() for one in self.types):
            yield f"types={self.types}: expected distinct names, at least one."


__all__ = ["SCHEMES", "SpansConfig"]
