"""File formats of records: files are read in batches by Hugging Face ``datasets`` or pandas.

No copy is left anywhere: streaming keeps none, and the folder that ``datasets`` needs for its locks
is a temporary one, so that not even the name of a file of records stays behind.
"""

import contextlib
import functools
import glob
import itertools
import json
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pandas
import pyarrow
import pyarrow.parquet
from datasets.utils.logging import get_verbosity, set_verbosity

from confide.errors import DataError
from confide.tasks.values import UnsupportedValueError, canonical_text, text_column, unsupported

BATCH = 10_000
"""Records read at a time."""


class Opened(NamedTuple):
    """A source that was opened.

    Attributes:
        columns: names of all its columns.
        batches: batches of text with those of the wanted columns that it has.
    """

    columns: tuple[str, ...]
    batches: Iterator[pyarrow.Table]


def open_file(path: Path, columns: Sequence[str]) -> Opened:
    """Open one file of records.

    Args:
        path: path of a file with one of :data:`EXTENSIONS`.
        columns: names of the columns to keep.

    Raises:
        DataError: if the file is missing, empty, malformed, or has an unknown extension.
    """
    if not path.is_file():
        raise DataError(f"data.path={path}: no such file.")
    open_as = EXTENSIONS.get(path.suffix.lower())
    if open_as is None:
        raise DataError(
            f"data.path={path}: expected a file that ends in {', '.join(EXTENSIONS)}; export the"
            " records as one."
        )
    if not path.stat().st_size:
        raise DataError(f"data.path={path}: the file is empty; export the records again.")
    with _explained(path):
        opened = open_as(path, columns)
    return Opened(opened.columns, _checked(path, opened.batches))


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what readers raise into one kind of error."""
    before = get_verbosity()
    # `datasets` also logs what it raises, which would show every mistake twice
    set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    except (
        pyarrow.ArrowException,
        datasets.exceptions.DatasetsError,
        OSError,
        ValueError,
    ) as error:
        raise DataError(
            f"data.path={path}: cannot be read as {path.suffix}: {_first_line(error)}"
        ) from None
    finally:
        set_verbosity(before)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _checked(path: Path, batches: Iterator[pyarrow.Table]) -> Iterator[pyarrow.Table]:
    while True:
        # Around each batch and not around the loop: the verbosity is the process's, and must not
        # stay changed while the caller works on a batch
        with _explained(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _stream(builder: str, path: Path, **settings: Any) -> Iterator[pyarrow.Table]:
    # glob.escape: `datasets` takes a path for a pattern, and a file may be called notes[1].csv
    with tempfile.TemporaryDirectory(prefix="confide-locks-") as locks:
        records = datasets.load_dataset(
            builder,
            data_files=glob.escape(str(path.resolve())),
            split="train",
            streaming=True,
            cache_dir=locks,
            **settings,
        )
        yield from records.with_format("arrow").iter(batch_size=BATCH)


def as_text(batches: Iterator[pyarrow.Table], columns: Sequence[str]) -> Iterator[pyarrow.Table]:
    """Convert the wanted columns to text, a batch at a time.

    Raises:
        DataError: naming a column whose values cannot be written so.
    """
    for batch in batches:
        yield pyarrow.table({name: text_column(name, batch[name]) for name in columns})


# --- CSV


def open_delimited(path: Path, columns: Sequence[str], *, separator: str) -> Opened:
    """Open a CSV or TSV file; every value is the text as written in the file."""
    # Read by pandas directly: `datasets` 4.8 uses pandas too, but drops `encoding_errors` under
    # pandas 3.1 and leaves the file open.
    settings = {"sep": separator, "encoding_errors": "replace", "dtype": "string"}
    names = _header(path, columns, settings)
    kept = [name for name in names if name in columns]

    def batches() -> Iterator[pyarrow.Table]:
        # Not `usecols`: with it, pandas silently accepts a line with too many fields.
        with pandas.read_csv(path, chunksize=BATCH, **settings) as reader:
            for frame in reader:
                yield pyarrow.table(
                    {name: pyarrow.array(frame[name], pyarrow.string()) for name in kept}
                )

    return Opened(names, batches())


def _header(path: Path, columns: Sequence[str], settings: dict[str, str]) -> tuple[str, ...]:
    top = pandas.read_csv(path, nrows=1, **settings)
    # With more fields than names pandas takes the first fields for an index, without an error
    if not isinstance(top.index, pandas.RangeIndex):
        raise DataError(
            f"data.path={path}: the rows have more fields than the header's {len(top.columns)}"
            " names; name every column."
        )
    # Read once more as an ordinary row: pandas renames a second column `x` to `x.1`
    written = [
        str(name) for name in pandas.read_csv(path, nrows=1, header=None, **settings).iloc[0]
    ]
    for name in columns:
        if written.count(name) > 1:
            raise DataError(
                f"data.path={path}: {written.count(name)} columns are called {name}; rename all but"
                " one."
            )
    return tuple(str(name) for name in top.columns)


# --- JSON lines


def open_json_lines(path: Path, columns: Sequence[str]) -> Opened:
    """Open a file with one JSON object a line."""
    # Lines are parsed here: pyarrow's JSON reader would turn text that looks like a date into a
    # timestamp, and guess types from the first 10 MB.
    with contextlib.closing(_objects(path)) as objects:
        # Of many lines and not of the first: a line may leave out columns that are null
        names = tuple(
            dict.fromkeys(name for row in itertools.islice(objects, BATCH) for name in row)
        )
    if not names:
        raise DataError(
            f"data.path={path}: no line holds a record; expected one JSON object a line."
        )
    kept = [name for name in names if name in columns]
    rows = _objects(path)
    batches = iter(lambda: list(itertools.islice(rows, BATCH)), [])
    return Opened(
        names,
        (table_of([[row.get(name) for row in batch] for name in kept], kept) for batch in batches),
    )


def _objects(path: Path) -> Generator[dict[str, Any], None, None]:
    number = 0
    for batch in _stream("text", path, encoding="utf-8-sig", encoding_errors="replace"):
        for line in batch["text"].to_pylist():
            number += 1
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"data.path={path}: line {number} is not JSON: {error.msg} at character"
                    f" {error.pos + 1}; expected one JSON object a line."
                ) from None
            if not isinstance(value, dict):
                raise DataError(
                    f"data.path={path}: line {number} is not a JSON object; expected one a line,"
                    " column -> value."
                )
            yield value


def table_of(values: Sequence[Sequence[object]], columns: Sequence[str]) -> pyarrow.Table:
    """Convert columns of Python values to text.

    Raises:
        DataError: naming a column whose values cannot be written so.
    """
    made = {}
    for name, column in zip(columns, values, strict=True):
        try:
            made[name] = pyarrow.array(
                [canonical_text(value) for value in column], pyarrow.string()
            )
        except UnsupportedValueError as error:
            raise unsupported(name, error) from None
    return pyarrow.table(made)


# --- Parquet and Arrow


def open_parquet(path: Path, columns: Sequence[str]) -> Opened:
    """Open a Parquet file; other columns are not even decoded."""
    names = tuple(pyarrow.parquet.read_schema(path).names)
    kept = [name for name in names if name in columns]
    return Opened(names, as_text(_stream("parquet", path, columns=kept, batch_size=BATCH), kept))


def open_arrow(path: Path, columns: Sequence[str]) -> Opened:
    """Open an Arrow file, in the stream or the file format."""
    with path.open("rb") as file:
        # Two formats share the extension: `datasets` saves the stream format
        try:
            schema = pyarrow.ipc.open_stream(file).schema
        except pyarrow.ArrowInvalid:
            schema = pyarrow.ipc.open_file(file).schema
    kept = [name for name in schema.names if name in columns]
    return Opened(tuple(schema.names), as_text(_stream("arrow", path), kept))


EXTENSIONS: dict[str, Callable[[Path, Sequence[str]], Opened]] = {
    ".csv": functools.partial(open_delimited, separator=","),
    ".tsv": functools.partial(open_delimited, separator="\t"),
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
    ".parquet": open_parquet,
    ".arrow": open_arrow,
}

__all__ = ["BATCH", "EXTENSIONS", "Opened", "as_text", "open_file", "table_of"]
