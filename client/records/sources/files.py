"""Records that are pictures or sounds: in folders, in tables that name or hold them.

Each is decoded once here, to say what is wrong with it before anything is trained and to know it by
its pixels or samples. What is kept is where it lies, not what it holds; only files that lie within
a table, whose rows cannot be found again, are kept as they came.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow
from datasets import Dataset

from confide.client.records.sources.opened import BATCH, Opened
from confide.config.spelling import canonical_name
from confide.config.tasks.media.files import FileReading
from confide.config.tasks.media.pictures import PictureReading
from confide.errors import DataError
from confide.held import (
    FILE,
    file_bytes,
    file_cells,
    opener_of,
    parse_held,
)
from confide.pictures.dicom import is_dicom, patient_of

FILE_NAME, FOLDER, PATIENT = "file", "folder", "patient_id"
"""Further columns: of a folder the path within it, the folders below a class, and the PatientID of
DICOM files."""
TEXT_SUFFIX = ".txt"
"""Of a text beside a file."""
_SHOWN = 5
_HEAD = 132  # bytes in which a DICOM file says that it is one


# --- columns


def with_files(
    batches: Iterator[pyarrow.Table],
    reading: FileReading,
    folder: Path | None,
    *,
    looked: bool = False,
) -> Iterator[pyarrow.Table]:
    """Look at the pictures or sounds of a table.

    Args:
        batches: with the column of files or without.
        reading: what the schema says.
        folder: that relative paths start at; None: there are none.
        looked: whether they were looked at before.

    Raises:
        DataError: if the column holds neither paths nor bytes.
    """
    openers = [(one, opener_of(one)) for one in reading.each]
    for batch in batches:
        for one, opened in openers:
            if one.column in batch.column_names:
                cells = file_cells(batch[one.column], one, folder, opened, looked=looked)
                place = batch.column_names.index(one.column)
                batch = batch.set_column(place, one.column, cells)
        yield batch


# --- folders


class Found(NamedTuple):
    """A picture or a sound in a folder.

    Attributes:
        path: of the file.
        within: its folders, from the source's on.
    """

    path: Path
    within: tuple[str, ...]


def is_folder_of_files(folder: Path, tables: Sequence[str], reading: FileReading) -> bool:
    """Say whether a folder holds such files and no tables: the files, or folders.

    Args:
        folder: the source.
        tables: suffixes of tables.
        reading: what the schema says.
    """
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    # A text that lies beside no sound is told as that, and is no institution's table.
    texts = {TEXT_SUFFIX} if reading.text_column else set()
    return not any(
        path.suffix.lower() in tables and path.suffix.lower() not in texts
        for path in shown
        if path.is_file()
    ) and any(path.is_dir() or path.suffix.lower() in reading.suffixes for path in shown)


def open_folders(
    folder: Path,
    columns: Sequence[str],
    reading: FileReading,
    *,
    apart: bool = True,
    labelled: bool = True,
) -> dict[str, Opened]:
    """Open a folder of files: CLASS/FILE, or INSTITUTION/CLASS/FILE, or files alone.

    Folders are classes where their names are classes of the task. Further folders within a class,
    of a patient say, are values of the column ``folder``. Where texts lie beside files there are no
    classes, and the first folder is an institution.

    Args:
        folder: the source.
        columns: names of the columns to keep.
        reading: what the schema says.
        apart: whether institutions are opened apart; else all files are one source.
        labelled: whether folders are classes even where none is called as one; of files to predict
            on they are not.

    Returns:
        Institution -> its files; '' -> all of them where folders name none.

    Raises:
        DataError: if there are other files, or files beside the folders of institutions.
    """
    found = list(found_files(folder, reading))
    if not found:
        raise DataError(f"data.path={folder}: the folder holds no {reading.what}.")
    level = _class_level(found, reading, labelled=labelled)
    above = 2 if level == 1 else 1 if reading.text_column and any(f.within for f in found) else 0
    if not apart or not above:
        return {"": _opened(found, folder, columns, reading, level)}
    strays = [one.path.name for one in found if len(one.within) < above]
    if strays:
        expected, into = (
            ("INSTITUTION/CLASS/FILE", "a class") if above == 2 else ("INSTITUTION/FILE", "one")
        )
        raise DataError(
            f"data.path={folder}: expected {expected}; move {_listed(strays)} elsewhere or into"
            f" {into}."
        )
    parts: dict[str, list[Found]] = {}
    for one in found:
        parts.setdefault(one.within[0], []).append(one)
    return {name: _opened(parts[name], folder, columns, reading, level) for name in sorted(parts)}


def found_files(folder: Path, reading: FileReading) -> Iterator[Found]:
    """Yield the files of a folder, in the order of their names.

    Raises:
        DataError: if there are files of another kind, or folders that cannot be read or are links;
            hidden ones are left alone.
    """
    others: list[str] = []
    links: list[str] = []
    for place, names, files in os.walk(folder, onerror=_refuse_folder):
        # In place, which os.walk reads: sorted, and without what file managers leave
        names[:] = sorted(name for name in names if not name.startswith("."))
        links += [
            str(path.relative_to(folder))
            for path in map(Path(place).joinpath, names)
            if path.is_symlink()
        ]
        within = Path(place).relative_to(folder).parts
        for name in sorted(file for file in files if not file.startswith(".")):
            path = Path(place) / name
            refuse_odd_name(path, folder)
            if path.suffix.lower() in reading.suffixes or _is_dicom_file(path, reading):
                yield Found(path, within)
            elif not is_text_beside(path, reading):
                others.append(str(path.relative_to(folder)))
    if links:  # os.walk passes over them
        raise DataError(
            f"data.path={folder}: expected folders, not links to folders elsewhere, which may lead"
            f" back here; put what {_listed(links)} leads to in its place."
        )
    if others:  # a record that is left out unseen is worse than a message
        raise DataError(
            f"data.path={folder}: expected {reading.what} ({', '.join(reading.suffixes)}) alone;"
            f" move {_listed(others)} elsewhere."
        )


def refuse_odd_name(path: Path, folder: Path) -> None:
    """Refuse a path that no text can hold, as of disks of other systems.

    Raises:
        DataError: showing it.
    """
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise DataError(
            f"data.path={folder}: the name of {shown} is not UTF-8; rename it."
        ) from None


def _refuse_folder(error: OSError) -> None:
    raise DataError(
        f"data.path={error.filename}: the folder cannot be read: {error.strerror}; let this user"
        " read it, or move it elsewhere."
    )


def _is_dicom_file(path: Path, reading: FileReading) -> bool:
    # A pipe would let whoever opens it wait
    if not isinstance(reading, PictureReading) or not path.is_file():
        return False
    with path.open("rb") as file:
        return is_dicom(file.read(_HEAD))


def is_text_beside(path: Path, reading: FileReading) -> bool:
    """Say whether a file is the text beside another: NAME.txt beside NAME.wav."""
    return (
        bool(reading.text_column)
        and path.suffix == TEXT_SUFFIX
        and any(
            path.with_suffix(suffix).is_file()
            for one in reading.suffixes
            for suffix in (one, one.upper())
        )
    )


def _text_beside(path: Path) -> str | None:
    """Return the text beside a file; None where there is none."""
    beside = path.with_suffix(TEXT_SUFFIX)
    try:
        return file_bytes(beside).decode("utf-8-sig").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{beside} cannot be read as UTF-8: {error}; write it anew.") from None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _class_level(found: Sequence[Found], reading: FileReading, *, labelled: bool) -> int | None:
    """Return which of the folders of a file names its class; None for none."""
    deepest = max(len(one.within) for one in found)
    if not reading.label_column or not deepest:
        return None
    known = {canonical_name(name) for name in reading.classes}

    def fitting(level: int) -> int:
        return sum(
            len(one.within) > level and canonical_name(one.within[level]) in known for one in found
        )

    level = max(range(min(deepest, 2)), key=lambda one: (fitting(one), -one))
    if not labelled and not fitting(level):
        return None
    # Where no folder is called as a class, depth tells, and each name is told as unknown
    return level if fitting(level) else min(deepest, 2) - 1


def _opened(
    found: Sequence[Found],
    folder: Path,
    columns: Sequence[str],
    reading: FileReading,
    level: int | None,
) -> Opened:
    names = [reading.column, FILE_NAME, FOLDER]
    if level is not None:
        names.insert(1, reading.label_column)
    if reading.text_column:
        names.insert(1, reading.text_column)
    if _is_dicom_file(found[0].path, reading):
        names.append(PATIENT)
    kept = [name for name in names if name in columns]
    return Opened(
        columns=tuple(names),
        batches=_folder_batches(found, folder, kept, reading, level),
        places=[str(one.path.relative_to(folder)) for one in found],
    )


def _folder_batches(
    found: Sequence[Found],
    folder: Path,
    kept: Sequence[str],
    reading: FileReading,
    level: int | None,
) -> Iterator[pyarrow.Table]:
    opened, below = opener_of(reading), 0 if level is None else level + 1
    columns: dict[str, Callable[[Found], str | None]] = {
        reading.label_column: lambda one: (
            one.within[level] if level is not None and len(one.within) > level else None
        ),
        FILE_NAME: lambda one: one.path.relative_to(folder).as_posix(),
        FOLDER: lambda one: "/".join(one.within[below:]) or None,
        reading.text_column: lambda one: _text_beside(one.path),
        PATIENT: lambda one: _patient(one.path),
        # Last: a column of the schema may be called as one of these
        reading.column: lambda one: opened.look(FILE, str(one.path.resolve())).text,
    }
    for start in range(0, len(found), BATCH):
        part = found[start : start + BATCH]
        yield pyarrow.table(
            {
                name: pyarrow.array([columns[name](one) for one in part], pyarrow.string())
                for name in kept
            }
        )


def _patient(path: Path) -> str | None:
    try:
        return patient_of(file_bytes(path))
    except OSError:  # told where the picture is decoded
        return None


def write_files(records: Dataset, reading: FileReading, folder: Path) -> Dataset:
    """Write files that the schema reads alike, each under the hash of its content.

    Args:
        records: with cells of files.
        reading: what the schema says.
        folder: of the table that will name the files; a folder in it for each kind is made here.

    Returns:
        The records, with paths from that folder on in place of cells.
    """
    columns = {name: records[name][:] for name in records.column_names}
    for one in reading.each:
        place, opened, paths = folder / one.what, opener_of(one), []
        place.mkdir(parents=True, exist_ok=True)
        for cell in columns[one.column]:
            held = parse_held(cell)
            assert held is not None  # records that were checked hold nothing else
            path = place / f"{held.sha256}{one.suffixes[0]}"
            if not path.exists():
                path.write_bytes(opened.written(held))
            paths.append(path.relative_to(folder).as_posix())
        columns[one.column] = paths
    return Dataset.from_dict(columns)


__all__ = [
    "FILE_NAME",
    "FOLDER",
    "PATIENT",
    "TEXT_SUFFIX",
    "Found",
    "found_files",
    "is_folder_of_files",
    "is_text_beside",
    "open_folders",
    "with_files",
    "write_files",
]
