"""What an institution's records look like to a task, before anything is trained. Needs no torch.

A report counts; it names labels and categories, never the value of a single record.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from confide.client.records.checked import Pool, files_of, gather, read_table, table_problems
from confide.client.records.sources import FILE_COLUMN, Table
from confide.config.data import DataConfig
from confide.config.run import Config
from confide.config.task import ColumnConfig, TabularConfig, TaskConfig, TextClassificationConfig
from confide.errors import DataError
from confide.tasks.schema import Column, content_columns, label_counts, read

CountTokens = Callable[[Sequence[str]], list[int] | None]
"""Texts -> tokens of each, special ones included, before anything is cut; None where there is no
tokenizer."""
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class ColumnReport:
    """One input column of a table, and what the schema will do with it.

    Attributes:
        kind: numeric or categorical.
        encodes: its public range, or its categories.
        missing: records where it is missing; a number becomes the middle of its range, a category
            none.
        clipped: numbers outside the range.
        indicator: whether an input says that the value is missing.
    """

    kind: str
    encodes: str
    missing: int
    clipped: int
    indicator: bool


@dataclass(frozen=True, kw_only=True)
class LengthReport:
    """How long texts are, in characters or tokens.

    ``cut`` is the share that ``task.max_tokens`` shortens.
    """

    median: float
    percentile_95: float
    longest: int
    cut: float | None = None


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """A file, a query or a folder.

    Attributes:
        records: as they were read.
        repeated: those that repeat a unit and do not count.
        labels: label -> records.
        missing: column -> records where it is empty.
    """

    records: int
    repeated: int | None
    labels: Mapping[str, int]
    missing: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that ``confide data check`` says.

    Attributes:
        path: where from, without a password.
        problems: what does not fit; none: ready.
        notes: what the owner should know.
        source: of everything.
        files: of each file of a folder.
        splits: split -> expected units.
        columns: of a table.
        lengths: of texts, in ``characters`` and, with a tokenizer, in ``tokens``.
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
        """Whether training may start."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {"ready": self.ready, **dataclasses.asdict(self)}


def check_records(config: Config, *, count_tokens: CountTokens = lambda texts: None) -> Report:
    """Look at records as an institution's own client would.

    Args:
        config: task and data; how a simulation deals records out does not matter here.
        count_tokens: of the backbone's tokenizer.
    """
    data, task = _institution(config.data), config.task
    try:
        table = read_table(data, task)
    except DataError as error:
        return Report(path=data.source, problems=error.problems)
    if table.files:
        data = dataclasses.replace(data, partitioner="natural")
    pool = _pool(table, data, task)
    parts = {name: _source_report(part, data, task) for name, part in files_of(table) if name}
    return Report(
        path=data.source,
        problems=table_problems(table, data, task),
        notes=() if pool is None else pool.notes,
        source=_source_report(table.records, data, task, pool),
        files=parts,
        splits=_expected_splits(data, len(table.records) if pool is None else len(pool.records)),
        columns=_column_reports(table.records, task),
        lengths=_lengths(table.records, task, count_tokens),
    )


def _institution(data: DataConfig) -> DataConfig:
    """Leave out what concerns only dealing out."""
    return dataclasses.replace(
        data, partitioner="iid", partition_by=None, partitioner_args={}, max_records=None
    )


def _pool(table: Table, data: DataConfig, task: TaskConfig) -> Pool | None:
    """Count units; None where ids or columns do not allow it."""
    needed = (data.id_column,) if data.id_column is not None else content_columns(task)
    owner = () if data.group_column is None else (data.group_column,)
    if not {*needed, *owner, *content_columns(task), task.label_column} <= set(
        table.records.column_names
    ):
        return None
    try:
        return gather(table.records, data, task)
    except DataError:
        return None


def _source_report(
    records: Dataset, data: DataConfig, task: TaskConfig, pool: Pool | None = None
) -> SourceReport:
    pool = pool or _pool(Table(records=records), data, task)
    seen = read(records, task)
    empty = {name: column.missing for name, column in seen.columns.items()}
    names = [name for name in records.column_names if name != FILE_COLUMN]
    return SourceReport(
        records=len(records),
        repeated=None if pool is None else pool.repeated,
        labels=label_counts(seen.labels, task),
        missing={
            name: int(empty[name].sum())
            if name in empty
            else sum(not value for value in records[name][:])
            for name in names
        },
    )


def _expected_splits(data: DataConfig, units: int) -> dict[str, int]:
    validation, test = round(units * data.validation), round(units * data.test)
    return {"train": units - validation - test, "validation": validation, "test": test}


def _column_reports(records: Dataset, task: TaskConfig) -> dict[str, ColumnReport]:
    if not isinstance(task, TabularConfig):
        return {}
    seen = read(records, task).columns
    return {
        name: _column_report(column, seen[name])
        for name, column in task.columns.items()
        if name in seen
    }


def _column_report(column: ColumnConfig, seen: Column) -> ColumnReport:
    numeric = column.kind == "numeric"
    outside = (
        (seen.values < column.minimum) | (seen.values > column.maximum)
        if numeric
        else seen.missing & False
    )
    return ColumnReport(
        kind=column.kind,
        encodes=f"{column.minimum:g} to {column.maximum:g}"
        if numeric
        else ", ".join(column.categories),
        missing=int(seen.missing.sum()),
        clipped=int(outside.sum()),
        indicator=column.indicator,
    )


def _lengths(
    records: Dataset, task: TaskConfig, count_tokens: CountTokens
) -> dict[str, LengthReport]:
    if (
        not isinstance(task, TextClassificationConfig)
        or task.text_column not in records.column_names
    ):
        return {}
    texts = [text for text in records[task.text_column][:] if text is not None]
    if not texts:
        return {}
    lengths = {"characters": _length_report([len(text) for text in texts])}
    counted = [
        count_tokens(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)
    ]
    tokens = [length for part in counted if part is not None for length in part]
    if tokens:
        cut = sum(length > task.max_tokens for length in tokens) / len(tokens)
        lengths["tokens"] = dataclasses.replace(_length_report(tokens), cut=cut)
    return lengths


def _length_report(lengths: Sequence[int]) -> LengthReport:
    ordered = sorted(lengths)
    return LengthReport(
        median=statistics.median(ordered),
        percentile_95=ordered[int(0.95 * (len(ordered) - 1))],
        longest=ordered[-1],
    )


__all__ = ["ColumnReport", "CountTokens", "LengthReport", "Report", "SourceReport", "check_records"]
