"""What a release of statistics counts: partitions of records, by column and by what is predicted.

Each record lies in one cell of each partition, a missing value in a cell of its own. So a record
adds a vector of norm 1 a partition, whatever it holds.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.task import TaskConfig
from confide.encodings.cells import CELLS, WIDE_CELLS, WIDE_STARTS
from confide.releases.release import Floats, Integers, Records
from confide.releases.targets import (
    NUMBER,
    target_cells,
    target_number,
    target_partitions,
    target_shares,
)

_MOST_PAIRED = 64
"""Numeric columns whose correlations are released; more pairs would drown in their own noise."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Cells that every record lies in one of.

    Attributes:
        name: column, or label.
        kind: numeric or categorical of a column; of what is predicted, those of
            :mod:`confide.releases.targets`.
        start: where among all counts its cells begin.
        cells: number of cells, that of missing values among them.
    """

    name: str
    kind: str
    start: int
    cells: int

    @property
    def key(self) -> str:
        """What tells it from all others of a task: a label may be called as a column is."""
        return f"{self.kind} {self.name}"

    @property
    def is_column(self) -> bool:
        """Whether it is of a column that a model sees."""
        return self.kind in ("numeric", "categorical")

    @property
    def is_histogram(self) -> bool:
        """Whether its cells are those of a number's range, with one for missing values."""
        return self.kind in ("numeric", NUMBER)

    @property
    def has_missing(self) -> bool:
        """Whether its last cell is for missing values."""
        return self.is_column or self.is_histogram

    @property
    def place(self) -> slice:
        """Where its cells are among all counts."""
        return slice(self.start, self.start + self.cells)


def partitions(task: TaskConfig, *, without: Sequence[str] = ()) -> list[Partition]:
    """Return the partitions of a task's records: columns in order, then what is predicted.

    Args:
        task: schema of the records.
        without: numeric columns whose histograms another release holds.
    """
    found, start = [], 0
    for name, kind, cells in _cells(task):
        if name in without and kind == "numeric":
            continue
        found.append(Partition(name=name, kind=kind, start=start, cells=cells))
        start += cells
    return found


def _cells(task: TaskConfig) -> Iterator[tuple[str, str, int]]:
    for name, column in task.table_columns.items():
        if column.kind == "numeric":
            yield name, "numeric", WIDE_CELLS + 1
        else:
            others = int(column.unseen == "other")
            yield name, "categorical", len(column.categories) + others + 1
    yield from target_partitions(task)


def numeric_columns(task: TaskConfig) -> list[str]:
    """Return the names of a task's numeric columns."""
    return [name for name, column in task.table_columns.items() if column.kind == "numeric"]


def numbers(task: TaskConfig) -> int:
    """Return how many numbers have moments: numeric columns, and the one that is predicted."""
    return len(numeric_columns(task)) + int(target_number(task) is not None)


def pairs(task: TaskConfig) -> list[tuple[int, int]]:
    """Return the pairs of numeric columns that are correlated, by their places among these."""
    count = len(numeric_columns(task))
    return list(itertools.combinations(range(count), 2)) if count <= _MOST_PAIRED else []


@dataclass(frozen=True, kw_only=True)
class Read:
    """Records as statistics read them.

    Attributes:
        cells: cell of each record in each partition, shape [n, partitions].
        values: of numeric columns, and of the number that is predicted, -1 to 1 over the public
            range and 0 where missing: [n, c].
        present: 1 where there is a value: [n, c].
    """

    cells: Integers
    values: Floats
    present: Floats


def read(task: TaskConfig, records: Records, parts: Sequence[Partition]) -> Read:
    """Read encoded records.

    Args:
        task: that they were encoded by: numeric columns as figures.
        records: the records.
        parts: partitions to find their cells in.
    """
    import numpy

    # A task of one's own may encode anything: no number may count for more than its bound
    features, names = numpy.nan_to_num(records.features), list(task.table_columns)
    # A task without a table has no columns, and no places
    places = task.places(names) if isinstance(task, TabularConfig) else []
    start = dict(zip(names, places, strict=True))
    columns = [start[name] for name in numeric_columns(task)]
    fine = numpy.rint(features[:, columns].clip(0, CELLS)).astype("int64") - 1
    present = (fine >= 0).astype(float)
    fractions = features[:, [place + 1 for place in columns]].clip(0, 1)
    targets = target_cells(task, records.labels)
    cells = numpy.empty((len(features), len(parts)), dtype="int64")
    for column, part in enumerate(parts):
        if part.kind == "numeric":
            own = fine[:, columns.index(start[part.name])]
            wide = numpy.searchsorted(WIDE_STARTS, own, side="right") - 1
            cells[:, column] = numpy.where(own < 0, part.cells - 1, wide)
        elif part.kind == "categorical":
            one_hot = features[:, start[part.name] : start[part.name] + part.cells - 1]
            missing = one_hot.sum(axis=1) == 0
            cells[:, column] = numpy.where(missing, part.cells - 1, one_hot.argmax(axis=1))
        else:
            cells[:, column] = next(targets)
    if target_number(task) is not None:
        fractions = numpy.column_stack([fractions, target_shares(records.labels)])
        present = numpy.column_stack([present, numpy.ones(len(present))])
    return Read(cells=cells, values=(2 * fractions - 1) * present, present=present)


__all__ = [
    "Partition",
    "Read",
    "numbers",
    "numeric_columns",
    "pairs",
    "partitions",
    "read",
]
