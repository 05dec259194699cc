"""Files of records, read in batches by Hugging Face ``datasets`` or pandas, and left nowhere else.

Streaming keeps no copy; the folder ``datasets`` insists on for its locks is a temporary one, so
that not even the name of a file of records stays behind.
"""

import contextlib
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
        columns: every column it has.
        batches: the columns asked for that it has, as text, a batch at a time.
    """

    columns: tuple[str, ...]
    batches: Iterator[pyarrow.Table]


def open_file(path: Path, columns: Sequence[str]) -> Opened:
    """Open one file of records.

    Args:
        path: to a file with one of :data:`EXTENSIONS`.
        columns: what to keep.

    Raises:
        DataError: if it is not there, is empty, has an extension that is not understood, or is
            malformed.
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
        raise DataError(f"data.path={path}: the file is empty; export the records anew.")
    with _explained(path):
        opened = open_as(path, columns)
    return Opened(opened.columns, _checked(path, opened.batches))


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what readers raise into one kind of error.

    The readers' own log lines would say it twice.
    """
    before = get_verbosity()
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
        with _explained(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _stream(builder: str, path: Path, **settings: Any) -> Iterator[pyarrow.Table]:
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
    """Write the columns asked for as text, a batch at a time.

    Raises:
        DataError: naming a column whose values cannot be written so.
    """
    for batch in batches:
        yield pyarrow.table({name: text_column(name, batch[name]) for name in columns})


# --- CSV


def _open_delimited(path: Path, columns: Sequence[str], *, separator: str) -> Opened:
    """Open a CSV or TSV file; every value is the text that stands there.

    Pandas reads it, as it does for ``datasets``, whose release 4.8 drops ``encoding_errors`` under
    pandas 3.1 and leaves the file open.
    """
    settings = {"sep": separator, "encoding_errors": "replace", "dtype": "string"}
    names = _header(path, columns, settings)
    return Opened(
        names, _delimited_batches(path, [name for name in names if name in columns], settings)
    )


def _delimited_batches(
    path: Path, columns: Sequence[str], settings: dict[str, str]
) -> Iterator[pyarrow.Table]:
    # Not `usecols`: with it, pandas would take a line with too many fields without a word.
    with pandas.read_csv(path, chunksize=BATCH, **settings) as reader:
        for frame in reader:
            yield pyarrow.table(
                {name: pyarrow.array(frame[name], pyarrow.string()) for name in columns}
            )


def _header(path: Path, columns: Sequence[str], settings: dict[str, str]) -> tuple[str, ...]:
    top = pandas.read_csv(path, nrows=1, **settings)
    if not isinstance(top.index, pandas.RangeIndex):
        raise DataError(
            f"data.path={path}: the rows have more fields than the header's {len(top.columns)}"
            " names; name every column."
        )
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


def _open_csv(path: Path, columns: Sequence[str]) -> Opened:
    return _open_delimited(path, columns, separator=",")


def _open_tsv(path: Path, columns: Sequence[str]) -> Opened:
    return _open_delimited(path, columns, separator="\t")


# --- JSON lines


def _open_json_lines(path: Path, columns: Sequence[str]) -> Opened:
    """Open a file with one JSON object a line.

    Lines are parsed here: pyarrow's JSON reader would turn text that looks like a date into a
    timestamp, and guess types from the first 10 MB.
    """
    with contextlib.closing(_objects(path)) as objects:
        # A null may be left out of some lines.
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
            if line.strip():
                yield _object(path, number, line)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"data.path={path}: line {number} is not JSON: {error.msg} at character"
            f" {error.pos + 1}; expected one JSON object a line."
        ) from None
    if not isinstance(value, dict):
        raise DataError(
            f"data.path={path}: line {number} is not a JSON object; expected one a line, column ->"
            " value."
        )
    return value


def table_of(values: Sequence[Sequence[object]], columns: Sequence[str]) -> pyarrow.Table:
    """Write columns of Python values as text.

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


def _open_parquet(path: Path, columns: Sequence[str]) -> Opened:
    names = tuple(pyarrow.parquet.read_schema(path).names)
    kept = [name for name in names if name in columns]
    return Opened(names, as_text(_stream("parquet", path, columns=kept, batch_size=BATCH), kept))


def _open_arrow(path: Path, columns: Sequence[str]) -> Opened:
    with path.open("rb") as file:
        try:
            schema = pyarrow.ipc.open_stream(file).schema
        except pyarrow.ArrowInvalid:
            schema = pyarrow.ipc.open_file(file).schema
    kept = [name for name in schema.names if name in columns]
    return Opened(tuple(schema.names), as_text(_stream("arrow", path), kept))


EXTENSIONS: dict[str, Callable[[Path, Sequence[str]], Opened]] = {
    ".csv": _open_csv,
    ".tsv": _open_tsv,
    ".jsonl": _open_json_lines,
    ".ndjson": _open_json_lines,
    ".parquet": _open_parquet,
    ".arrow": _open_arrow,
}

__all__ = ["BATCH", "EXTENSIONS", "Opened", "as_text", "open_file", "table_of"]
