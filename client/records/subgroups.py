"""Which group each record is in, of each column that metrics are told by."""

from collections.abc import Sequence

import numpy
from datasets import Dataset
from numpy.typing import NDArray

from confide.config.spelling import canonical_name, name_index
from confide.metrics.subgroups.groups import Subgroups
from confide.tasks.reading import distinct_of, number_of
from confide.tasks.schema import require_columns, whole_columns


def codes_of(records: Dataset, told: Sequence[Subgroups]) -> NDArray[numpy.int64]:
    """Return the group of each record, by column: int64 of shape [n, columns].

    The last group of a column is of those without a value, or with one that no group has: whatever
    a record says, it is in one group of each column, and what another says does not change which.

    Args:
        records: n records, as text.
        told: groups of columns.

    Raises:
        DataError: if a column is missing.
    """
    require_columns(records, [one.column for one in told])
    codes = numpy.empty((len(records), len(told)), dtype=numpy.int64)
    columns = whole_columns(records, [one.column for one in told])
    for place, one in enumerate(told):
        each, distinct = distinct_of(columns[one.column].to_pylist())
        # One more, for nulls, whose code is -1
        groups = [*(_group_of(str(value), one) for value in distinct), len(one.names) - 1]
        codes[:, place] = numpy.array(groups, dtype=numpy.int64)[each]
    return codes


def _group_of(value: str, told: Subgroups) -> int:
    """Return the place of a value's group."""
    last, name = len(told.names) - 1, canonical_name(value.strip())
    if name in {canonical_name(it.strip()) for it in told.missing_values}:
        return last
    if not told.edges:
        return name_index(told.categories).get(name, last)
    number = number_of(value.strip())
    if numpy.isnan(number):
        return last
    return int(numpy.searchsorted(told.edges, number, side="right"))


__all__ = ["codes_of"]
