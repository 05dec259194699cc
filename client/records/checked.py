"""A source's records, checked against the task: one record a unit, in canonical order."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from datasets import Dataset

from confide.client.records.custom import load_custom_records
from confide.client.records.sources import FILE_COLUMN, Table, load_records
from confide.client.records.units import Units, id_problem, keep_units, unit_ids
from confide.config.data import PARTITIONED_BY_COLUMN, DataConfig
from confide.config.task import TaskConfig
from confide.errors import DataError
from confide.tasks.schema import content_columns, count_problems, label_counts, read

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Records that fit.

    Attributes:
        records: one a unit, in canonical order.
        repeated: how many more the source held.
        notes: what its owner should know.
    """

    records: Dataset
    repeated: int
    notes: tuple[str, ...]


def load_pool(config: DataConfig, task: TaskConfig) -> Pool:
    """Read records, check them, and keep one a unit.

    Raises:
        DataError: naming everything that does not fit.
    """
    table = read_table(config, task)
    problems = table_problems(table, config, task)
    if problems:
        raise DataError(problems)
    pool = gather(table.records, config, task)
    for note in pool.notes:
        log.warning("%s", note)
    return pool


def read_table(config: DataConfig, task: TaskConfig) -> Table:
    """Read the columns that the task, the units and dealing out need.

    Raises:
        DataError: if the source cannot be read.
        ConfigError: if a function of one's own returns something else than records.
    """
    columns = [*content_columns(task), task.label_column]
    named = (config.id_column, config.group_column, partition_column(config, task))
    columns += [name for name in named if name is not None]
    wanted = tuple(dict.fromkeys(columns))
    if config._target_ is not None:
        return load_custom_records(config, wanted, by_name=by_file(config))
    return load_records(config.path, wanted, in_memory_mb=config.in_memory_mb, query=config.query)


def partition_column(config: DataConfig, task: TaskConfig) -> str | None:
    """Name the column that decides who gets a record; None where a record's place does."""
    if config.partitioner in PARTITIONED_BY_COLUMN:
        return config.partition_by
    column = config.partitioner_args.get("partition_by")
    return task.label_column if column is None else str(column)


def by_file(config: DataConfig) -> bool:
    """Tell whether each file of a folder is an institution."""
    return config.partitioner == "natural" and config.partition_by is None


def table_problems(table: Table, config: DataConfig, task: TaskConfig) -> list[str]:
    """List everything that does not fit, each file of a folder by its name."""
    problems = list(table.problems)
    for name, part in files_of(table):
        problems += [
            f"{name}: {problem}" if name else problem
            for problem in _part_problems(part, config, task)
        ]
    if task.label_column in table.records.column_names:
        counts = label_counts(
            read(table.records.select_columns([task.label_column]), task).labels, task
        )
        problems += count_problems(counts, total=len(table.records), minimum=config.min_per_label)
    return problems


def files_of(table: Table) -> Iterator[tuple[str, Dataset]]:
    """Yield the records of each file of a folder; of a single source all, without a name."""
    if not table.files:
        yield "", table.records
        return
    names = table.records[FILE_COLUMN][:]  # in the order of the files, each in one piece
    start = 0
    for name in table.files:
        count = names.count(name)
        yield name, table.records.select(range(start, start + count))
        start += count


def _part_problems(records: Dataset, config: DataConfig, task: TaskConfig) -> Iterator[str]:
    yield from read(records, task).problems
    for named in (config.id_column, config.group_column):
        if named in records.column_names:
            problem = id_problem(records, str(named))
            if problem:
                yield problem
    column = partition_column(config, task)
    if column != task.label_column and column in records.column_names:
        nulls = sum(not value for value in records[column][:])
        if nulls:
            yield (
                f"Column {column}: {nulls} of {len(records)} values are null, and"
                f" data.partitioner={config.partitioner} deals out by it; fill them in or remove"
                " these records."
            )


def gather(records: Dataset, config: DataConfig, task: TaskConfig) -> Pool:
    """Keep one record a unit, in canonical order.

    Where each file is an institution, ids are its own: the same number in two files is two units.
    """
    content = content_columns(task)
    ids = unit_ids(
        records,
        id_column=config.id_column,
        content_columns=content,
        group_column=config.group_column,
    )
    told_apart = [*content, task.label_column]
    place = FILE_COLUMN if by_file(config) else partition_column(config, task)
    if place in records.column_names and place not in told_apart:
        told_apart.append(str(place))
    if by_file(config) and config.id_column is not None:
        ids = [f"{unit}\0{file}" for unit, file in zip(ids, records[FILE_COLUMN][:], strict=True)]
    units = keep_units(records, ids, columns=told_apart)
    return Pool(
        records=units.records,
        repeated=len(records) - len(units.records),
        notes=tuple(_notes(units, config.id_column)),
    )


def _notes(units: Units, id_column: str | None) -> Iterator[str]:
    if not units.differing:
        return
    if id_column is None:
        yield (
            f"{units.differing} contents repeat with another label; one record of each is kept. "
            "Correct the labels, or set data.id_column if these are different units."
        )
    else:
        yield (
            f"Column {id_column}: {units.differing} ids repeat with other contents; one record of"
            " each is kept. If each record is a unit of its own, give it its own id or set"
            " data.id_column=null."
        )


__all__ = [
    "Pool",
    "by_file",
    "files_of",
    "gather",
    "load_pool",
    "partition_column",
    "read_table",
    "table_problems",
]
