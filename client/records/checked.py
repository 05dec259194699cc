"""A source's records, checked against the task: one record a unit, in canonical order."""

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from datasets import Dataset

from confide.client.records.judged import (
    file_notes,
    gap_notes,
    label_notes,
    text_notes,
    value_notes,
    value_problems,
)
from confide.client.records.made import files_of, holds_records, made_of, placed, refuse_shared
from confide.client.records.sources.custom import load_custom_records
from confide.client.records.sources.reading import Reading
from confide.client.records.sources.sources import (
    FILE_COLUMN,
    SourceRecords,
    load_records,
)
from confide.client.records.tally import Tally
from confide.client.records.units import (
    Units,
    id_problem,
    keep_units,
    numbered_units,
    unit_ids,
)
from confide.config.data import PARTITIONED_BY_COLUMN, DataConfig
from confide.config.spelling import canonical_name, counted
from confide.config.tasks.table import TASKS
from confide.config.tasks.task import TaskConfig
from confide.errors import ConfigError, DataError
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.reading import Problem
from confide.tasks.schema import Read, read, read_targets

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CheckedRecords:
    """Records that fit the task.

    Attributes:
        records: one record a unit, in canonical order.
        tally: how many records were read, and left out so far.
        notes: sentences that the records' owner should read.
    """

    records: Dataset
    tally: Tally
    notes: tuple[str, ...]


ReadFn = Callable[[DataConfig, TaskConfig], SourceRecords]
"""Reads the columns that a task, the units and the partitioner need."""


def load_checked_records(
    config: DataConfig, task: TaskConfig, *, read_fn: ReadFn | None = None
) -> CheckedRecords:
    """Read records, check them, and keep one a unit.

    Args:
        config: settings of the records.
        task: what they must fit.
        read_fn: what gives them; None for :func:`read_source`.

    Raises:
        DataError: naming everything that does not fit.
        ConfigError: if there are not ``num_clients`` institutions.
    """
    source = (read_fn or read_source)(config, task)
    refuse_other_count(source, config)  # first: all that follows takes longer
    parts = read_parts(source, task)
    problems = source_problems(source, parts, config, task)
    if problems:
        raise DataError(problems)
    checked = gather(source.records, config, task)
    problems = list(too_few(checked.records, config, task))
    if problems:  # with what was left out, which may be why
        raise DataError([*problems, *checked.tally.sentences()])
    notes = source_notes(source, parts, read_whole(source, parts, task), task)
    checked = replace(checked, notes=(*notes, *checked.notes))
    for note in checked.notes:
        log.warning("%s", note)
    return checked


def refuse_other_count(source: SourceRecords, config: DataConfig) -> None:
    """Check that records name as many institutions as the config.

    Raises:
        ConfigError: naming those that there are.
    """
    column = FILE_COLUMN if by_file(config) else config.partition_by
    if (
        config.partitioner != "natural"
        or config.num_clients is None
        or column not in source.records.column_names
    ):
        return
    names = {str(name) for name in source.records[str(column)][:] if name}
    if config.partition_values:
        names = set(institutions_of(list(map(canonical_name, names)), config))
    if len(names) != config.num_clients:
        folder = config.source if config._target_ is not None else f"folder {config.source}"
        where = f"column {column}" if config.partition_by else folder
        raise ConfigError(
            f"data.num_clients={config.num_clients}, but {where} names {len(names)}:"
            f" {', '.join(sorted(names))}. Leave data.num_clients out."
        )


def too_few(records: Dataset, config: DataConfig, task: TaskConfig) -> Iterator[str]:
    """Yield where records of a label are fewer than ``min_per_label``."""
    # Over all files together: an institution may well lack a label that others have
    outcome, targets = outcome_of(task), read_targets(records, task)
    yield from outcome.count_problems(
        outcome.counts(targets.fitting), total=len(records), minimum=config.min_per_label
    )


def read_source(config: DataConfig, task: TaskConfig) -> SourceRecords:
    """Read the columns that the task, the units and the partitioner need.

    Raises:
        DataError: if the source cannot be read.
        ConfigError: if a custom function returns something other than records.
    """
    if config.generator is not None:
        raise DataError(
            f"data.generator.kind={config.generator.kind}: a simulation makes these records, and"
            " there are none to be read; set data/generator=none and data.path=FILE."
        )
    refuse_shared(config, task)
    makes = TASKS[task.kind].maker is not None and not holds_records(config, task)
    columns = [*(task.source_columns if makes else task.record_columns)]
    named = (
        *(config.id_column, config.group_column, config.arrival_column),
        partition_column(config),
    )
    made = task.made_columns if makes else ()
    columns += [name for name in named if name is not None and name not in made]
    columns += [one.column for one in task.told_apart]
    wanted = tuple(dict.fromkeys(columns))
    if config._target_ is not None:
        source = load_custom_records(config, wanted, by_name=by_file(config), reading=task.files)
    else:
        source = load_records(
            config.path,
            wanted,
            in_memory_mb=config.in_memory_mb,
            query=config.query,
            reading=Reading(
                encoding=config.encoding, errors=config.encoding_errors, files=task.files
            ),
        )
    if by_file(config) and not source.files:
        raise DataError(
            f"data.partition_by=null: the files of {config.source} hold records of several"
            " institutions; name the column that tells them apart, data.partition_by=COLUMN (user"
            " in LEAF's JSON; COLUMN of folders called COLUMN=VALUE)."
        )
    return made_of(source, task, place=partition_column(config)) if makes else source


def institutions_of(values: Sequence[str], config: DataConfig) -> list[str]:
    """Return the institution of each value of the column to partition by.

    Raises:
        DataError: naming the values that belong to none.
    """
    named = {canonical_name(value): name for value, name in config.partition_values.items()}
    unknown = Counter(value for value in values if value not in named)
    if unknown:
        shown = ", ".join(
            f"{value} ({counted(count, 'record')})" for value, count in unknown.most_common(5)
        )
        raise DataError(
            f"Column {config.partition_by}: data.partition_values has no institution for {shown};"
            " add them there."
        )
    return [named[value] for value in values]


def partition_column(config: DataConfig) -> str | None:
    """Return the column that records are partitioned by.

    None for the file a record is in (:func:`by_file`), or for what is to be predicted of it.
    """
    if config.partitioner in PARTITIONED_BY_COLUMN:
        return config.partition_by
    column = config.partitioner_args.get("partition_by")
    return None if column is None else str(column)


def by_file(config: DataConfig) -> bool:
    """Say whether each file of a folder is an institution."""
    return config.partitioner == "natural" and config.partition_by is None


class Part(NamedTuple):
    """Records of one file, or all of a single source.

    Attributes:
        name: of the file; empty for a single source.
        records: as they were read.
        read: the same, read as the schema says.
    """

    name: str
    records: Dataset
    read: Read


def read_parts(source: SourceRecords, task: TaskConfig) -> list[Part]:
    """Read each file as the schema says, once for all that is asked of it."""
    return [Part(name, records, read(records, task)) for name, records in files_of(source)]


def read_whole(source: SourceRecords, parts: Sequence[Part], task: TaskConfig) -> Read:
    """Return the records of all files as the schema reads them; of a single source, its part."""
    return read(source.records, task) if source.files else parts[0].read


def source_problems(
    source: SourceRecords, parts: Sequence[Part], config: DataConfig, task: TaskConfig
) -> list[str]:
    """List everything that does not fit, with the name of the file in a folder of files."""
    problems = list(source.problems)
    for part in parts:
        problems += [
            f"{part.name}: {at}" if part.name else at
            for problem in _part_problems(part, config, task)
            for at in (placed(problem, source, part.name),)
        ]
    if set(task.target_columns) <= set(source.records.column_names):
        # Over all files together: an institution may well lack a label that others have
        outcome = outcome_of(task)
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(outcome.counts(part.read.targets.fitting))
        problems += outcome.count_problems(
            counts, total=len(source.records), minimum=config.min_per_label
        )
    return problems


def source_notes(
    source: SourceRecords, parts: Sequence[Part], whole: Read, task: TaskConfig
) -> tuple[str, ...]:
    """List what the owner of records that fit should read: how they were read, and what is odd."""
    return (
        *source.notes,
        *(
            f"{name}: {placed(note, source, name)}" if name else placed(note, source, name)
            for name, part in files_of(source)
            for note in (*text_notes(part, task), *file_notes(part, task))
        ),
        *(note.text for note in whole.targets.notes),
        *label_notes(whole, task),
        *value_notes(whole, task),
        *(
            note
            for part in parts
            if part.name
            for note in gap_notes(part.name, part.read, whole, task)
        ),
    )


def _part_problems(part: Part, config: DataConfig, task: TaskConfig) -> Iterator[Problem]:
    yield from part.read.problems
    yield from value_problems(part.read, task)
    records = part.records
    for named in (config.id_column, config.group_column, config.arrival_column):
        if named in records.column_names:
            problem = id_problem(records, str(named))
            if problem:
                yield problem
    column = partition_column(config)
    if column not in task.target_columns and column in records.column_names:
        values = records[column][:]
        nulls = [i for i, value in enumerate(values) if not value or not value.strip()]
        if nulls:
            yield Problem(
                f"Column {column}: {len(nulls)} of {len(records)} values are null, and"
                f" data.partitioner={config.partitioner} partitions by it; fill them in or remove"
                " these records.",
                nulls[0],
            )


def gather(records: Dataset, config: DataConfig, task: TaskConfig) -> CheckedRecords:
    """Keep one record a unit, in canonical order.

    If records name their institutions, ids belong to them: the same id at two is two units.
    """
    content = task.content_columns
    ids = unit_ids(
        records,
        id_column=config.id_column,
        content_columns=content,
        group_column=config.group_column,
    )
    compared = list(dict.fromkeys([*content, *task.target_columns]))
    # Of two records of one unit at two institutions, or of two times, the same one has to be kept
    # whatever the order of the source, so that the columns that decide that are compared too
    place = FILE_COLUMN if by_file(config) else partition_column(config)
    for named in (place, config.arrival_column):
        if named in records.column_names and named not in compared:
            compared.append(str(named))
    # Last: of which group a record is changes neither where it is kept nor what is learnt of it
    compared += [one.column for one in task.told_apart if one.column not in compared]
    if config.id_column is None and task.table_columns:
        kept, _ = numbered_units(records, ids, columns=compared)
        return CheckedRecords(records=kept, tally=Tally(read=len(records)), notes=())
    if config.partitioner == "natural" and config.id_column is not None:
        # A null character between them, so that no other id and institution give the same text
        ids = [f"{unit}\0{at}" for unit, at in zip(ids, records[str(place)][:], strict=True)]

    def classes(some: Dataset) -> list[Hashable]:
        return read_targets(some, task).keys()

    units = keep_units(records, ids, columns=compared, classes_fn=classes)
    tally = Tally(read=len(records)).without("repeated", units.repeated)
    tally = tally.without("conflicting", units.conflicting)
    notes = tuple(_notes(units, config.id_column))
    return CheckedRecords(records=units.records, tally=tally, notes=notes)


def _notes(units: Units, id_column: str | None) -> Iterator[str]:
    what = "contents" if id_column is None else f"ids of column {id_column}"
    if units.settled or units.undecided:
        yield (
            f"{units.settled + units.undecided} {what} repeat with another label: {units.settled}"
            f" have the label of most of their records, {units.undecided} without one are left"
            " out. Correct the labels, or set data.id_column to a column in which different units"
            " differ."
        )
    if units.differing and id_column is not None:
        yield (
            f"Column {id_column}: {units.differing} ids repeat with different contents; one record"
            " of each is kept. If each record is a unit of its own, give it its own id or set"
            " data.id_column=null."
        )


__all__ = [
    "CheckedRecords",
    "Part",
    "ReadFn",
    "by_file",
    "gather",
    "institutions_of",
    "load_checked_records",
    "partition_column",
    "read_parts",
    "read_source",
    "read_whole",
    "refuse_other_count",
    "source_notes",
    "source_problems",
    "too_few",
]
