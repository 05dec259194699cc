"""What is kept of one variable: a column, a prediction, a label.

Of numbers an exact sorted sample, of categories their counts. Both are records' content, and stay
where the records are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from confide.config.tasks.columns import ColumnConfig
from confide.held import parse_held
from confide.tasks.reading import parse_number
from confide.tasks.schema import Column

Floats = NDArray[numpy.float64]
MISSING, UNSEEN, ODD = "no value", "unseen category", "not a number"
"""Bins of what is no value of a variable."""
MOST_VALUES = 10_000
"""Most values of a variable that are kept; of more, a sample."""
_MOST_CATEGORIES = 30
_FEW_NUMBERS = 12
"""Distinct numbers up to which they are categories, such as counts and codes."""
_OTHERS = "all others"


@dataclass(frozen=True, eq=False)
class Numbers:
    """A variable of numbers.

    Attributes:
        values: sorted, float64 of shape [m]; of more than MOST_VALUES a sample.
        records: number of records that it was read of.
        missing: of these, how many have no value.
        odd: of these, how many have a value that is no number.
        measures_length: whether the numbers are lengths of texts, in characters.
    """

    values: Floats
    records: int
    missing: int = 0
    odd: int = 0
    measures_length: bool = False

    @property
    def present(self) -> int:
        """Number of records with a number."""
        return self.records - self.missing - self.odd


@dataclass(frozen=True, eq=False)
class Categories:
    """A variable of categories.

    Attributes:
        counts: category -> records, those without a value and of unseen categories among them.
    """

    counts: Mapping[str, int]

    @property
    def records(self) -> int:
        """Number of records that it was read of."""
        return sum(self.counts.values())

    @property
    def missing(self) -> int:
        """Number of records without a value."""
        return self.counts.get(MISSING, 0)

    @property
    def present(self) -> int:
        """Number of records with a value."""
        return self.records - self.missing


Kept = Numbers | Categories


def numbers_of(
    values: Floats, rng: numpy.random.Generator, *, missing: int = 0, odd: int = 0
) -> Numbers:
    """Keep numbers, none of them NaN."""
    records = len(values) + missing + odd
    if len(values) > MOST_VALUES:
        values = rng.choice(values, MOST_VALUES, replace=False)
    return Numbers(numpy.sort(values.astype(numpy.float64)), records, missing, odd)


def column_kept(config: ColumnConfig, read: Column, rng: numpy.random.Generator) -> Kept:
    """Keep a column of a table, as its schema reads it."""
    missing = read.missing.to_numpy(dtype=bool)
    values = read.values.to_numpy()
    if config.kind == "numeric":
        odd = numpy.isnan(values) & ~missing
        there = values[~missing & ~odd]
        return numbers_of(there, rng, missing=int(missing.sum()), odd=int(odd.sum()))
    counts = {
        name: int((values[~missing] == at).sum()) for at, name in enumerate(config.categories)
    }
    unseen = int((~missing).sum()) - sum(counts.values())
    return Categories({**counts, **_nonzero({MISSING: int(missing.sum()), UNSEEN: unseen})})


def unusable_rows(config: ColumnConfig, read: Column) -> NDArray[numpy.bool_]:
    """Say which records have a value that the schema refuses, bool of shape [n]."""
    missing, values = read.missing.to_numpy(dtype=bool), read.values.to_numpy()
    refused: NDArray[numpy.bool_] = numpy.isnan(values) if config.kind == "numeric" else values < 0
    refused &= ~missing
    return refused


def cells_kept(
    cells: Sequence[object], rng: numpy.random.Generator, *, like: Kept | None = None
) -> Kept | None:
    """Keep cells of any kind: numbers, categories, or lengths of texts where nearly each differs.

    Args:
        cells: values of a column, of labels or of predictions.
        rng: draws samples.
        like: what was kept of the reference, whose form is taken; None: the cells decide.

    Returns:
        None where they are files, of which a model's features tell more.
    """
    # NaN, the one value that is unlike itself, is how a frame says that there is none
    there = [cell for cell in cells if cell is not None and cell != "" and cell == cell]
    if any(parse_held(cell) is not None for cell in there[:1]):
        return None
    missing = len(cells) - len(there)
    numbers = numpy.array([_number(cell) for cell in there], dtype=numpy.float64)
    are_numbers = bool(len(there)) and not numpy.isnan(numbers).any()
    if like is None:
        distinct = len({str(cell) for cell in there})
        is_numbers = are_numbers and distinct > _FEW_NUMBERS
        is_length = not are_numbers and distinct > _MOST_CATEGORIES
    else:
        is_length = isinstance(like, Numbers) and like.measures_length
        is_numbers = isinstance(like, Numbers) and not is_length
    if is_length:
        lengths = numpy.array([len(str(cell)) for cell in there], dtype=numpy.float64)
        made = numbers_of(lengths, rng, missing=missing)
        return Numbers(made.values, made.records, made.missing, measures_length=True)
    if is_numbers:
        odd = numpy.isnan(numbers)
        return numbers_of(numbers[~odd], rng, missing=missing, odd=int(odd.sum()))
    counted = Counter(
        str(it) if numpy.isnan(number) else f"{number:g}"
        for it, number in zip(there, numbers.tolist(), strict=True)
    )
    common = dict(counted.most_common(10 * _MOST_CATEGORIES))
    rest = len(there) - sum(common.values())
    return Categories({**common, **_nonzero({_OTHERS: rest, MISSING: missing})})


def _number(cell: object) -> float:
    if isinstance(cell, bool | numpy.bool_):
        return float("nan")
    if isinstance(cell, int | float | numpy.number):
        return float(cell)
    return parse_number(cell) if isinstance(cell, str) else float("nan")


def _nonzero(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


__all__ = [
    "MISSING",
    "MOST_VALUES",
    "ODD",
    "UNSEEN",
    "Categories",
    "Floats",
    "Kept",
    "Numbers",
    "cells_kept",
    "column_kept",
    "numbers_of",
    "unusable_rows",
]
