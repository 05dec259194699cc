"""Files of predictions: CSV, TSV, JSON lines or Parquet, written a part at a time."""

import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow
import pyarrow.parquet

from confide.client.records.whole import JSON
from confide.errors import ConfigError
from confide.storage.files import replace_file
from confide.tasks.values import canonical_text, text_column
from confide.terminal import PlainStream


def write_predictions(path: Path, tables: Iterator[pyarrow.Table]) -> None:
    """Write tables one after another to a file, whole or not at all, readable by its owner alone.

    Args:
        path: path of the file, with one of the extensions in :data:`WRITERS`.
        tables: tables of one schema; at least one.

    Raises:
        StorageError: if it cannot be written.
    """
    write = writer_for(path)
    replace_file(path, lambda temporary: write(temporary, tables), mode=0o600)


def writer_for(path: Path) -> Callable[[Path, Iterator[pyarrow.Table]], None]:
    """Return the function that writes files with a path's extension.

    Raises:
        ConfigError: if the extension is unknown, or the folder does not exist.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise ConfigError(f"--output {path}: expected a file that ends in {', '.join(WRITERS)}.")
    if not path.parent.is_dir():
        raise ConfigError(
            f"--output {path}: there is no folder {path.parent}; make it, or name another."
        )
    return writer


def write_csv(
    file: IO[str] | PlainStream, tables: Iterator[pyarrow.Table], *, separator: str = ","
) -> None:
    """Write CSV with a header; null is an empty field."""
    # Not Python's writer, which before 3.13 leaves a carriage return alone without quotes: a reader
    # would take it for the end of a line
    needs_quotes = re.compile(f'["\r\n{separator}]').search

    def line(fields: Any) -> str:
        quoted = (
            '"' + field.replace('"', '""') + '"' if needs_quotes(field) else field
            for field in fields
        )
        return separator.join(quoted) + "\n"

    for number, table in enumerate(tables):
        if number == 0:
            file.write(line(table.column_names))
        columns = [_as_text(field, table[field.name]) for field in table.schema]
        file.writelines(map(line, zip(*columns, strict=True)))


def _as_text(field: pyarrow.Field, column: pyarrow.ChunkedArray) -> list[str]:
    if field.metadata == JSON:
        values = column.to_pylist()
        return [str(json.loads(v)) if v and v[0] == '"' else v or "" for v in values]
    if pyarrow.types.is_floating(field.type):
        return ["" if value is None else value for value in _floats(column)]
    return [value or "" for value in text_column(field.name, column).to_pylist()]


def _floats(column: pyarrow.ChunkedArray) -> list[str | None]:
    """Write each number as short as it means itself in its own precision."""
    numbers = column.to_numpy()
    return [
        None if null or number != number else str(number)
        for number, null in zip(numbers, column.is_null().to_pylist(), strict=True)
    ]


def write_delimited(path: Path, tables: Iterator[pyarrow.Table], *, separator: str) -> None:
    """Write a CSV or TSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, tables, separator=separator)


def write_json_lines(path: Path, tables: Iterator[pyarrow.Table]) -> None:
    """Write a file with one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            keys = [json.dumps(name, ensure_ascii=False) for name in table.column_names]
            columns = [_as_json(field, table[field.name]) for field in table.schema]
            for row in zip(*columns, strict=True):
                pairs = (f"{key}:{value}" for key, value in zip(keys, row, strict=True))
                file.write("{" + ",".join(pairs) + "}\n")


def _as_json(field: pyarrow.Field, column: pyarrow.ChunkedArray) -> list[str]:
    if field.metadata == JSON:
        return [value or "null" for value in column.to_pylist()]
    if pyarrow.types.is_floating(field.type):
        return [value or "null" for value in _floats(column)]
    dump = functools.partial(json.dumps, ensure_ascii=False, default=canonical_text)
    return [dump(value) for value in column.to_pylist()]


def write_parquet(path: Path, tables: Iterator[pyarrow.Table]) -> None:
    """Write a Parquet file."""
    writer = None
    try:
        for table in tables:
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


WRITERS: dict[str, Callable[[Path, Iterator[pyarrow.Table]], None]] = {
    ".csv": functools.partial(write_delimited, separator=","),
    ".tsv": functools.partial(write_delimited, separator="\t"),
    ".jsonl": write_json_lines,
    ".parquet": write_parquet,
}

__all__ = ["WRITERS", "write_csv", "write_predictions", "writer_for"]
