"""Units: what counts as one record, in an order independent of the source, and their splits.

Records of one owner with the same id, or, without ids, the same content, are one unit and count
once. Content is compared by what values mean, so that exporting a table to another format keeps its
units. Splits are drawn by a keyed hash of the unit's id, or of its owner if a column names one, so
that an owner's records stay together: exporting the records again, in another order or with others
added, moves no unit between train, validation and test, and without the key nobody can choose a
unit's split.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import uuid4

from datasets import Dataset

from confide.config.spelling import canonical_name
from confide.errors import DataError
from confide.tasks.schema import Problem, require_columns, whole_columns
from confide.tasks.values import comparable


@dataclass(frozen=True, kw_only=True)
class SplitShares:
    """Shares of units for validation and test; the rest is for training."""

    validation: float
    test: float


class Splits(NamedTuple):
    """An institution's records in three parts; no unit is in two of them."""

    train: Dataset
    validation: Dataset
    test: Dataset


class Units(NamedTuple):
    """One record a unit, in canonical order.

    Attributes:
        records: records, sorted by unit.
        ids: id of each record's unit.
        differing: number of units that repeat with different contents.
    """

    records: Dataset
    ids: list[str]
    differing: int


def unit_ids(
    records: Dataset,
    *,
    id_column: str | None,
    content_columns: Sequence[str],
    group_column: str | None = None,
) -> list[str]:
    """Return the id of each record's unit.

    Args:
        records: n records, as text.
        id_column: name of the column of ids; None if the content identifies the unit.
        content_columns: names of the columns that are a record's content.
        group_column: name of the column that identifies a record's owner, so that equal records of
            two owners are two units; None if ungrouped.

    Raises:
        DataError: if a column is missing or an id is null.
    """
    if id_column is not None:
        ids = column_of_names(records, id_column)
    else:
        require_columns(records, content_columns)
        # A hash, so that an id is short and shows nothing of the content
        ids = [
            hashlib.sha256(repr(content).encode()).hexdigest()
            for content in _contents(records, content_columns)
        ]
    if group_column is None:
        return ids
    return [
        f"{unit}\0{owner}"
        for unit, owner in zip(ids, column_of_names(records, group_column), strict=True)
    ]


def column_of_names(records: Dataset, column: str) -> list[str]:
    """Return the values of a column that must have one in every record.

    Raises:
        DataError: if it is missing or a value is null.
    """
    require_columns(records, [column])
    problem = id_problem(records, column)
    if problem:
        raise DataError(problem.text)
    return [canonical_name(str(value)) for value in records[column][:]]


def id_problem(records: Dataset, id_column: str) -> Problem | None:
    """Return what is wrong if ids are null; None if none is."""
    values = records[id_column][:]
    nulls = [i for i, value in enumerate(values) if value is None or not str(value).strip()]
    if not nulls:
        return None
    return Problem(
        f"Column {id_column}: {len(nulls)} of {len(records)} ids are null; give each record one, or"
        " name no column for them.",
        nulls[0],
    )


def _contents(records: Dataset, columns: Sequence[str]) -> list[tuple[str | None, ...]]:
    """Return each record's comparable values."""
    compared = []
    for column in whole_columns(records, columns).values():
        values = column.to_pylist()
        # Each distinct value is converted once: columns repeat few values many times
        known = {value: comparable(None if value is None else str(value)) for value in set(values)}
        compared.append([known[value] for value in values])
    return list(zip(*compared, strict=True))


def keep_units(records: Dataset, ids: Sequence[str], *, columns: Sequence[str]) -> Units:
    """Sort records by unit, then by content, and keep the first of each unit.

    Args:
        records: n records.
        ids: id of each record's unit.
        columns: names of the columns by which records of one unit are ordered.
    """
    counts = Counter(ids)
    chosen = dict(zip(ids, range(len(ids)), strict=True))
    # Only where a unit repeats are contents read: mostly it does not, and texts are long
    groups: dict[str, list[int]] = {}
    for index, unit in enumerate(ids) if len(counts) < len(ids) else ():
        if counts[unit] > 1:
            groups.setdefault(unit, []).append(index)
    repeated = [index for group in groups.values() for index in group]
    contents = _contents(take(records, repeated), columns) if repeated else []
    order = {index: repr(content) for index, content in zip(repeated, contents, strict=True)}
    chosen |= {unit: min(group, key=order.__getitem__) for unit, group in groups.items()}
    differing = sum(len({order[index] for index in group}) > 1 for group in groups.values())
    units = sorted(counts)
    return Units(take(records, [chosen[unit] for unit in units]), units, differing)


def take(records: Dataset, indices: Sequence[int]) -> Dataset:
    """Return the records at some indices, in their order."""
    # Without a fingerprint `datasets` would pickle every index to make one
    return records.select(indices, new_fingerprint=uuid4().hex)


def split_records(
    records: Dataset, ids: Sequence[str], *, key: bytes, shares: SplitShares
) -> Splits:
    """Split by a keyed hash of an id.

    Args:
        records: one record a unit.
        ids: id of each record's unit, or of its owner.
        key: secret of the institution.
        shares: expected shares of validation and test.
    """
    parts: dict[str, list[int]] = {split: [] for split in Splits._fields}
    for index, unit in enumerate(ids):
        digest = hashlib.blake2b(
            unit.encode(), key=key, digest_size=8, person=b"confide/split"
        ).digest()
        # Uniform in [0, 1): the hash stands for a random draw that can be repeated
        position = int.from_bytes(digest, "little") / 2**64
        if position < shares.test:
            split = "test"
        elif position < shares.test + shares.validation:
            split = "validation"
        else:
            split = "train"
        parts[split].append(index)
    return Splits(*(take(records, parts[split]) for split in Splits._fields))


__all__ = [
    "SplitShares",
    "Splits",
    "Units",
    "column_of_names",
    "id_problem",
    "keep_units",
    "split_records",
    "take",
    "unit_ids",
]
