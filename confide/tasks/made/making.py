"""Records that are made of a source's rows: of a user's interactions, of a machine's readings.

Whoever has the rows makes the records, in one way that the task's settings fix, before units are
known or splits drawn. Needs no torch.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy
import pandas
from datasets import Dataset

from confide.config.custom import implementation
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.tasks.reading import Problem, distinct_of, first, parse_number

MOST_VALUES = 2**28
"""Values in all records of a source; a plan may ask for records that no memory holds."""


class Made(NamedTuple):
    """Records that were made.

    Attributes:
        records: with the task's content and target columns, and those that were carried over.
        problems: what is wrong with the rows; then there are no records.
        notes: what whoever owns the rows should know.
    """

    records: Dataset
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()


MakeFn = Callable[[Dataset, Any, Sequence[str]], Made]
"""Rows, schema, columns that stay with a record -> records. Rows that differ in a column that stays
are not put into one record."""


def make_records(rows: Dataset, task: TaskConfig, carried: Sequence[str] = ()) -> Made:
    """Make the records of a task whose sources hold something else."""
    make: MakeFn = implementation(str(TASKS[task.kind].maker))
    return make(rows, task, carried)


def to_predict(rows: Dataset, task: TaskConfig) -> Made:
    """Make the records whose targets nobody knows yet: one of each user, or of each series."""
    make: MakeFn = implementation(f"{TASKS[task.kind].maker}_to_predict")
    return make(rows, task, ())


def too_many(fix: str) -> Problem:
    """Return that records would hold more values than memory may be asked for."""
    return Problem(f"The records made would hold more than {MOST_VALUES:,} values; {fix}.")


def null_problem(rows: Dataset, column: str) -> Problem | None:
    """Return that values of a column are null; None if none is."""
    null = numpy.array([value is None or not str(value).strip() for value in rows[column][:]])
    if not null.any():
        return None
    return Problem(
        f"Column {column}: {null.sum()} of {len(null)} values are null; fill them in or remove"
        " these rows.",
        first(null),
    )


def read_times(column: str, values: Sequence[object]) -> tuple[pandas.Series, Problem | None]:
    """Read times: numbers, or dates and times in ISO 8601, the whole column alike.

    Returns:
        Numbers as they are, dates as seconds since 1970 (without a zone: UTC), NaN where neither;
        and what is wrong.
    """
    codes, distinct = distinct_of(values)
    text = [str(value).strip() for value in distinct]
    numbers = numpy.array([parse_number(value) for value in text])
    if numpy.isnan(numbers).any():
        dates = pandas.to_datetime(
            pandas.Series(text, dtype=str), format="ISO8601", errors="coerce", utc=True
        )
        # Numbers among dates would be other moments than they say: what fewer values are not, is
        # what the column is not.
        seconds = (dates - pandas.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy()
        seconds = numpy.where(numpy.isnan(numbers), seconds, numpy.nan)
        unread = [int(numpy.isnan([*it, numpy.nan])[codes].sum()) for it in (numbers, seconds)]
        numbers = seconds if unread[1] < unread[0] else numbers
    read = numpy.array([*numbers, numpy.nan])[codes]
    wrong = numpy.isnan(read)
    if not wrong.any():
        return pandas.Series(read), None
    return pandas.Series(read), Problem(
        f"Column {column}: {wrong.sum()} of {len(read)} values are not times; write all of them as"
        " numbers, or all as dates such as 2026-11-29T08:00.",
        first(wrong),
    )


__all__ = [
    "MOST_VALUES",
    "Made",
    "MakeFn",
    "make_records",
    "null_problem",
    "read_times",
    "to_predict",
    "too_many",
]
