"""Which of an institution's records are in which split, before any is encoded."""

from collections.abc import Sequence
from typing import NamedTuple

from datasets import Dataset

from confide.client.records.arrivals import Arrivals, arrivals_of
from confide.client.records.units import (
    OrdersFn,
    SplitShares,
    column_of_names,
    labelled_of,
    numbered,
    split_positions,
    unit_ids,
)
from confide.config.data import DataConfig
from confide.metrics.subgroups.groups import Subgroups
from confide.models.workload import Workload
from confide.protocol.messages import OLD
from confide.tasks.task import TableTask


class Known(NamedTuple):
    """What tells records apart, one entry a record.

    Attributes:
        columns: names of the columns that a record is shown by.
        ids: by which records are one unit.
        owners: whose each is; None if ungrouped.
        alike: by which rows of a table without ids are in one split; None elsewhere.
        labelled: which have a label; None where all have to.
        arrivals: which are there, and which are old; None where all are there and new.
    """

    columns: Sequence[str]
    ids: Sequence[str]
    owners: Sequence[str] | None
    alike: Sequence[str] | None
    labelled: Sequence[bool] | None = None
    arrivals: Arrivals | None = None


def identify(
    records: Dataset,
    config: DataConfig,
    workload: Workload,
    told_apart: Sequence[Subgroups] = (),
) -> Known:
    """Return what tells records apart, each by itself alone.

    Args:
        records: checked records.
        config: settings of the id columns.
        workload: knows the columns of its task.
        told_apart: groups by which metrics are told: of rows that agree in all else, which is
            which is decided by their columns.

    Raises:
        DataError: if a column is missing, or an id is null.
    """
    content, owner = workload.task.content_columns(), config.group_column
    more = [one.column for one in told_apart]
    shown = list(dict.fromkeys([*content, *workload.target_columns, *more]))
    ids = unit_ids(records, id_column=config.id_column, content_columns=content, group_column=owner)
    alike = None
    if config.id_column is None and owner is None and isinstance(workload.task, TableTask):
        # Rows that differ by their label alone have numbers in common: one more of them would move
        # a row of each other label to another split
        whole = [name for name in shown if name in content or name in workload.target_columns]
        alike = unit_ids(records, id_column=None, content_columns=whole)
    owners = column_of_names(records, owner) if owner else None
    labelled = labelled_of(records, workload.target_columns) if workload.self_trains else None
    return Known(shown, ids, owners, alike, labelled, arrivals_of(records, config))


def laid_out(
    rows: Sequence[int], known: Known, orders_fn: OrdersFn, *, config: DataConfig, key: bytes
) -> tuple[dict[str, list[int]], list[str]]:
    """Return which of an institution's records are in each split, in order, and its units.

    Args:
        rows: positions of its records among those that are known.
        known: what tells records apart.
        orders_fn: what records of one id are ordered by.
        config: shares of the splits.
        key: secret of the institution, which decides each unit's split.

    Returns:
        Split -> positions, and the ids of units, or of their owners; sorted. There is no old split
        where no test record is old.
    """
    rows, is_old = _arrived(rows, known, key=key)

    def order_of(several: Sequence[int]) -> Sequence[str]:
        return orders_fn([rows[index] for index in several])

    # Of what was checked only rows of a table repeat, each of which is a unit of its own
    kept, ids = numbered([known.ids[row] for row in rows], order_of)
    rows = [rows[index] for index in kept]
    # All records of an owner are in one split: otherwise test scores would reward a model for
    # having seen the same patient in training
    owners = ids if known.owners is None else [known.owners[row] for row in rows]
    split_by = owners
    if known.alike is not None:
        kept, split_by = numbered([known.alike[row] for row in rows], order_of)
        rows = [rows[index] for index in kept]
    shares = SplitShares(validation=config.validation, test=config.test)
    labelled = None if known.labelled is None else [known.labelled[row] for row in rows]
    positions = split_positions(
        split_by,
        key=key,
        shares=shares,
        labelled=labelled,
        of_owners=known.owners is not None,
    )
    parts = {split: [rows[index] for index in part] for split, part in positions.items()}
    return _without_old(parts, is_old, known.owners), sorted(set(owners))


def _arrived(
    rows: Sequence[int], known: Known, *, key: bytes
) -> tuple[Sequence[int], frozenset[int]]:
    """Return the records that are there by now, and which of them are old."""
    if known.arrivals is None:
        return rows, frozenset()
    units = known.ids if known.owners is None else known.owners
    there = [row for row in rows if known.arrivals.is_there(row, units[row], key=key)]
    old = (row for row in there if known.arrivals.is_old(row, units[row], key=key))
    return there, frozenset(old)


def _without_old(
    parts: dict[str, list[int]], is_old: frozenset[int], owners: Sequence[str] | None
) -> dict[str, list[int]]:
    """Take old records out of all splits; those of the test split are one of their own.

    Not of an owner who has new test records too: a unit is charged for the scores of one split.
    """
    if not is_old:
        return parts
    new = {split: [row for row in part if row not in is_old] for split, part in parts.items()}
    old = [row for row in parts["test"] if row in is_old]
    if owners is not None:
        both = {owners[row] for row in new["test"]}
        old = [row for row in old if owners[row] not in both]
    return new | ({OLD: old} if old else {})


__all__ = ["Known", "identify", "laid_out"]
