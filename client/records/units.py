"""Units: what counts as one record, in an order independent of the source, and their splits.

Records of one owner with the same id are one unit and count once. Without ids a text is one unit
wherever it occurs, and each row of a table is a unit of its own: unlike texts, rows of different
people often agree. Content is compared by what values mean, so that exporting a table to another
format keeps its units. Splits are drawn by a keyed hash of the unit's id, or of its owner if a
column names one, so that an owner's records stay together: exporting the records again, in another
order or with others added, moves no unit between train, validation and test, and without the key
nobody can choose a unit's split.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import uuid4

from datasets import Dataset

from confide.config.spelling import canonical_name
from confide.errors import DataError
from confide.tasks.outcomes.outcome import all_there
from confide.tasks.reading import Problem
from confide.tasks.schema import require_columns, whole_columns
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
        repeated: number of further records that repeat a unit with its label, or without one.
        conflicting: number of records whose unit has another label, or none.
        differing: number of units whose records agree in their label and in nothing else.
        settled: number of units whose label most of their records have, and not all.
        undecided: number of units that are left out, since no label has most of their records.
    """

    records: Dataset
    repeated: int = 0
    conflicting: int = 0
    differing: int = 0
    settled: int = 0
    undecided: int = 0


ClassesFn = Callable[[Dataset], Sequence[Hashable]]
"""Function records -> class of each one's label."""
OrdersFn = Callable[[Sequence[int]], Sequence[str]]
"""Positions of records -> what each is ordered by among those of its id."""


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
    compared: list[list[str | None]] = []
    for column in whole_columns(records, columns).values():
        values = column.to_pylist()
        # Each distinct value is converted once: columns repeat few values many times
        known = {value: comparable(None if value is None else str(value)) for value in set(values)}
        compared.append([known[value] for value in values])
    return list(zip(*compared, strict=True))


def keep_units(
    records: Dataset, ids: Sequence[str], *, columns: Sequence[str], classes_fn: ClassesFn
) -> Units:
    """Keep one record a unit, sorted by unit.

    A unit has the label of most of its records; one in which no label has more than every other is
    left out, since any choice would favour a label. Of the records with that label the first by
    content is kept, in whatever order they come.

    Args:
        records: n records.
        ids: id of each record's unit.
        columns: names of the columns by which records of one unit are ordered.
        classes_fn: function that tells the classes by which labels are compared.
    """
    groups = _repeating(ids)
    chosen = dict(zip(ids, range(len(ids)), strict=True))
    # Only where a unit repeats are contents read: mostly it does not, and texts are long
    several = [index for group in groups.values() for index in group]
    again = take(records, several)
    order = dict(zip(several, map(repr, _contents(again, columns)), strict=True))
    label_of = dict(zip(several, classes_fn(again) if several else (), strict=True))
    counts: Counter[str] = Counter()
    for unit, group in groups.items():
        agreeing = _majority(group, label_of)
        bare = sum(label_of[index] is None for index in group)
        # A record without a label says nothing against those that have one
        told = len(group) - bare or len(group)
        counts["repeated"] += len(group) - told
        counts["conflicting"] += told - len(agreeing)
        if not agreeing:
            counts["undecided"] += 1
            del chosen[unit]
            continue
        counts["settled"] += len(agreeing) < told
        counts["repeated"] += len(agreeing) - 1
        counts["differing"] += len(agreeing) == len(group) and len({order[i] for i in group}) > 1
        chosen[unit] = min(agreeing, key=order.__getitem__)
    return Units(take(records, [chosen[unit] for unit in sorted(chosen)]), **counts)


def numbered_units(
    records: Dataset, ids: Sequence[str], *, columns: Sequence[str]
) -> tuple[Dataset, list[str]]:
    """Sort records, and number those of one id, so that each is a unit of its own.

    Records that agree in all columns are interchangeable, so that the numbers do not depend on
    their order; a single record of an id keeps it.

    Args:
        records: n records.
        ids: id of each record.
        columns: names of the columns by which records of one id are ordered.

    Returns:
        The records, and the id of each one's unit.
    """
    kept, units = numbered(ids, lambda several: orders(take(records, several), columns))
    return take(records, kept), units


def orders(records: Dataset, columns: Sequence[str]) -> list[str]:
    """Return what records of one id are ordered by: contents, as far as they differ in meaning."""
    return list(map(repr, _contents(records, columns)))


def numbered(ids: Sequence[str], orders_fn: OrdersFn) -> tuple[list[int], list[str]]:
    """Do as :func:`numbered_units`, of positions in place of records.

    Args:
        ids: id of each record.
        orders_fn: what records of one id are ordered by; asked once, of those whose id repeats.

    Returns:
        The position of each record in the new order, and the id of each one's unit.
    """
    groups = _repeating(ids)
    several = [index for group in groups.values() for index in group]
    order = dict(zip(several, orders_fn(several) if several else (), strict=True))
    single = dict(zip(ids, range(len(ids)), strict=True))
    kept: list[int] = []
    units: list[str] = []
    for unit in sorted(single):
        ranked = sorted(groups.get(unit, [single[unit]]), key=lambda index: order.get(index, ""))
        kept += ranked
        units += [f"{unit}\0{number}" if number else unit for number in range(len(ranked))]
    return kept, units


def take(records: Dataset, indices: Sequence[int]) -> Dataset:
    """Return the records at some indices, in their order."""
    # Without a fingerprint `datasets` would pickle every index to make one
    return records.select(indices, new_fingerprint=uuid4().hex)


def labelled_of(records: Dataset, target_columns: Sequence[str]) -> list[bool]:
    """Say which records have what is to be predicted of them."""
    return all_there({name: records[name][:] for name in target_columns}, target_columns)


def _repeating(ids: Sequence[str]) -> dict[str, list[int]]:
    """Return the records of each unit that has several."""
    counts = Counter(ids)
    groups: dict[str, list[int]] = {}
    for index, unit in enumerate(ids) if len(counts) < len(ids) else ():
        if counts[unit] > 1:
            groups.setdefault(unit, []).append(index)
    return groups


def _majority(group: Sequence[int], label_of: dict[int, Hashable]) -> list[int]:
    """Return the records with the label that most have; none if two labels tie.

    Where all lack one, all of them.
    """
    told = [label_of[index] for index in group if label_of[index] is not None] or [None]
    counts = Counter(told).most_common(2)
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        return []
    return [index for index in group if label_of[index] == counts[0][0]]


def split_positions(
    ids: Sequence[str],
    *,
    key: bytes,
    shares: SplitShares,
    labelled: Sequence[bool] | None = None,
    of_owners: bool = False,
) -> dict[str, list[int]]:
    """Return the positions of each split's records, by a keyed hash of an id.

    A record without a label scores nothing: it is for training, after those that have one, or,
    where its owner's records are held out, in no split.

    Args:
        ids: id of each record's unit, or of its owner.
        key: secret of the institution.
        shares: expected shares of validation and test.
        labelled: which records have a label; None for all.
        of_owners: whether ids are owners', whose hash alone decides: a label of one record would
            otherwise move all others of its owner into training, or out of it.
    """
    has_label = [True] * len(ids) if labelled is None else labelled
    scored = {unit for unit, has in zip(ids, has_label, strict=True) if has}
    parts: dict[str, list[int]] = {split: [] for split in Splits._fields}
    # Labelled ones first, which is in order where all are: of a large group the first are kept
    for index in sorted(range(len(ids)), key=lambda index: not has_label[index]):
        unit = ids[index]
        if unit not in scored and not of_owners:  # nothing of it could be scored
            parts["train"].append(index)
            continue
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
        if has_label[index] or split == "train":
            parts[split].append(index)
    return parts


__all__ = [
    "ClassesFn",
    "OrdersFn",
    "SplitShares",
    "Splits",
    "Units",
    "column_of_names",
    "id_problem",
    "keep_units",
    "labelled_of",
    "numbered",
    "numbered_units",
    "orders",
    "split_positions",
    "take",
    "unit_ids",
]
