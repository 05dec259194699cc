"""Settings of transcripts: what is said in a recording, character by character."""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import Labelling, LossBounds, OutcomeConfig
from confide.metrics.metric import Metric
from confide.metrics.outcomes.transcripts import transcript_metrics

_CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"
_LONGEST, _MOST_CHARACTERS = 128, 8192
BLANK = "<blank>"
"""What a model names where it writes nothing."""


@dataclass
class TranscriptConfig(OutcomeConfig):
    """What is said, written in characters of a public list."""

    metrics: ClassVar[Mapping[str, Metric]] = transcript_metrics(_LONGEST)
    linear_model: ClassVar[str] = "a linear recogniser"

    kind: str = setting(
        "transcript", "Chosen by its group: task/outcome=transcript.", choices=("transcript",)
    )
    column: str = setting("text", "Column that holds what is said.")
    characters: str = setting(
        _CHARACTERS,
        "Characters that a model may write, the blank between words among them: a public list,"
        " never what occurs in the records. Any other in a text is never written, and counts as an"
        " error.",
    )
    lowercase: bool = setting(
        True, "Whether texts are read in lower case, before they are learnt and scored."
    )
    max_characters: int = setting(_LONGEST, "Most characters of a text.", ge=1, le=2048)

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics; under noise they know how long a text can be."""
        return transcript_metrics(self.max_characters)

    def written(self, text: str) -> str:
        """Return a text as it is learnt and scored: composed, in its case, single blanks alone.

        >>> TranscriptConfig().written(" Three  SEVEN ")
        'three seven'
        """
        cased = text.lower() if self.lowercase else text
        # After the case: of some letters lower case is two characters that are one composed
        return " ".join(unicodedata.normalize("NFC", cased).split())

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the column of texts."""
        return (self.column,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name what a model gives a number for in every frame: no character, and each of them."""
        return (BLANK, *self.characters)

    def label_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Return (): there is one text a record, and no classes."""
        return ()

    def bounds(self, labelling: Labelling) -> LossBounds | None:
        """Return None: no linear model of a record as a whole has this loss."""
        return None

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Say what it writes."""
        return f"{purpose} in {records}, in {len(self.characters)} characters"

    def intended(self, labelling: Labelling) -> str:
        """Say what to use it for."""
        return (
            "draft transcripts of recordings like those of the institutions that took part, for"
            " somebody who listens to them"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself in the list of characters."""
        shown = f"characters={self.characters!r}"
        if not self.characters.strip() or len(self.characters) > _MOST_CHARACTERS:
            yield f"{shown[:60]}: expected at least one letter, and at most {_MOST_CHARACTERS:,}."
        if len(set(self.characters)) != len(self.characters):
            twice = next(one for one in self.characters if self.characters.count(one) > 1)
            yield f"{shown}: {twice!r} is there twice; leave it out once."
        # Such as capitals, a line's end, or a letter and its accent apart
        never = [one for one in self.characters if one != " " and self.written(one) != one]
        if never:
            yield (
                f"{shown}: no text that is read holds {never[0]!r} (lowercase={self.lowercase},"
                " NFC, single blanks); leave it out."
            )


__all__ = ["BLANK", "TranscriptConfig"]
