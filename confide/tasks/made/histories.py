"""Histories of users, made of a table with a row for each interaction.

Which of a user's rows become records follows from that user's rows alone. Needs no torch.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from uuid import uuid4

import numpy
import pandas
import pyarrow
from datasets import Dataset

from confide.config.outcomes.next_item import NEXT_ITEM
from confide.config.spelling import canonical_name
from confide.config.tasks.recommendation import HISTORY, RecommendationConfig
from confide.tasks.made.making import MOST_VALUES, Made, null_problem, read_times, too_many
from confide.tasks.reading import Problem, first
from confide.tasks.schema import Inputs

_TIME, _DRAW = "__time__", "__draw__"
_MANY = 0.1
_FEWER = "lower task.known or task.records_per_user"


def make_histories(rows: Dataset, task: RecommendationConfig, carried: Sequence[str] = ()) -> Made:
    """Make records: what a user had until a row, and the item of that row.

    A user who is at two institutions by a column that stays has a history at each.
    """
    stays = list(dict.fromkeys([task.user_column, *carried]))
    table, problems = _read(rows, task, stays)
    if problems:
        return Made(_records({}), problems)
    kept = _without_repeats(table, task, stays)
    columns: dict[str, list[str]] = {name: [] for name in (*stays, HISTORY, NEXT_ITEM)}
    alone = users = values = 0
    for key, part in kept.groupby(stays, sort=True):
        items = part[task.item_column].tolist()
        users += 1
        alone += len(items) < 2
        for place in _places(len(items), task.records_per_user):
            values += min(place, task.known) + 1
            if values > MOST_VALUES:
                return Made(_records({}), [too_many(_FEWER)])
            for name, value in zip(stays, key, strict=True):
                columns[name].append(value)
            columns[HISTORY].append(_written(items[:place], task))
            columns[NEXT_ITEM].append(items[place])
    made = len(columns[HISTORY])
    if not made:
        told = f"Column {task.user_column}: no user has two items, so that there is nothing next."
        return Made(_records({}), [Problem(told)])
    notes = [
        f"{made} records were made of {len(table)} rows of {users} users, at most"
        f" task.records_per_user={task.records_per_user} of each.",
        *_notes(table, kept, task, stays, alone=alone),
    ]
    return Made(_records(columns), (), notes)


def make_histories_to_predict(
    rows: Dataset, task: RecommendationConfig, carried: Sequence[str] = ()
) -> Made:
    """Make one record a user, of all rows: what comes next is not known."""
    table, problems = _read(rows, task, [task.user_column])
    if problems:
        return Made(_records({}), problems)
    kept = _without_repeats(table, task, [task.user_column])
    columns: dict[str, list[str]] = {task.user_column: [], HISTORY: []}
    for (user,), part in kept.groupby([task.user_column], sort=False):
        columns[task.user_column].append(user)
        columns[HISTORY].append(_written(part[task.item_column].tolist(), task))
    return Made(_records(columns))


def _records(columns: dict[str, list[str]]) -> Dataset:
    # Without a fingerprint `datasets` would pickle every record to make one.
    table = pyarrow.table(
        {name: pyarrow.array(it, pyarrow.string()) for name, it in columns.items()}
    )
    return Dataset(table, fingerprint=uuid4().hex)


def _written(items: Sequence[str], task: RecommendationConfig) -> str:
    return json.dumps(items[-task.known :], ensure_ascii=False)


def _read(
    rows: Dataset, task: RecommendationConfig, stays: Sequence[str]
) -> tuple[pandas.DataFrame, list[Problem]]:
    """Read rows, in the order of users, times and items."""
    names = dict.fromkeys([*stays, task.item_column])
    problems = [
        problem
        for name in dict.fromkeys([*names, task.time_column])
        if (problem := null_problem(rows, name)) is not None
    ]
    if problems:
        return pandas.DataFrame(), problems
    times, problem = read_times(task.time_column, rows[task.time_column][:])
    if problem is not None:
        return pandas.DataFrame(), [problem]
    table = pandas.DataFrame({name: rows[name][:] for name in names})
    for name in (task.user_column, task.item_column):
        table[name] = table[name].map(canonical_name)
    table[_TIME] = times
    # Neither a file's order, nor that of ids, which often are numbered by age or fame: a model
    # would learn it, and foresee nothing.
    pairs = zip(table[task.user_column], table[task.item_column], strict=True)
    table[_DRAW] = [hashlib.sha256(f"{user}\0{item}".encode()).hexdigest() for user, item in pairs]
    return table.sort_values([*stays, _TIME, _DRAW], kind="stable"), []


def _without_repeats(
    table: pandas.DataFrame, task: RecommendationConfig, stays: Sequence[str]
) -> pandas.DataFrame:
    if task.repeats:
        return table
    return table.drop_duplicates([*stays, task.item_column], keep="first")


def _places(length: int, most: int) -> list[int]:
    """Return the places of a user's items that become targets: spread evenly, the last included.

    >>> _places(5, 2), _places(3, 16), _places(1, 16)
    ([1, 4], [1, 2], [])
    """
    if length < 2:
        return []
    if length - 1 <= most:
        return list(range(1, length))
    spread = numpy.linspace(length - 1, 1, most).round().astype(int)
    return sorted({int(place) for place in spread})


def _notes(
    table: pandas.DataFrame,
    kept: pandas.DataFrame,
    task: RecommendationConfig,
    stays: Sequence[str],
    *,
    alone: int,
) -> Iterator[str]:
    if alone:
        yield f"{alone} users have one item alone, of which no record is made."
    repeated = len(table) - len(kept)
    if repeated:
        yield (
            f"{repeated} of {len(table)} rows repeat an item of their user and do not count:"
            " task.repeats=false."
        )
    tied = int(kept.duplicated([*stays, _TIME], keep=False).sum())
    if tied > _MANY * len(kept):
        yield (
            f"Column {task.time_column}: {tied} of {len(kept)} rows have the time of another row of"
            " their user, and are in no order that means anything; a finer time would say which"
            " came first."
        )


# --- made records, read


def read_histories(records: Dataset, task: RecommendationConfig) -> Inputs:
    """Check that histories are lists of items."""
    if HISTORY not in records.column_names:
        return Inputs({}, [])
    wrong = numpy.array([history_of(text) is None for text in records[HISTORY][:]], dtype=bool)
    if not wrong.any():
        return Inputs({}, [])
    problem = (
        f"Column {HISTORY}: {wrong.sum()} of {len(wrong)} are no JSON list of item ids, such as"
        ' ["12", "7"], the oldest first.'
    )
    return Inputs({}, [Problem(problem, first(wrong))])


def history_of(text: object) -> list[str] | None:
    """Return the items of a history; None if it is none."""
    try:
        items = json.loads(str(text))
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list) or not all(isinstance(one, str | int) for one in items):
        return None
    return [canonical_name(str(item)) for item in items]


def invent_histories(
    task: RecommendationConfig, count: int, generator: numpy.random.Generator
) -> dict[str, list[str]]:
    """Invent histories of unlike lengths, the empty one among them, of items that may not exist."""
    items = [str(number) for number in range(1, 1000)]
    return {
        HISTORY: [
            json.dumps(generator.choice(items, int(generator.integers(0, task.known))).tolist())
            for _ in range(count)
        ]
    }


__all__ = [
    "history_of",
    "invent_histories",
    "make_histories",
    "make_histories_to_predict",
    "read_histories",
]
