"""Invented records of a task's form, for checks that need no real ones."""

import numpy
from datasets import Dataset

from confide.config.task import ColumnConfig, TabularConfig, TaskConfig, TextClassificationConfig

_LETTERS = "aeiounrstlmdk"
_LONGEST_WORD, _MOST_WORDS = 7, 40


def synthetic_records(config: TaskConfig, count: int) -> Dataset:
    """Invent records: every category, numbers over the whole range, values that are missing, texts of unlike lengths.

    Args:
        config: the task.
        count: how many.

    Returns:
        Inputs as text, without labels; the same at each call.
    """
    generator = numpy.random.default_rng(0)
    if isinstance(config, TabularConfig):
        return Dataset.from_dict(
            {name: _cells(column, count, generator) for name, column in config.columns.items()}
        )
    assert isinstance(config, TextClassificationConfig)
    return Dataset.from_dict({config.text_column: [_text(generator) for _ in range(count)]})


def _cells(column: ColumnConfig, count: int, generator: numpy.random.Generator) -> list[str | None]:
    if column.kind == "categorical":
        cells = [str(category) for category in generator.choice(column.categories, count)]
    else:
        assert column.minimum is not None
        assert column.maximum is not None
        cells = [str(number) for number in generator.uniform(column.minimum, column.maximum, count)]
    return [None if generator.random() < 0.1 else cell for cell in cells]


def _text(generator: numpy.random.Generator) -> str:
    lengths = generator.integers(1, _LONGEST_WORD, size=generator.integers(0, _MOST_WORDS))
    return " ".join("".join(generator.choice(list(_LETTERS), length)) for length in lengths)


__all__ = ["synthetic_records"]
