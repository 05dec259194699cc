"""Texts to write from, read without a tokenizer, and invented ones.

Needs no torch.
"""

from collections.abc import Sequence

import numpy
from datasets import Dataset

from confide.config.tasks.sequence_to_sequence import SequenceToSequenceConfig
from confide.tasks.reading import Problem, first
from confide.tasks.schema import Inputs

_LETTERS = "aeiounrstlmdk"
_LONGEST_WORD, _MOST_WORDS = 7, 12


def read_sources(records: Dataset, config: SequenceToSequenceConfig) -> Inputs:
    """Count texts to write from that are missing or have no word."""
    name = config.source_column
    if name not in records.column_names:
        return Inputs({}, [])
    texts = records[name][:]
    blank = numpy.array([text is None or not str(text).strip() for text in texts], dtype=bool)
    problems = []
    if blank.any():
        told = (
            f"Column {name}: {blank.sum()} of {len(texts)} texts are empty; write or remove them."
        )
        problems.append(Problem(told, first(blank)))
    return Inputs({}, problems)


def invented_texts(
    config: SequenceToSequenceConfig, count: int, generator: numpy.random.Generator
) -> dict[str, Sequence[object]]:
    """Invent texts, and others to be written from them, of unlike lengths."""
    return {
        name: [invented_text(generator) for _ in range(count)] for name in config.content_columns
    }


def invented_text(generator: numpy.random.Generator) -> str:
    """Invent a text of a few words."""
    lengths = generator.integers(1, _LONGEST_WORD, size=generator.integers(1, _MOST_WORDS))
    return " ".join("".join(generator.choice(list(_LETTERS), length)) for length in lengths)


__all__ = ["invented_text", "invented_texts", "read_sources"]
