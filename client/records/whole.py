"""Records to predict on, whole: columns that the model does not need come out as they came in."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import pyarrow
from datasets import Dataset

from confide.client.records.sources.formats import ARRAYS
from confide.client.records.sources.json_lines import table_of
from confide.client.records.sources.opened import Opened
from confide.client.records.sources.reading import READ_AS_TEXT, Reading
from confide.client.records.sources.sources import column_names, open_single, source_file
from confide.client.records.sources.spool import collect
from confide.errors import ConfigError, DataError
from confide.held import file_cells, parse_held
from confide.security.redaction import redact
from confide.tasks.values import text_column

IN_MEMORY_MB = 1024
"""MiB of records held in memory; more goes to an unlinked temporary file."""
JSON = {b"confide": b"json"}
"""Metadata of a field whose values are JSON, numbers as they were written."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """Records as they came.

    Attributes:
        records: the columns that the model needs, as canonical text.
        kept: the columns to keep, with their types; those of JSON lines and of databases are JSON,
            and their fields say so.
        places: where each record is, such as the path of its file; empty where its number says it.
    """

    records: Dataset
    kept: pyarrow.Table
    places: Sequence[str] = ()

    def typed(self) -> pyarrow.Table:
        """Return the columns to keep with one type each; those with several types are text."""
        made = {}
        for field in self.kept.schema:
            column = self.kept[field.name]
            made[field.name] = _typed(column) if field.metadata == JSON else column
        return pyarrow.table(made)


def read_whole(
    path: str,
    *,
    query: str | None,
    needed: Sequence[str],
    keep: Sequence[str] | None,
    reading: Reading = READ_AS_TEXT,
) -> Whole:
    """Read records.

    Args:
        path: path of a file, ``pkg://PACKAGE/FILE`` or a database's URL.
        query: SQL query, if ``path`` is a URL.
        needed: names of columns to read if they exist.
        keep: names of further columns; None for all.
        reading: how text files are read.

    Raises:
        ConfigError: if a column to keep does not exist.
        DataError: if the source cannot be read, or has none of the columns.
    """
    reading = replace(reading, whole=True)
    try:
        names = column_names(path, query=query, reading=reading)
        kept = list(names if keep is None else keep)
        lacking = [name for name in kept if name not in names]
        if lacking:
            raise ConfigError(
                f"--keep: {redact(path)} has no column {', '.join(lacking)}; it has"
                f" {', '.join(names)}."
            )
        columns = [name for name in names if name in {*needed, *kept}]
        if not columns:
            raise DataError(
                f"{redact(path)} has none of {', '.join(needed)}; it has {', '.join(names)}. Rename"
                " its columns."
            )
        with open_single(path, query, columns, reading) as opened:
            table, places = _table(opened, path), tuple(opened.places or ())
        text = {name: _text(table, name, path, reading) for name in columns if name in needed}
    except DataError as error:
        # Its words are for the setting of a run; here the path came from the command line
        raise DataError(
            [problem.removeprefix("data.path=") for problem in error.problems]
        ) from None
    for one in () if reading.files is None else reading.files.each:
        # A file's content has no place in a table of predictions; where it lies has
        if one.column in kept and not _names_files(table[one.column]):
            kept.remove(one.column)
    # One column more, so that records without any that is needed are still counted
    counted = pyarrow.table(text) if text else table.select(columns[:1])
    # Without a fingerprint `datasets` would pickle every record to compute one
    records = Dataset(counted, fingerprint=uuid4().hex)
    return Whole(records=records, kept=table.select(kept), places=places)


def _table(opened: Opened, path: str) -> pyarrow.Table:
    first = next(opened.batches, None)
    if first is None:
        raise DataError(f"{redact(path)} holds no records; expected at least one.")
    batches = itertools.chain([first], opened.batches)
    table = collect(batches, first.schema, in_memory_mb=IN_MEMORY_MB)
    if not len(table):
        raise DataError(f"{redact(path)} holds no records; expected at least one.")
    if opened.is_json:
        fields = [field.with_metadata(JSON) for field in table.schema]
        return table.cast(pyarrow.schema(fields))
    return table


def _names_files(column: pyarrow.ChunkedArray) -> bool:
    if not pyarrow.types.is_string(column.type):
        return False
    return all(parse_held(cell) is None for cell in column.slice(0, 1).to_pylist())


def _text(table: pyarrow.Table, name: str, path: str, reading: Reading) -> pyarrow.Array:
    files = None if reading.files is None else reading.files.of(name)
    if files is not None:
        values = table[name]
        if table.schema.field(name).metadata == JSON:
            values = pyarrow.array(_values(values))
        place = source_file(path)
        folder = None if place is None else place if place.is_dir() else place.parent
        looked = place is not None and (place.is_dir() or place.suffix.lower() == ARRAYS)
        return file_cells(values, files, folder, looked=looked)
    if table.schema.field(name).metadata != JSON:
        return text_column(name, table[name])
    return table_of([_values(table[name])], [name])[name].combine_chunks()


def _values(column: pyarrow.ChunkedArray) -> list[object]:
    return [None if one is None else json.loads(one) for one in column.to_pylist()]


def _typed(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray | pyarrow.Array:
    try:
        return pyarrow.array(_values(column))
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        # As in CSV: texts without their quotes, anything else as it was written
        return pyarrow.array(
            [json.loads(v) if v and v[0] == '"' else v for v in column.to_pylist()],
            pyarrow.string(),
        )


__all__ = ["IN_MEMORY_MB", "JSON", "Whole", "read_whole"]
