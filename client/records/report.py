"""A report on how an institution's records fit a task, before anything is trained.

It holds counts, labels and categories, never the value of a single record. Needs no torch.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from datasets import Dataset

from confide.client.records.checked import (
    CheckedRecords,
    gather,
    read_parts,
    read_source,
    read_whole,
    source_notes,
    source_problems,
    too_few,
)
from confide.client.records.judged import token_notes
from confide.client.records.sources.sources import FILE_COLUMN, shared_columns
from confide.client.records.units import labelled_of
from confide.config.data import DataConfig
from confide.config.run import Config
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.task import TaskConfig
from confide.errors import DataError
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.ranges import outside
from confide.tasks.schema import Column, Read, plain_texts
from confide.tasks.tokens import TokenCounts

CountTokens = Callable[..., TokenCounts | None]
"""Function texts, of pairs also the texts beside them -> counts of their tokens; it returns None if
there is no tokenizer."""
NotesFn = Callable[[Dataset], Sequence[str]]
"""Records that fit -> sentences that their owner should read."""
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class ColumnReport:
    """One input column of a table, and what the schema will do with it.

    Attributes:
        kind: kind of column: numeric or categorical.
        encodes: public range of a numeric column, or the categories.
        missing: number of records without a value; a number becomes the middle of its range, a
            category none.
        clipped: number of values outside the range.
        indicator: whether a further input marks missing values.
    """

    kind: str
    encodes: str
    missing: int
    clipped: int
    indicator: bool

    @classmethod
    def of(cls, column: ColumnConfig, seen: Column) -> Self:
        """Count what the schema of a column makes of its values."""
        encodes = ", ".join(column.categories)
        if column.kind == "numeric":
            encodes = f"{column.minimum:g} to {column.maximum:g}"
        return cls(
            kind=column.kind,
            encodes=encodes,
            missing=int(seen.missing.sum()),
            clipped=outside(column, seen),
            indicator=column.indicator,
        )


@dataclass(frozen=True, kw_only=True)
class LengthReport:
    """Lengths of texts, in characters or tokens.

    Attributes:
        median: median length.
        percentile_95: length that 95 % of the texts do not exceed.
        longest: largest length.
        cut: share of texts that ``task.max_tokens`` shortens; None for characters.
    """

    median: float
    percentile_95: float
    longest: int
    cut: float | None = None


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """Counts of a file, a query or a folder.

    Attributes:
        records: number of records read.
        left_out: reason, one of :data:`~confide.client.records.tally.REASONS` -> number of records
            that do not count; None if unknown.
        labels: label, or what else the outcome counts by -> number of records.
        missing: column -> number of records where it is empty.
    """

    records: int
    left_out: Mapping[str, int] | None
    labels: Mapping[str, int]
    missing: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that ``confide data check`` reports.

    Attributes:
        path: source of the records, without a password.
        problems: sentences about what does not fit; empty if the records are ready.
        notes: sentences that the records' owner should read.
        source: counts over all records; None if they could not be read.
        files: name -> counts of each file of a folder.
        splits: split -> expected number of units.
        columns: name -> report of each input column of a table.
        lengths: lengths of texts, in ``characters`` and, with a tokenizer, in ``tokens``.
    """

    path: str
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()
    source: SourceReport | None = None
    files: Mapping[str, SourceReport] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, ColumnReport] = field(default_factory=dict)
    lengths: Mapping[str, LengthReport] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether the records fit, so that training may start."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {"ready": self.ready, **dataclasses.asdict(self)}


def check_records(
    config: Config,
    *,
    count_tokens: CountTokens = lambda *columns: None,
    notes_fn: NotesFn = lambda records: (),
) -> Report:
    """Check records as an institution's own client would.

    Args:
        config: settings of task and data; how a simulation partitions records is ignored.
        count_tokens: function that counts tokens with the backbone's tokenizer.
        notes_fn: function that tells what only the task knows, once it is built; raises DataError
            with what is wrong.
    """
    task, data = config.task, _without_partitioning(config.data)
    try:
        source = read_source(data, task)
    except DataError as error:
        return Report(path=data.source, problems=error.problems)
    if source.files and data.partition_by is None:
        data = dataclasses.replace(data, partitioner="natural")
    checked = _checked_if_possible(source.records, data, task)
    if checked is not None:
        checked = _drawn(checked, config.data)
    units = len(source.records) if checked is None else checked.tally.used
    parts = read_parts(source, task)
    whole = read_whole(source, parts, task)
    tokens = _tokens(source.records, task, count_tokens)
    problems = source_problems(source, parts, data, task)
    found: Sequence[str] = ()
    if checked is not None and not problems:
        problems = list(too_few(checked.records, data, task))
        found = () if problems else _asked(notes_fn, checked.records, problems)
    return Report(
        path=data.source,
        problems=problems,
        notes=[
            *_drafted(task),
            *source_notes(source, parts, whole, task),
            *(() if checked is None else (*checked.tally.sentences(), *checked.notes)),
            *found,
            *(() if tokens is None else token_notes(tokens, task.text_limits)),
        ],
        source=_source_report(source.records, whole, task, checked),
        files={
            part.name: _source_report(
                part.records, part.read, task, _checked_if_possible(part.records, data, task)
            )
            for part in parts
            if part.name
        },
        splits=_splits(units, units - _lacking(checked, task), data),
        columns={
            name: ColumnReport.of(column, whole.columns[name])
            for name, column in task.table_columns.items()
            if name in whole.columns
        },
        lengths=_length_reports(source.records, task, tokens),
    )


def _lacking(checked: CheckedRecords | None, task: TaskConfig) -> int:
    """Count records without a label that are for training alone."""
    if checked is None or task.self_training is None:
        return 0
    return labelled_of(checked.records, task.target_columns).count(False)


def _splits(units: int, labelled: int, data: DataConfig) -> dict[str, int]:
    """Return expected sizes: a unit's split is decided by a key, which is not asked for here."""
    validation, test = round(labelled * data.validation), round(labelled * data.test)
    lost = 0
    if data.group_column is not None:  # held out with their owner, and so in no split
        lost = round((units - labelled) * (data.validation + data.test))
    train = units - validation - test - lost
    return {"train": train, "validation": validation, "test": test}


def _asked(notes_fn: NotesFn, records: Dataset, problems: list[str]) -> Sequence[str]:
    """Return what a task itself says of records; add to the problems what it refuses."""
    try:
        return notes_fn(records)
    except DataError as error:
        problems += error.problems
        return ()


def _without_partitioning(data: DataConfig) -> DataConfig:
    """Return the settings that an institution has too, which has its records already.

    Where a column of the records names their institutions, ids belong to these.
    """
    settings: dict[str, Any] = {"partitioner_args": {}, "max_records": None, "num_clients": None}
    if data.partitioner != "natural" or not _has_column(data, data.partition_by):
        settings |= {"partitioner": "iid", "partition_by": None}
    return dataclasses.replace(data, **settings)


def _has_column(data: DataConfig, column: str | None) -> bool:
    if column is None or data._target_ is not None:
        return False
    try:
        return column in shared_columns(data.path, query=data.query)
    except DataError:  # told when the source is read
        return False


def _drawn(checked: CheckedRecords, data: DataConfig) -> CheckedRecords:
    """Count what a simulation leaves out beyond ``max_records``."""
    beyond = len(checked.records) - (data.max_records or len(checked.records))
    return dataclasses.replace(checked, tally=checked.tally.without("max_records", max(0, beyond)))


def _drafted(task: TaskConfig) -> Iterator[str]:
    if task.drafted:
        yield (
            f"Nobody has confirmed the ranges and categories of {', '.join(task.drafted)}, which"
            " were drafted from records: correct them to what is possible, and take their names"
            " from task.drafted."
        )


def _checked_if_possible(
    records: Dataset, data: DataConfig, task: TaskConfig
) -> CheckedRecords | None:
    """Keep one record a unit; None if columns are missing or ids are null."""
    needed = (data.id_column,) if data.id_column is not None else task.content_columns
    owner = () if data.group_column is None else (data.group_column,)
    columns = {*needed, *owner, *task.content_columns, *task.target_columns}
    if not columns <= set(records.column_names):
        return None
    try:
        return gather(records, data, task)
    except DataError:
        return None


def _source_report(
    records: Dataset, seen: Read, task: TaskConfig, checked: CheckedRecords | None
) -> SourceReport:
    empty = {name: column.missing for name, column in seen.columns.items()}
    names = [name for name in records.column_names if name != FILE_COLUMN]
    return SourceReport(
        records=len(records),
        left_out=None if checked is None else dict(checked.tally.left_out),
        labels=outcome_of(task).counts(seen.targets.fitting),
        missing={
            name: int(empty[name].sum())
            if name in empty
            else sum(not value for value in records[name][:])
            for name in names
        },
    )


def _tokens(records: Dataset, task: TaskConfig, count_tokens: CountTokens) -> TokenCounts | None:
    columns = _texts(records, task)
    counted = [
        count_tokens(*(texts[start : start + _BATCH] for texts in columns))
        for start in range(0, len(columns[0]) if columns else 0, _BATCH)
    ]
    parts = [part for part in counted if part is not None]
    if not parts:
        return None
    return TokenCounts(
        [length for part in parts for length in part.lengths], sum(part.unknown for part in parts)
    )


def _texts(records: Dataset, task: TaskConfig) -> list[Sequence[str]]:
    """Return the columns of texts, of records that lack none; [] where a column is missing."""
    names = list(task.text_limits)
    if not names or not set(names) <= set(records.column_names):
        return []
    rows = zip(*(records[name][:] for name in names), strict=True)
    whole = [row for row in rows if None not in row]
    return [plain_texts(task, texts) for texts in zip(*whole, strict=True)]


def _length_reports(
    records: Dataset, task: TaskConfig, tokens: TokenCounts | None
) -> dict[str, LengthReport]:
    columns = _texts(records, task)
    if not columns:
        return {}
    lengths = {
        "characters": _length_report([sum(map(len, row)) for row in zip(*columns, strict=True)])
    }
    if tokens is not None:
        max_tokens = max(task.text_limits.values())
        cut = sum(length > max_tokens for length in tokens.lengths) / len(tokens.lengths)
        lengths["tokens"] = dataclasses.replace(_length_report(tokens.lengths), cut=cut)
    return lengths


def _length_report(lengths: Sequence[int]) -> LengthReport:
    ordered = sorted(lengths)
    return LengthReport(
        median=statistics.median(ordered),
        percentile_95=ordered[int(0.95 * (len(ordered) - 1))],
        longest=ordered[-1],
    )


__all__ = [
    "ColumnReport",
    "CountTokens",
    "LengthReport",
    "NotesFn",
    "Report",
    "SourceReport",
    "check_records",
]
