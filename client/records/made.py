"""Rows of a source, file by file, and the records that are made of them where it holds none."""

from collections.abc import Iterator
from uuid import uuid4

import pyarrow
from datasets import Dataset

from confide.client.records.sources.reading import Reading
from confide.client.records.sources.sources import FILE_COLUMN, SourceRecords, shared_columns
from confide.config.data import DataConfig
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.errors import DataError
from confide.tasks.made.making import make_records
from confide.tasks.reading import Problem


def refuse_shared(config: DataConfig, task: TaskConfig) -> None:
    """Check that records with rows in common will be in one split.

    Raises:
        DataError: naming the setting and what to set.
    """
    if TASKS[task.kind].maker is None:
        return
    problems = []
    if config.id_column is not None:
        problems.append(
            f"data.id_column={config.id_column}: records of task.kind={task.kind} are made of rows,"
            " and known by their content; set data.id_column=null."
        )
    if config.group_column not in task.owner_columns:
        problems.append(
            f"data.group_column={config.group_column}: of two records of task.kind={task.kind} with"
            " rows in common one could be trained on and the other tested; set data.group_column="
            f"{' or '.join(task.owner_columns)}."
        )
    if problems:
        raise DataError(problems)


def holds_records(config: DataConfig, task: TaskConfig) -> bool:
    """Say whether a source holds records that were made already, as `confide partition` writes."""
    if config._target_ is not None:
        return False
    reading = Reading(encoding=config.encoding, errors=config.encoding_errors)
    there = shared_columns(config.path, query=config.query, reading=reading)
    return set(task.record_columns) <= set(there)


def made_of(source: SourceRecords, task: TaskConfig, *, place: str | None) -> SourceRecords:
    """Make the records of a task whose sources hold something else.

    Args:
        source: rows.
        task: that records are made for.
        place: column that names a row's institution; None for none.

    Raises:
        DataError: naming what does not fit.
    """
    problems = list(source.problems)
    if problems:
        raise DataError(problems)
    carried = (FILE_COLUMN,) if source.files else (place,) if place is not None else ()
    parts, notes = [], list(source.notes)
    # File by file: whoever is in two of them is at two institutions.
    for name, rows in files_of(source):
        made, at = make_records(rows, task, carried), f"{name}: " if name else ""
        problems += [f"{at}{placed(one, source, name)}" for one in made.problems]
        notes += [f"{at}{note}" for note in made.notes]
        parts.append(made.records.data.table)
    if problems:
        raise DataError(problems)
    # Without a fingerprint `datasets` would pickle every record to make one.
    records = Dataset(pyarrow.concat_tables(parts), fingerprint=uuid4().hex)
    return SourceRecords(records=records, files=source.files, notes=tuple(notes))


def files_of(source: SourceRecords) -> Iterator[tuple[str, Dataset]]:
    """Yield each file's name and records; an empty name and all records for a single source."""
    if not source.files:
        yield "", source.records
        return
    # Sources are joined one after another, so that a file's records are one contiguous range, and
    # selecting a range copies nothing
    names = source.records[FILE_COLUMN][:]
    start = 0
    for name in source.files:
        count = names.count(name)
        yield name, source.records.select(range(start, start + count))
        start += count


def placed(problem: Problem, source: SourceRecords, file: str) -> str:
    """Write a problem with the place of the first record that it is found in."""
    if problem.record is None:
        return problem.text
    return f"{problem.text} First in {source.place(file, problem.record)}."


__all__ = ["files_of", "holds_records", "made_of", "placed", "refuse_shared"]
