"""Metrics of transcripts: what a model writes of a recording, beside what was said.

Word and character error rates are edits over words, or characters, that were said, summed over all
records (Levenshtein, "Binary codes capable of correcting deletions, insertions and reversals",
1966): those of some institutions together follow from their sums, and a mean of rates is another
number. More may be written than was said, so that a rate may be above 1.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from confide.metrics.metric import Metric, table
from confide.metrics.pooling import total
from confide.metrics.sums import Figures, Sums, ratio

# Configs hold tables of metrics, and need no numpy.
if TYPE_CHECKING:
    from collections.abc import Hashable

_WORDS, _CHARACTERS = ("word_edits", "words"), ("character_edits", "characters")
_OF_RECORDS = ("records", "loss", "exact")
EDITS = (*_WORDS, *_CHARACTERS)
"""What a record adds to error rates: edits and what was said, in words and in characters."""
FIGURES = (*EDITS, *_OF_RECORDS)
"""What a record adds."""
_LARGEST_LOSS = 10.0
"""Nats a character that a record adds at most once sums leave with noise."""
_LARGEST = math.inf
"""A network that writes nothing yet has hundreds of nats a character, one that babbles more edits
than there are words: a reply that says so is a valid one."""


@functools.lru_cache(maxsize=64)
def transcript_metrics(longest: int) -> Mapping[str, Metric]:
    """Return the metrics of texts of at most so many characters, by name; words decide."""
    characters = float(longest)
    words = float((longest + 1) // 2)
    most = (words, words, characters, characters, 1.0, _LARGEST_LOSS, 1.0)
    figures = Figures(most=dict(zip(FIGURES, most, strict=True)))
    by_record = functools.partial(figures.metric, of=_OF_RECORDS, statistic="transcripts")
    words_said, characters_said = said_metrics(figures)
    return table(
        *error_rates(figures),
        by_record("exact_match", "max", ratio({"exact": 1}, {"records": 1})),
        by_record("transcript_loss", "min", ratio({"loss": 1}, {"records": 1}), largest=_LARGEST),
        words_said,
        characters_said,
    )


def error_rates(figures: Figures) -> tuple[Metric, Metric]:
    """Return word and character error rate of tallies that hold :data:`EDITS`."""
    # Apart, so that whoever names one of them gets less noise
    return (
        figures.metric(
            "wer",
            "min",
            ratio({"word_edits": 1}, {"words": 1}),
            of=_WORDS,
            statistic="words",
            largest=_LARGEST,
            weighed_by="said_words",
        ),
        figures.metric(
            "cer",
            "min",
            ratio({"character_edits": 1}, {"characters": 1}),
            of=_CHARACTERS,
            statistic="characters",
            largest=_LARGEST,
            weighed_by="said_characters",
        ),
    )


def said_metrics(figures: Figures) -> tuple[Metric, Metric]:
    """Return how many words and characters were said, so that rates count by them."""
    pairs = (("words", _WORDS), ("characters", _CHARACTERS))
    words, characters = (
        replace(
            figures.metric(
                f"said_{name}",
                "max",
                functools.partial(_counted, name),
                of=of,
                statistic=name,
                largest=2.0**53,
            ),
            pool_fn=total,
        )
        for name, of in pairs
    )
    return words, characters


def _counted(name: str, sums: Sums) -> float:
    return max(sums[name], 0.0)


def edit_counts(written: str, said: str) -> list[int]:
    """Return what one text adds to :data:`EDITS`."""
    words = written.split(), said.split()
    return [edits(*words), len(words[1]), edits(written, said), len(said)]


def edits(written: "Sequence[Hashable]", said: "Sequence[Hashable]") -> int:
    """Return the fewest items to insert, leave out or replace that make one sequence the other.

    >>> edits("kitten", "sitting")
    3
    """
    import numpy

    number = {item: place for place, item in enumerate(dict.fromkeys([*written, *said]))}
    row = numpy.array([number[item] for item in written], dtype=numpy.int64)
    places = numpy.arange(len(row) + 1)
    found = places.copy()
    for count, item in enumerate(said, start=1):
        replaced = numpy.minimum(found[1:] + 1, found[:-1] + (row != number[item]))
        # What is inserted, all places at once: the least of all that stand before
        found = numpy.minimum.accumulate(numpy.append(count, replaced) - places) + places
    return int(found[-1])


__all__ = [
    "EDITS",
    "FIGURES",
    "edit_counts",
    "edits",
    "error_rates",
    "said_metrics",
    "transcript_metrics",
]
