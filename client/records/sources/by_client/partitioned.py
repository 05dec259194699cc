"""Parquet partitioned by columns: ``records/client=17/part-0.parquet``.

The layout of Hive, which Spark, pandas, Polars and pyarrow write: what a folder's name says is a
column that its files lack. Its values stay the text that they are: ``client=007`` is 007.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow

from confide.client.records.sources.formats import open_file
from confide.client.records.sources.opened import Opened
from confide.client.records.sources.reading import Reading
from confide.errors import DataError

SUFFIX = ".parquet"
_WRITTEN = re.compile(r"__index_level_\d+__")
_NULL = "__HIVE_DEFAULT_PARTITION__"
# What writers leave beside the files
_LEFT_BY_WRITERS = ("_SUCCESS", "_metadata", "_common_metadata")


class PartitionedFile(NamedTuple):
    """A file, and what the names of its folders say.

    Attributes:
        path: of the file.
        values: column -> value, the same columns for each file.
    """

    path: Path
    values: Mapping[str, str | None]


def is_partitioned(folder: Path) -> bool:
    """Say whether all that a folder holds are folders called COLUMN=VALUE."""
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _LEFT_BY_WRITERS:
                continue
            if "=" not in entry.name or not entry.is_dir():
                return False
            found = True
    return found


def partitioned_files(folder: Path, hidden: list[Path] | None = None) -> Iterator[PartitionedFile]:
    """Yield the files of a partitioned folder, in the order of their paths.

    Args:
        folder: the folder.
        hidden: filled with folders and Parquet files that are left out for their first letter.

    Raises:
        DataError: if a folder's name says nothing, a file is of another kind, or files lie at
            different depths.
    """
    columns: tuple[str, ...] | None = None
    for place, names, files in os.walk(folder, onerror=_refuse):
        if hidden is not None:
            unseen = [*names, *(name for name in files if name.lower().endswith(SUFFIX))]
            hidden += [Path(place) / name for name in unseen if name.startswith(".")]
        # In place, which os.walk reads
        names[:] = sorted(name for name in names if not name.startswith("."))
        within = Path(place).relative_to(folder).parts
        odd = [name for name in names if "=" not in name]
        shown = [name for name in sorted(files) if not _is_left(name)]
        odd += [name for name in shown if not name.lower().endswith(SUFFIX)]
        if odd:
            raise DataError(
                f"data.path={folder}: expected folders called COLUMN=VALUE and {SUFFIX} files in"
                f" them; move {Path(*within, odd[0])} elsewhere."
            )
        links = [name for name in names if (Path(place) / name).is_symlink()]
        if links:  # os.walk passes over them, and records would be left out unseen
            raise DataError(
                f"data.path={folder}: {Path(*within, links[0])} is a link to a folder elsewhere,"
                " which may lead back here; put what it leads to in its place."
            )
        values = dict(map(_value, within))
        for name in shown:
            columns = tuple(values) if columns is None else columns
            if tuple(values) != columns or len(values) != len(within):
                raise DataError(
                    f"data.path={folder}: {Path(*within, name)} lies under"
                    f" {', '.join(values) or 'no column'}, and other files under"
                    f" {', '.join(columns) or 'none'}; write them all in one layout."
                )
            yield PartitionedFile(Path(place) / name, values)


def open_partitioned(folder: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open a partitioned folder.

    Raises:
        DataError: if it holds no files, or these have different columns.
    """
    hidden: list[Path] = []
    files = list(partitioned_files(folder, hidden))
    if not files:
        raise DataError(f"data.path={folder}: there is no {SUFFIX} file in its folders.")
    first = open_part(files[0], (), reading).columns
    notes = []
    if hidden:
        shown = sorted(str(path.relative_to(folder)) for path in hidden)
        notes.append(
            f"{len(hidden)} hidden files and folders are left out, such as {shown[0]}; rename what"
            " is to be read."
        )
    batches = _batches(files, first, columns, reading, folder, notes)
    return Opened(columns=first, batches=batches, notes=notes)


def open_part(file: PartitionedFile, columns: Sequence[str], reading: Reading) -> Opened:
    """Open one file, with the columns that its folders' names say.

    Raises:
        DataError: if it cannot be read, or has one of these columns itself.
    """
    opened = open_file(file.path, columns, reading)
    both = sorted(set(opened.columns) & set(file.values))
    if both:
        raise DataError(
            f"data.path={file.path}: has a column {both[0]}, which its folder's name says as well;"
            " leave it out of the file."
        )
    added = {name: value for name, value in file.values.items() if name in columns}
    # pandas writes its index into files whose rows were picked, and not into others
    own = [name for name in opened.columns if not _WRITTEN.fullmatch(name)]
    return Opened(
        columns=(*own, *file.values),
        batches=(_with(batch, added) for batch in opened.batches),
    )


def _batches(
    files: Sequence[PartitionedFile],
    expected: tuple[str, ...],
    columns: Sequence[str],
    reading: Reading,
    folder: Path,
    notes: list[str],
) -> Iterator[pyarrow.Table]:
    kept = [name for name in expected if name in columns]
    told = set(expected) if len(kept) == len(expected) else None  # else not all are asked for
    for file in files:
        opened = open_part(file, columns, reading)
        lacking = [name for name in kept if name not in opened.columns]
        if lacking:
            raise DataError(
                f"data.path={folder}: {file.path.relative_to(folder)} has no column"
                f" {', '.join(lacking)}, which {files[0].path.relative_to(folder)} has; write both"
                " with the same columns."
            )
        new = [name for name in opened.columns if told is not None and name not in told]
        if told is not None and new:
            told.update(new)
            notes.append(
                f"Columns that {files[0].path.relative_to(folder)} lacks are left out:"
                f" {', '.join(new)}, in {file.path.relative_to(folder)} for one."
            )
        for batch in opened.batches:
            yield batch.select(kept)


def _with(batch: pyarrow.Table, values: Mapping[str, str | None]) -> pyarrow.Table:
    for name, value in values.items():
        batch = batch.append_column(name, pyarrow.array([value] * len(batch), pyarrow.string()))
    return batch


def _value(name: str) -> tuple[str, str | None]:
    column, _, value = name.partition("=")
    return unquote(column), None if value == _NULL else unquote(value)


def _is_left(name: str) -> bool:
    return name.startswith(".") or name in _LEFT_BY_WRITERS


def _refuse(error: OSError) -> None:
    raise DataError(
        f"data.path={error.filename}: the folder cannot be read: {error.strerror}; let this user"
        " read it."
    )


__all__ = [
    "PartitionedFile",
    "is_partitioned",
    "open_part",
    "open_partitioned",
    "partitioned_files",
]
