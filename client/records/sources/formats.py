"""File formats of records, each read in batches; no copy of a record is left anywhere."""

import contextlib
import difflib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet

from confide.client.records.sources.arrays import open_arrays
from confide.client.records.sources.by_client.leaf import is_leaf_file, open_leaf
from confide.client.records.sources.conll import open_conll
from confide.client.records.sources.delimited import open_delimited
from confide.client.records.sources.files import with_files
from confide.client.records.sources.json_lines import open_json, open_json_lines
from confide.client.records.sources.opened import BATCH, Opened
from confide.client.records.sources.reading import READ_AS_TEXT, Reading
from confide.config.tasks.media.files import FileReading
from confide.config.tasks.media.pictures import PictureReading
from confide.errors import DataError
from confide.tasks.reading import parse_number
from confide.tasks.values import text_column

ARRAYS = ".npz"
"""Ends the names of files whose pictures are looked at as they are read."""


def _guess(path: Path) -> str:
    """Name files beside one that is not there, which may be meant."""
    try:
        names = [it.name for it in path.parent.iterdir() if it.suffix.lower() in EXTENSIONS]
    except OSError:
        return f" There is no folder {path.parent}."
    close = difflib.get_close_matches(path.name, names, n=2, cutoff=0.7)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def open_file(path: Path, columns: Sequence[str], reading: Reading = READ_AS_TEXT) -> Opened:
    """Open one file of records.

    Args:
        path: path of a file with one of :data:`EXTENSIONS`.
        columns: names of the columns to keep.
        reading: how it is read.

    Raises:
        DataError: if the file is missing, empty, malformed, or has an unknown extension.
    """
    if not path.is_file():
        raise DataError(f"data.path={path}: no such file.{_guess(path)}")
    open_as = EXTENSIONS.get(path.suffix.lower())
    if open_as is None:
        raise DataError(
            f"data.path={path}: expected a file that ends in {', '.join(EXTENSIONS)}; export the"
            " records as one."
        )
    if not path.stat().st_size:
        raise DataError(f"data.path={path}: the file is empty; export the records again.")
    with _explained(path):
        opened = open_as(path, columns, reading)
    for name in columns:
        if opened.columns.count(name) > 1:
            headless = not any(math.isnan(parse_number(one)) for one in opened.columns)
            hint = " Is its first line a record? Write the names of columns above it." * headless
            raise DataError(
                f"data.path={path}: {opened.columns.count(name)} columns are called {name}; rename"
                f" all but one.{hint}"
            )
    batches = _checked(path, opened.batches)
    if reading.files is not None and not reading.whole:
        looked = path.suffix.lower() == ARRAYS
        batches = with_files(batches, reading.files, path.parent, looked=looked)
    return replace(opened, batches=batches)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what readers raise into one kind of error."""
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"data.path={path}: cannot be read as {path.suffix}: {why}") from None


def _checked(path: Path, batches: Iterator[pyarrow.Table]) -> Iterator[pyarrow.Table]:
    while True:
        with _explained(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def as_text(
    batches: Iterator[pyarrow.Table],
    columns: Sequence[str],
    files: FileReading | None = None,
) -> Iterator[pyarrow.Table]:
    """Convert the wanted columns to text, a batch at a time; a column of files stays as it is.

    Raises:
        DataError: naming a column whose values cannot be written so.
    """
    for batch in batches:
        yield pyarrow.table(
            {
                name: batch[name]
                if files is not None and files.of(name) is not None
                else text_column(name, batch[name])
                for name in columns
            }
        )


def open_parquet(path: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open a Parquet file; other columns are not even decoded."""
    with pyarrow.parquet.ParquetFile(path) as file:
        names = tuple(file.schema_arrow.names)
    kept = [name for name in names if name in columns]
    return _typed(names, kept, _parquet_batches(path, kept), reading)


def _parquet_batches(path: Path, kept: Sequence[str]) -> Iterator[pyarrow.Table]:
    with pyarrow.parquet.ParquetFile(path) as file:
        yield file.schema_arrow.empty_table().select(list(kept))
        for batch in file.iter_batches(batch_size=BATCH, columns=list(kept)):
            yield pyarrow.Table.from_batches([batch])


def open_arrow(path: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open an Arrow file, in the stream or the file format."""
    with path.open("rb") as file:
        names = tuple(_arrow_reader(file).schema.names)
    kept = [name for name in names if name in columns]
    return _typed(names, kept, _arrow_batches(path, kept), reading)


def _arrow_reader(file: object) -> pyarrow.ipc.RecordBatchStreamReader:
    # Two formats share the extension: `datasets` saves the stream format
    try:
        return pyarrow.ipc.open_stream(file)
    except pyarrow.ArrowInvalid:
        return pyarrow.ipc.open_file(file)


def _arrow_batches(path: Path, kept: Sequence[str]) -> Iterator[pyarrow.Table]:
    with pyarrow.memory_map(str(path)) as file:
        reader = _arrow_reader(file)
        yield reader.schema.empty_table().select(list(kept))
        batches = (
            (reader.get_batch(i) for i in range(reader.num_record_batches))
            if hasattr(reader, "num_record_batches")
            else iter(reader)
        )
        for batch in batches:
            table = pyarrow.Table.from_batches([batch]).select(list(kept))
            # A batch may be the whole file
            for start in range(0, len(table), BATCH):
                yield table.slice(start, BATCH)


def _typed(
    names: tuple[str, ...],
    kept: Sequence[str],
    batches: Iterator[pyarrow.Table],
    reading: Reading,
) -> Opened:
    text = as_text(batches, kept, reading.files)
    return Opened(columns=names, batches=batches if reading.whole else text)


def open_npz(path: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open arrays of pictures.

    Raises:
        DataError: if the task is about something else.
    """
    if not isinstance(reading.files, PictureReading):
        raise DataError(
            f"data.path={path}: a .npz holds pictures, which need task.kind=image_classification."
        )
    return open_arrays(path, columns, reading.files)


def open_some_json(path: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open a .json file: records, or LEAF's users and their samples."""
    return (open_leaf if is_leaf_file(path) else open_json)(path, columns, reading)


EXTENSIONS: dict[str, Callable[[Path, Sequence[str], Reading], Opened]] = {
    ".csv": functools.partial(open_delimited, separator=","),
    ".tsv": functools.partial(open_delimited, separator="\t"),
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
    ".json": open_some_json,
    ".parquet": open_parquet,
    ".arrow": open_arrow,
    ".conll": open_conll,
    ".bio": open_conll,
    ".iob": open_conll,
    ".iob2": open_conll,
    ".bioes": open_conll,
    ".bmes": open_conll,
    ".txt": open_conll,
    ARRAYS: open_npz,
}

__all__ = ["ARRAYS", "EXTENSIONS", "as_text", "open_file"]
