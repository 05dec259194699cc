"""Where predictions go: CSV, JSON lines or Parquet, a part at a time."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pandas
import pyarrow
import pyarrow.parquet

from confide.errors import ConfigError
from confide.storage.files import replace_file


def write_predictions(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    """Write frames one after another to a file, whole or not at all.

    Args:
        path: ends in one of :data:`WRITERS`.
        frames: of the same columns, at least one.

    Raises:
        StorageError: if it cannot be written.
    """
    write = writer_for(path)
    replace_file(path, lambda temporary: write(temporary, frames))


def writer_for(path: Path) -> Callable[[Path, Iterator[pandas.DataFrame]], None]:
    """Return what writes files that end so.

    Raises:
        ConfigError: naming the endings that are understood.
    """
    found = WRITERS.get(path.suffix.lower())
    if found is None:
        raise ConfigError(f"--output {path}: expected a file that ends in {', '.join(WRITERS)}.")
    if not path.parent.is_dir():
        raise ConfigError(
            f"--output {path}: there is no folder {path.parent}; make it, or name another."
        )
    return found


def write_csv(file: IO[str], frames: Iterator[pandas.DataFrame], *, separator: str = ",") -> None:
    """Write CSV with a header."""
    for number, frame in enumerate(frames):
        # Before Python 3.13 a carriage return alone is not quoted, and would end the line for who
        # reads it.
        returns = any(
            "\r" in text
            for name in frame
            if frame[name].dtype.kind != "f"
            for text in frame[name].dropna()
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


def _write_csv(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, frames)


def _write_tsv(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, frames, separator="\t")


def _write_json_lines(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for frame in frames:
            frame.to_json(file, orient="records", lines=True, force_ascii=False)


def _write_parquet(path: Path, frames: Iterator[pandas.DataFrame]) -> None:
    writer = None
    try:
        for frame in frames:
            # A column may be empty throughout a part: its type is the first part's.
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
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}

__all__ = ["WRITERS", "write_csv", "write_predictions", "writer_for"]
