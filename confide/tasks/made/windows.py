"""Windows of series, made of a table with a row for each reading.

Which rows become records follows from the unit's own rows alone: those of its block, or of its
series where there are no blocks. A row more in one block moves no window of another. Needs no
torch.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import uuid4

import numpy
import pandas
import pyarrow
from datasets import Dataset
from numpy.typing import NDArray

from confide.config.outcomes.forecast import AHEAD, ForecastConfig
from confide.config.spelling import canonical_name, number_text
from confide.config.tasks.series import AT, BLOCK, WINDOW, SeriesConfig
from confide.tasks.made.making import MOST_VALUES, Made, null_problem, read_times, too_many
from confide.tasks.reading import Problem, decimal_commas, distinct_of, first, number_of
from confide.tasks.schema import Inputs

Floats = NDArray[numpy.float64]
_TIME, _LABEL = "__time__", "__label__"
_STEP_TOLERANCE = 1e-3
_MANY = 0.1
_FEWER = "raise task.stride, or lower task.lookback"


class _Rows(NamedTuple):
    """Rows of one series, in the order of time: ``values`` of shape [n, readings]."""

    times: Floats
    values: Floats
    labels: list[str]


def make_windows(rows: Dataset, task: SeriesConfig, carried: Sequence[str] = ()) -> Made:
    """Make records: windows that lie in one block, with what follows or the state they show."""
    stays = list(dict.fromkeys([task.series_column, *carried]))
    table, problems = _read(rows, task, stays, labelled=True)
    if problems:
        return Made(_records({}), problems)
    label = [name for name in task.target_columns if name != AHEAD]
    columns: dict[str, list[str]] = {
        name: [] for name in (*stays, BLOCK, AT, WINDOW, *(label or [AHEAD]))
    }
    lost: Counter[str] = Counter()
    names, target, values = list(task.readings), _target_place(task), 0
    for key, part in table.groupby(stays, sort=True):
        one = _Rows(
            part[_TIME].to_numpy(),
            part[names].to_numpy(dtype=float),
            part[_LABEL].tolist() if label else [],
        )
        for end in _ends(one, task, lost):
            values += task.num_inputs + task.ahead
            if values > MOST_VALUES:
                return Made(_records({}), [too_many(_FEWER)])
            for name, value in zip(stays, key, strict=True):
                columns[name].append(value)
            block = "" if task.block is None else f" {_block(one.times[end], task.block)}"
            columns[BLOCK].append(f"{key[0]}{block}")
            columns[AT].append(number_text(repr(float(one.times[end]))))
            columns[WINDOW].append(_written(one.values[end + 1 - task.lookback : end + 1]))
            if label:
                columns[label[0]].append(one.labels[end])
            else:
                after = one.values[end + 1 : end + 1 + task.ahead, target]
                columns[AHEAD].append(_written(after))
    made = len(columns[WINDOW])
    if not made:
        return Made(_records({}), [_none(task, lost)])
    return Made(_records(columns), (), list(_notes(table, made, columns, task, lost)))


def make_windows_to_predict(rows: Dataset, task: SeriesConfig, carried: Sequence[str] = ()) -> Made:
    """Make one record a series: its last window."""
    table, problems = _read(rows, task, [task.series_column], labelled=False)
    if problems:
        return Made(_records({}), problems)
    columns: dict[str, list[str]] = {task.series_column: [], AT: [], WINDOW: []}
    for (name,), part in table.groupby([task.series_column], sort=True):
        values = part[list(task.readings)].to_numpy(dtype=float)[-task.lookback :]
        if len(values) < task.lookback or numpy.isnan(values).any():
            continue
        columns[task.series_column].append(str(name))
        columns[AT].append(number_text(repr(float(part[_TIME].iloc[-1]))))
        columns[WINDOW].append(_written(values))
    if not columns[WINDOW]:
        return Made(_records({}), [_none(task, Counter())])
    return Made(_records(columns))


def _records(columns: dict[str, list[str]]) -> Dataset:
    # Without a fingerprint `datasets` would pickle every record to make one.
    table = pyarrow.table(
        {name: pyarrow.array(it, pyarrow.string()) for name, it in columns.items()}
    )
    return Dataset(table, fingerprint=uuid4().hex)


def _written(values: Floats) -> str:
    return json.dumps(values.tolist(), separators=(",", ":"))


def _block(time: float, length: float) -> int:
    return int(numpy.floor(time / length))


def _target_place(task: SeriesConfig) -> int:
    if not isinstance(task.outcome, ForecastConfig):
        return 0
    return list(task.readings).index(task.outcome.column)


def _ends(one: _Rows, task: SeriesConfig, lost: Counter[str]) -> Iterator[int]:
    """Yield the last row of each window that can be a record, and count those that cannot."""
    whole = task.lookback + task.ahead
    lost["short"] += len(one.times) < whole
    starts = list(_starts(one.times, task))
    lost["edge"] += max(0, len(range(0, len(one.times) - whole + 1, task.stride)) - len(starts))
    for start in starts:
        times, stop = one.times[start : start + whole], start + whole
        if numpy.isnan(one.values[start:stop]).any():
            lost["missing"] += 1
        elif task.step is not None and not numpy.allclose(
            numpy.diff(times), task.step, rtol=_STEP_TOLERANCE, atol=0
        ):
            lost["apart"] += 1
        elif task.block is not None and not _inside(times, task.block):
            lost["edge"] += 1
        else:
            yield start + task.lookback - 1


def _starts(times: Floats, task: SeriesConfig) -> Iterator[int]:
    """Yield where windows start, by the stride.

    In each block anew: a row less in one would else move the windows of all later ones.
    """
    whole = task.lookback + task.ahead
    ends = [0, len(times)]
    if task.block is not None:
        numbers = numpy.floor(times / task.block)
        ends = [0, *(numpy.flatnonzero(numpy.diff(numbers)) + 1).tolist(), len(times)]
    for first_row, end in itertools.pairwise(ends):
        yield from range(first_row, end - whole + 1, task.stride)


def _inside(times: Floats, length: float) -> bool:
    """Say whether a window lies in one block, and as far behind its beginning as it is long."""
    number = _block(times[-1], length)
    # Otherwise the last values of a block in training and the first of one in test are neighbours.
    return bool(times[0] - (times[-1] - times[0]) >= number * length)


def _read(
    rows: Dataset, task: SeriesConfig, stays: Sequence[str], *, labelled: bool
) -> tuple[pandas.DataFrame, list[Problem]]:
    """Read rows, in the order of series and times; readings that are empty are NaN."""
    problems = [
        problem
        for name in dict.fromkeys([*stays, task.time_column])
        if (problem := null_problem(rows, name)) is not None
    ]
    is_null = bool(problems)
    table = pandas.DataFrame({name: rows[name][:] for name in stays})
    table[_TIME], problem = read_times(task.time_column, rows[task.time_column][:])
    # Of a column with nulls that is told already.
    problems += [] if problem is None or is_null else [problem]
    for name in task.readings:
        table[name], problem = _numbers(name, rows[name][:])
        problems += [] if problem is None else [problem]
    if problems:
        return pandas.DataFrame(), problems
    table[task.series_column] = table[task.series_column].map(canonical_name)
    label = [name for name in task.target_columns if name != AHEAD]
    if label and labelled:
        table[_LABEL] = rows[label[0]][:]
    twice = table.duplicated([*stays, _TIME]).to_numpy()
    if twice.any():
        problems.append(
            Problem(
                f"Column {task.time_column}: {twice.sum()} of {len(twice)} rows have a series and a"
                " time that another row has; leave one of each.",
                first(twice),
            )
        )
    return table.sort_values([*stays, _TIME], kind="stable"), problems


def _numbers(name: str, values: Sequence[object]) -> tuple[Floats, Problem | None]:
    codes, distinct = distinct_of(values)
    text = [str(value).strip() for value in distinct]
    numbers = numpy.array([*map(number_of, text), numpy.nan])[codes]
    empty = numpy.array([*(value == "" for value in text), True])[codes]
    wrong = numpy.isnan(numbers) & ~empty
    if not wrong.any():
        return numbers, None
    told = (
        f"Column {name}: {wrong.sum()} of {len(codes)} values are not numbers; correct them, or"
        f" leave them empty.{decimal_commas(text, codes)}"
    )
    return numbers, Problem(told, first(wrong))


def _none(task: SeriesConfig, lost: Counter[str]) -> Problem:
    told = " ".join(_lost(task, lost))
    return Problem(
        f"Column {task.series_column}: no series has {task.lookback + task.ahead} rows one after"
        f" another that make a window. {told}".strip()
    )


def _lost(task: SeriesConfig, lost: Counter[str]) -> Iterator[str]:
    whole = task.lookback + task.ahead
    told = {
        "short": f"series are shorter than {whole} rows.",
        "missing": "windows have an empty reading and are left out.",
        "apart": f"windows have rows that are not task.step={task.step} apart and are left out.",
        "edge": (
            f"windows cross or follow an edge of blocks, task.block={task.block}, and are left out."
        ),
    }
    yield from (f"{lost[reason]} {what}" for reason, what in told.items() if lost[reason])


def _notes(
    table: pandas.DataFrame,
    made: int,
    columns: dict[str, list[str]],
    task: SeriesConfig,
    lost: Counter[str],
) -> Iterator[str]:
    blocks = "" if task.block is None else f" in {len(set(columns[BLOCK]))} blocks"
    yield f"{made} windows were made of {len(table)} rows{blocks}."
    yield from _lost(task, lost)
    for name, reading in task.readings.items():
        low, high = reading.span
        values = table[name].dropna()
        beyond = int(((values < low) | (values > high)).sum())
        if beyond > _MANY * len(values):
            yield (
                f"Column {name}: {beyond} of {len(values)} values lie outside its range, {low:g} to"
                f" {high:g}, and become the nearest end of it. Is the unit right?"
            )


# --- made records, read


def read_windows(records: Dataset, task: SeriesConfig) -> Inputs:
    """Check that windows have the task's shape."""
    if WINDOW not in records.column_names:
        return Inputs({}, [])
    shape = (task.lookback, len(task.readings))
    wrong = numpy.array([numbers_of(text, shape) is None for text in records[WINDOW][:]], bool)
    if not wrong.any():
        return Inputs({}, [])
    told = (
        f"Column {WINDOW}: {wrong.sum()} of {len(wrong)} are no JSON list of {shape[0]} steps with"
        f" {shape[1]} numbers each."
    )
    return Inputs({}, [Problem(told, first(wrong))])


def numbers_of(text: object, shape: tuple[int, ...]) -> Floats | None:
    """Return the finite numbers of a JSON list of some shape; None if it is none."""
    try:
        numbers = numpy.array(json.loads(str(text)), dtype=numpy.float64)
    except (ValueError, TypeError, RecursionError):
        return None
    return numbers if numbers.shape == shape and numpy.isfinite(numbers).all() else None


def invent_windows(
    task: SeriesConfig, count: int, generator: numpy.random.Generator
) -> dict[str, list[str]]:
    """Invent windows of numbers in and beyond their ranges."""
    spans = [reading.span for reading in task.readings.values()]
    low, high = numpy.array(spans).T
    drawn = generator.uniform(-0.1, 1.1, (count, task.lookback, len(spans)))
    return {
        AT: [str(number) for number in range(count)],
        WINDOW: [_written(low + window * (high - low)) for window in drawn],
    }


__all__ = [
    "invent_windows",
    "make_windows",
    "make_windows_to_predict",
    "numbers_of",
    "read_windows",
]
