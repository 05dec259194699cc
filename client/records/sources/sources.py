"""Sources of records: a file, a folder with one file for each institution, or a database.

Every value becomes canonical text; the task's schema says what it means. No copy of the records is
left anywhere.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pyarrow
from datasets import Dataset

from confide.client.records.sources.by_client.folders import layout_of
from confide.client.records.sources.files import is_folder_of_files, open_folders
from confide.client.records.sources.formats import EXTENSIONS, open_file
from confide.client.records.sources.opened import Opened
from confide.client.records.sources.reading import READ_AS_TEXT, Reading
from confide.client.records.sources.spool import collect
from confide.config.data import DataConfig
from confide.config.tasks.media.files import FileReading
from confide.errors import DataError
from confide.held import refuse_marked
from confide.models.backbones import PACKAGE_SCHEME, resolve_package_path
from confide.security.redaction import redact
from confide.tasks.schema import missing_columns

_SHOWN = 5
FILE_COLUMN = "__file__"
"""Name of the column that holds the file of each record, if records come from a folder."""


@dataclass(frozen=True, kw_only=True)
class SourceRecords:
    """Records as they were read.

    Attributes:
        records: wanted columns that exist, as text; with :data:`FILE_COLUMN` if they come from a
            folder.
        problems: sentences about missing columns, one for each file.
        files: names of the files of a folder, without extension; empty for a single source.
        lines: name of a file, '' of a single one -> line of each record, where it has lines.
        places: name of an institution, '' of a single source -> file of each record, where records
            are files.
        notes: sentences that the records' owner should read.
    """

    records: Dataset
    problems: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    lines: Mapping[str, Sequence[int]] = field(default_factory=dict)
    places: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def place(self, file: str, record: int) -> str:
        """Say where a record stands.

        Args:
            file: name of its file; '' of a single source.
            record: its position in the file, from 0.
        """
        if file in self.places:
            return self.places[file][record]
        lines = self.lines.get(file)
        return f"record {record + 1}" if lines is None else f"line {lines[record]}"


def load_records(
    path: str,
    columns: Sequence[str],
    *,
    in_memory_mb: int,
    query: str | None = None,
    reading: Reading = READ_AS_TEXT,
) -> SourceRecords:
    """Read records.

    Args:
        path: path of a file or a folder, ``pkg://PACKAGE/FILE`` inside an installed package, or a
            database's URL.
        columns: names of the columns to keep; others are never held in memory.
        in_memory_mb: MiB that may stay in memory; more goes to an unlinked file.
        query: SQL query, if ``path`` is a URL.
        reading: how it is read.

    Raises:
        DataError: if the source cannot be read, or holds no records.
    """
    with contextlib.ExitStack() as stack:
        files: tuple[str, ...] = ()
        is_folder = not DataConfig.is_database(path) and (place := _resolve(path)).is_dir()
        if is_folder and (layout := layout_of(place)) is not None:
            sources = {"": layout(place, columns, reading)}
        elif is_folder and _holds_files(place, reading):
            assert reading.files is not None
            sources = open_folders(place, columns, reading.files)
            files = tuple(name for name in sources if name)
        elif is_folder:
            paths = _folder(place, reading)
            sources = {name: open_file(file, columns, reading) for name, file in paths.items()}
            files = tuple(paths)
        else:
            sources = {"": stack.enter_context(open_single(path, query, columns, reading))}
        shown = "data.query" if DataConfig.is_database(path) else f"data.path={path}"
        joined = join(sources, columns, shown=shown, files=files, in_memory_mb=in_memory_mb)
    refuse_cells(joined.records, reading.files)
    return joined


@contextlib.contextmanager
def open_single(
    path: str, query: str | None, columns: Sequence[str], reading: Reading
) -> Iterator[Opened]:
    """Open a source that is no folder.

    Args:
        path: path of a file, ``pkg://PACKAGE/FILE`` or a database's URL.
        query: SQL query, if ``path`` is a URL.
        columns: names of the columns to keep.
        reading: how it is read.

    Raises:
        DataError: if the source cannot be read, or is a folder.
    """
    if DataConfig.is_database(path):
        # Imported here, so that only users of a database wait for SQLAlchemy
        from confide.client.records.sources.sql import open_query

        with open_query(path, query or "", columns, reading) as opened:
            yield opened
        return
    place = _resolve(path)
    layout = layout_of(place) if place.is_dir() else None
    if layout is not None:
        yield layout(place, columns, reading)
        return
    if place.is_dir() and _holds_files(place, reading):
        assert reading.files is not None
        labelled = not reading.whole
        yield open_folders(place, columns, reading.files, apart=False, labelled=labelled)[""]
        return
    if place.is_dir():
        raise DataError(f"data.path={path} is a folder; name one file.")
    yield open_file(place, columns, reading)


def column_names(
    path: str, *, query: str | None = None, reading: Reading = READ_AS_TEXT
) -> tuple[str, ...]:
    """Return the names of all columns of a source, without reading its records.

    Args:
        path: path of a file, ``pkg://PACKAGE/FILE`` or a database's URL.
        query: SQL query, if ``path`` is a URL.
        reading: how it is read.

    Raises:
        DataError: if the source cannot be read, or is a folder.
    """
    with open_single(path, query, (), reading) as opened:
        return opened.columns


def shared_columns(
    path: str, *, query: str | None = None, reading: Reading = READ_AS_TEXT
) -> tuple[str, ...]:
    """Return the names of the columns that a source has, all files of a folder alike.

    Args:
        path: path of a file or a folder, ``pkg://PACKAGE/FILE`` or a database's URL.
        query: SQL query, if ``path`` is a URL.
        reading: how it is read.

    Raises:
        DataError: if the source cannot be read, or its files have no column in common.
    """
    if DataConfig.is_database(path) and not query:
        raise DataError(f"{redact(path)}: a database needs the query whose rows are the records.")
    if DataConfig.is_database(path) or not (place := _resolve(path)).is_dir():
        return column_names(path, query=query, reading=reading)
    if layout_of(place) is not None or _holds_files(place, reading):
        return column_names(path, reading=reading)
    listed = [open_file(file, (), reading).columns for file in _folder(place, reading).values()]
    shared = tuple(name for name in listed[0] if all(name in names for names in listed))
    if not shared:
        raise DataError(f"data.path={path}: its files have no column in common.")
    return shared


def join(
    sources: Mapping[str, Opened],
    columns: Sequence[str],
    *,
    shown: str,
    files: tuple[str, ...],
    in_memory_mb: int,
) -> SourceRecords:
    """Join sources, keeping the columns that all of them have.

    Args:
        sources: name -> opened source; a single one has the name ''.
        columns: names of the columns to keep.
        shown: name of the whole in messages, such as ``data.path=...``.
        files: names of the sources, if each is an institution; empty for a single one.
        in_memory_mb: MiB that may stay in memory; more goes to an unlinked file.

    Raises:
        DataError: if a source holds no records, or none of the columns.
    """
    problems = list(_missing(sources, columns))
    kept = [name for name in columns if all(name in source.columns for source in sources.values())]
    if not kept:
        raise DataError(problems)
    names = [*kept, FILE_COLUMN] if files else kept
    schema = pyarrow.schema([(name, pyarrow.string()) for name in names])
    table = collect(_batches(sources, schema, shown), schema, in_memory_mb=in_memory_mb)
    # Without a fingerprint `datasets` would pickle every record to compute one.
    records = Dataset(table, fingerprint=uuid4().hex)
    return SourceRecords(
        records=records,
        problems=tuple(problems),
        files=files,
        lines={name: source.lines for name, source in sources.items() if source.lines is not None},
        places={name: source.places for name, source in sources.items() if source.places},
        notes=tuple(note for source in sources.values() for note in source.notes),
    )


def refuse_cells(records: Dataset, files: FileReading | None) -> None:
    """Refuse texts that would be taken for pictures or sounds, where there are none.

    Args:
        records: as they were read.
        files: how columns of files are read; None where the task has none.

    Raises:
        DataError: naming the column.
    """
    held = [] if files is None else [one.column for one in files.each]
    for name in records.column_names:
        if name not in held:
            refuse_marked(name, records.data.column(name))


def source_file(path: str) -> Path | None:
    """Return the path of a source's file or folder; None for a database.

    Raises:
        DataError: if the source is in a package that has no such file.
    """
    return None if DataConfig.is_database(path) else _resolve(path)


def _resolve(path: str) -> Path:
    try:
        return (
            resolve_package_path(path)
            if path.startswith(PACKAGE_SCHEME)
            else Path(path).expanduser()
        )
    except FileNotFoundError as error:
        raise DataError(f"data.path={error}") from None


def _holds_files(folder: Path, reading: Reading) -> bool:
    """Say whether a folder's records are its files."""
    return reading.files is not None and is_folder_of_files(
        folder, tuple(EXTENSIONS), reading.files
    )


def _folder(folder: Path, reading: Reading) -> dict[str, Path]:
    """Return institution -> file, for a folder with one file for each institution."""
    # Hidden files are what file managers and editors leave; any other stray file is an error,
    # since a record that is left out unseen is worse than a message
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if reading.files is not None:  # tables name pictures in folders beside them
        paths = [path for path in paths if not path.is_dir()]
    others = [
        path.name for path in paths if path.suffix.lower() not in EXTENSIONS or not path.is_file()
    ]
    if others:
        shown = ", ".join(others[:_SHOWN]) + (
            f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        )
        raise DataError(
            f"data.path={folder}: expected one file for each institution, ending in"
            f" {', '.join(EXTENSIONS)}; move {shown} elsewhere."
        )
    if not paths:
        raise DataError(
            f"data.path={folder}: the folder is empty; expected one file for each institution."
        )
    named: dict[str, Path] = {}
    for path in paths:
        if path.stem in named:
            raise DataError(
                f"data.path={folder}: {named[path.stem].name} and {path.name} both stand for"
                f" {path.stem}; rename one."
            )
        named[path.stem] = path
    return named


def _batches(
    sources: Mapping[str, Opened], schema: pyarrow.Schema, shown: str
) -> Iterator[pyarrow.Table]:
    for name, source in sources.items():
        count = 0
        for batch in source.batches:
            if not batch.num_rows:
                continue
            count += batch.num_rows
            if FILE_COLUMN in schema.names:
                batch = batch.append_column(
                    FILE_COLUMN, pyarrow.array([name] * batch.num_rows, pyarrow.string())
                )
            yield batch.select(schema.names).cast(schema)
        if not count:
            raise DataError(
                f"{shown}{f': {name}' if name else ''} holds no records; expected at least one."
            )


def _missing(sources: Mapping[str, Opened], columns: Sequence[str]) -> Iterator[str]:
    for name, source in sources.items():
        missing = [column for column in columns if column not in source.columns]
        if missing:
            yield (
                f"{name}: {missing_columns(missing, source.columns)}"
                if name
                else missing_columns(missing, source.columns)
            )


__all__ = [
    "FILE_COLUMN",
    "SourceRecords",
    "column_names",
    "join",
    "load_records",
    "open_single",
    "refuse_cells",
    "shared_columns",
    "source_file",
]
