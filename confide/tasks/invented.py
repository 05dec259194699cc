"""Invented records of a task's form, for checks that need no real ones.

Raw records, before they are encoded: what encodes them is checked too. Needs no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy
from datasets import Dataset

from confide.config.custom import implementation
from confide.config.tasks.table import TASKS
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.config.tasks.text_classification import TextClassificationConfig

InventFn = Callable[[Any, int, numpy.random.Generator], Mapping[str, Sequence[object]]]
"""Schema, number of records, generator -> input column -> values."""

_LETTERS = "aeiounrstlmdk"
_LONGEST_WORD, _MOST_WORDS = 7, 12


def invented_records(config: TaskConfig, count: int) -> Dataset:
    """Invent records that differ: every category, missing values, texts of unlike lengths.

    Args:
        config: the task.
        count: how many.

    Returns:
        Inputs as text, without labels; the same at each call.
    """
    return Dataset.from_dict(invented_columns(config, count, numpy.random.default_rng(0)))


def invented_columns(
    config: TaskConfig, count: int, generator: numpy.random.Generator
) -> dict[str, Sequence[object]]:
    """Invent columns of records; a kind whose targets belong to its inputs invents these too."""
    invent: InventFn = implementation(TASKS[config.kind].inventor)
    return dict(invent(config, count, generator))


def rows(
    config: TabularConfig, count: int, generator: numpy.random.Generator
) -> dict[str, list[str | None]]:
    """Invent rows of a table."""
    table: dict[str, list[str | None]] = {}
    for name, column in config.columns.items():
        if column.kind == "categorical":
            drawn = generator.choice(column.categories, count)
        else:
            assert column.minimum is not None
            assert column.maximum is not None
            drawn = generator.uniform(column.minimum, column.maximum, count)
        # Some cells stay empty, since encoding a missing value is a way of its own.
        table[name] = [None if generator.random() < 0.1 else str(cell) for cell in drawn]
    return table


def texts(
    config: TextClassificationConfig, count: int, generator: numpy.random.Generator
) -> dict[str, list[str]]:
    """Invent texts."""
    return {name: [_text(generator) for _ in range(count)] for name in config.content_columns}


def _text(generator: numpy.random.Generator) -> str:
    lengths = generator.integers(1, _LONGEST_WORD, size=generator.integers(0, _MOST_WORDS))
    return " ".join("".join(generator.choice(list(_LETTERS), length)) for length in lengths)


__all__ = ["InventFn", "invented_columns", "invented_records", "rows", "texts"]
