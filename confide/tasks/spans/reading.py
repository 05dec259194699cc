"""Words and their tags, read from records and invented; needs no torch."""

from collections.abc import Sequence

import numpy
from datasets import Dataset

from confide.config.outcomes.spans import SpansConfig
from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.tasks.reading import Problem, holds_half
from confide.tasks.schema import Inputs
from confide.tasks.spans.tagging import ALL_OUTSIDE
from confide.tasks.spans.words import items_of, list_text, words_of

_LETTERS = "aeiounrstlmdk"
_MOST_WORDS = 20
_SHORT, _LONG = 2, 12
_WITHOUT_TOKEN = "\u200d"
"""A zero-width joiner: most tokenizers make nothing of it."""


def read_words(records: Dataset, config: TokenClassificationConfig) -> Inputs:
    """Count records without words, and those whose tags are more or fewer than their words."""
    name = config.words_column
    if name not in records.column_names:
        return Inputs({}, [])
    texts = records[name][:]
    problems = []
    null = numpy.array([text is None for text in texts], dtype=bool)
    if null.any():
        problems.append(
            Problem(
                f"Column {name}: {null.sum()} of {len(texts)} texts are null; write or remove"
                " them.",
                int(numpy.argmax(null)),
            )
        )
    half = numpy.array([text is not None and holds_half(text) for text in texts], dtype=bool)
    if half.any():
        problems.append(
            Problem(
                f"Column {name}: {half.sum()} of {len(texts)} texts hold half of a character (a"
                " surrogate alone); write them again.",
                int(numpy.argmax(half)),
            )
        )
    tags = config.target_columns[0]
    if tags in records.column_names:
        unlike = numpy.array(
            [_differ(text, own, config) for text, own in zip(texts, records[tags][:], strict=True)],
            dtype=bool,
        )
        if unlike.any():
            problems.append(
                Problem(
                    f"Column {tags}: {unlike.sum()} of {len(texts)} records have another number of"
                    f" tags than column {name} has words, as task.words={config.words} counts"
                    " them; write one tag a word, and words that hold blanks as a list.",
                    int(numpy.argmax(unlike)),
                )
            )
    return Inputs({}, problems)


def _differ(text: str | None, tags: str | None, config: TokenClassificationConfig) -> bool:
    if text is None or tags is None or tags == ALL_OUTSIDE:
        return False  # told as what it is
    return len(words_of(text, config)) != len(items_of(tags))


def invent_words(
    config: TokenClassificationConfig, count: int, generator: numpy.random.Generator
) -> dict[str, Sequence[object]]:
    """Invent records: short and long words, some without a token, spans of every type, and none."""
    assert isinstance(config.outcome, SpansConfig)
    rows = [_words(config, generator) for _ in range(count)]
    tags = [_tags(len(row), config.outcome, generator) for row in rows]
    return {
        config.words_column: [list_text(row) for row in rows],
        config.outcome.column: [list_text(row) for row in tags],
    }


def _words(config: TokenClassificationConfig, generator: numpy.random.Generator) -> list[str]:
    made = []
    for _ in range(generator.integers(1, _MOST_WORDS)):
        length = 1 if config.words == "characters" else generator.integers(_SHORT, _LONG)
        made.append("".join(generator.choice(list(_LETTERS), length)))
    if len(made) > _SHORT and config.words != "characters":
        made[int(generator.integers(1, len(made)))] = _WITHOUT_TOKEN
    return made


def _tags(count: int, outcome: SpansConfig, generator: numpy.random.Generator) -> list[str]:
    """Invent tags in the outcome's scheme, or in the numbers that stand for them."""
    signs = {"bio": ("B", "I"), "bmes": ("B", "E"), "bioes": ("B", "E")}[outcome.scheme]
    raw = {tag: value for value, tag in outcome.tag_values.items()}
    made: list[str] = []
    while len(made) < count:
        kind = str(generator.choice(outcome.types))
        alone = signs[0] if outcome.scheme == "bio" else "S"
        choices = [["O"], [f"{alone}-{kind}"], [f"{sign}-{kind}" for sign in signs]]
        made += choices[int(generator.integers(len(choices)))]
    # A span that is cut at the end still begins.
    return [raw.get(tag, tag) for tag in made[:count]]


__all__ = ["invent_words", "read_words"]
