"""Files of predictions: CSV, TSV, JSON lines or Parquet, written a part at a time."""

import csv
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pandas
import pyarrow
import pyarrow.parquet

from confide.errors import ConfigError
from confide.storage.files import replace_file


def write_predictions(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    """Write frames one after another to a file, completely or not at all.

    Args:
        path: path of the file, with one of the extensions in :data:`WRITERS`.
        frames: frames with the same columns; at least one.

    Raises:
        StorageError: if it cannot be written.
    """
    write = writer_for(path)
    replace_file(path, lambda temporary: write(temporary, frames))


def writer_for(path: Path) -> Callable[[Path, Iterator[pandas.DataFrame]], None]:
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


def write_csv(file: IO[str], frames: Iterator[pandas.DataFrame], *, separator: str = ",") -> None:
    """Write CSV with a header."""
    for number, frame in enumerate(frames):
        # Before Python 3.13 a carriage return alone is not quoted, and a reader would take it for
        # the end of a line
        returns = any(
            frame[name].astype("string").str.contains("\r", regex=False).any()
            for name in frame
            if frame[name].dtype.kind != "f"
        )
        quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
        frame.to_csv(
            file,
            sep=separator,
            index=False,
            header=number == 0,
            lineterminator="\n",
            quoting=quoting,
        )


def write_delimited(path: Path, frames: Iterator[pandas.DataFrame], *, separator: str) -> None:
    """Write a CSV or TSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, frames, separator=separator)


def write_json_lines(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    """Write a file with one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for frame in frames:
            frame.to_json(file, orient="records", lines=True, force_ascii=False)


def write_parquet(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    """Write a Parquet file."""
    writer = None
    try:
        for frame in frames:
            # The first part's types for all parts: a column may be empty in a later one, and
            # would have another type there
            table = pyarrow.Table.from_pandas(
                frame, schema=writer.schema if writer else _schema(frame), preserve_index=False
            )
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _schema(frame: pandas.DataFrame) -> pyarrow.Schema:
    numbers = {name for name, kind in frame.dtypes.items() if kind.kind == "f"}
    return pyarrow.schema(
        [
            (str(name), pyarrow.float32() if name in numbers else pyarrow.string())
            for name in frame.columns
        ]
    )


WRITERS: dict[str, Callable[[Path, Iterator[pandas.DataFrame]], None]] = {
    ".csv": functools.partial(write_delimited, separator=","),
    ".tsv": functools.partial(write_delimited, separator="\t"),
    ".jsonl": write_json_lines,
    ".parquet": write_parquet,
}

__all__ = ["WRITERS", "write_csv", "write_predictions", "writer_for"]
