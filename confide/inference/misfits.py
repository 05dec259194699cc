"""Records that do not fit a model's schema: which, and what is wrong with each."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy
from datasets import Dataset

from confide.config.spelling import counted, written
from confide.config.tasks.task import TaskConfig
from confide.tasks.reading import Problem
from confide.tasks.schema import LACKING, whole_columns
from confide.tasks.task import ListsProblems, Task

_SHOWN = 10
"""Records that a problem names; of more, their number is told."""
_LONGEST = 40
"""Characters of a value that are told."""

FoundFn = Callable[[int, int], bool]
"""Says whether something is wrong with the records from one position to before another."""


class Misfits(NamedTuple):
    """What does not fit.

    Attributes:
        reasons: position of each record that does not fit -> what is wrong with it.
        general: problems that no single record shows.
    """

    reasons: Mapping[int, str]
    general: Sequence[str]


def told_problems(
    task: Task, config: TaskConfig, records: Dataset, places: Sequence[str]
) -> list[str]:
    """List what does not fit, each problem with the records and values that it is found in.

    Args:
        task: whose schema.
        config: of the task.
        records: the columns that there are.
        places: where each record is; empty: they are known by their numbers.
    """
    told = []
    for problem in _problems(task, records):
        column = _column(problem.text)
        if problem.where is not None:
            every = numpy.flatnonzero(problem.where).tolist()
            some, more = every[:_SHOWN], len(every) - _SHOWN
            rest = f" and {counted(more, 'record')} more" if more > 0 else ""
        else:
            found = searched(_wrong(task, records, column), 0, len(records))
            some = list(itertools.islice(found, _SHOWN + 1))
            rest = " and more" if len(some) > _SHOWN else ""
            some = some[:_SHOWN]
        if not some:  # a custom check may find what no single record shows
            told.append(problem.text)
            continue
        cells = _cells(records, config, column)
        first, *others = (
            (places[one] if places else f"record {one + 1}") + _value(cells, one) for one in some
        )
        then = f", then {', '.join(others)}" if others else ""
        told.append(f"{problem.text} First in {first}{then}{rest}.")
    return told


def misfits_of(task: Task, config: TaskConfig, records: Dataset) -> Misfits:
    """Find every record that does not fit.

    Args:
        task: whose schema.
        config: of the task.
        records: with all columns.
    """
    reasons: dict[int, list[str]] = defaultdict(list)
    general: Sequence[str] = []
    for problem in _problems(task, records):
        if problem.where is None:
            continue
        column = _column(problem.text)
        cells = _cells(records, config, column)
        for record in numpy.flatnonzero(problem.where).tolist():
            reasons[record].append(f"{column}{_value(cells, record)}: {problem.why}")
    left = [place for place in range(len(records)) if place not in reasons]
    others = records.select(left)
    alone = list(searched(_wrong(task, others, None), 0, len(others))) if left else []
    for place in alone:
        reasons[left[place]].extend(task.check(others.select([place])))
    fitting = [place for place in left if place not in reasons]
    if fitting:
        general = task.check(records.select(fitting))
    return Misfits({record: "; ".join(reasons[record]) for record in sorted(reasons)}, general)


def _problems(task: Task, records: Dataset) -> list[Problem]:
    """List what does not fit, but for columns that are missing, which the caller knows of."""
    texts = [text for text in task.check(records) if not text.startswith(LACKING)]
    known = {}
    if texts and isinstance(task, ListsProblems):
        known = {problem.text: problem for problem in task.problems(records)}
    # A check of one's own may find more
    return [known.get(text, Problem(text)) for text in texts]


def _wrong(task: Task, records: Dataset, column: str | None) -> FoundFn:
    """Return what looks for problems of a column, or any problem, in a part of the records."""

    def found(start: int, end: int) -> bool:
        texts = [
            text
            for text in task.check(records.select(range(start, end)))
            if not text.startswith(LACKING)
        ]
        return any(column is None or _column(text) == column for text in texts)

    return found


def searched(found: FoundFn, start: int, end: int) -> Iterator[int]:
    """Yield in order each single record that something is wrong with.

    By halving, since a task's check counts and keeps no numbers.

    Args:
        found: is asked.
        start: first position.
        end: position behind the last one.
    """
    if start == end or not found(start, end):
        return
    if end - start == 1:
        yield start
        return
    middle = (start + end) // 2
    yield from searched(found, start, middle)
    yield from searched(found, middle, end)


def _column(text: str) -> str:
    return text.partition(":")[0].removeprefix("Column ")


def _cells(records: Dataset, config: TaskConfig, column: str) -> Sequence[object]:
    """Return the values of a column that are short, and no files; () of any other column."""
    short = {*config.table_columns, *config.target_columns}
    if column not in short or column not in records.column_names:
        return ()
    return list(whole_columns(records, [column])[column].to_pylist())


def _value(cells: Sequence[object], record: int) -> str:
    """Quote a value; "" where there is none to quote, or it is long."""
    cell = cells[record] if cells else None
    if cell is None or len(str(cell)) > _LONGEST:
        return ""
    return f" ({written(str(cell))})"


__all__ = ["Misfits", "misfits_of", "searched", "told_problems"]
