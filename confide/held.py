"""A picture or a sound as one cell of text, as an institution's records are held.

The text says where the file lies, what was found when it was decoded, and the hash of its pixels or
samples. Two are the same if these are: files that hold them in other formats, or under other names,
make one unit. No plan and no reply ever holds such a text.
"""

import base64
import binascii
import contextlib
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow
import pyarrow.compute

from confide.config.custom import implementation
from confide.config.tasks.media.files import FileReading
from confide.errors import DataError

_MARK = "\0held\0"
"""Null characters, which no text that people write begins with; what comes from outside and does is
refused, since it would name a file and say itself what that holds."""
_CELL = re.compile(
    r"(?P<sha256>\w*)\0(?P<findings>[^\0]*)\0(?P<kind>\w+)\0(?P<place>.*)", re.DOTALL
)
FILE, ARRAY, BYTES = "file", "array", "bytes"


@dataclass(frozen=True)
class Held:
    """A picture or a sound that was looked at.

    Attributes:
        sha256: of its pixels or samples; "" if it cannot be decoded.
        findings: names of what was found.
        kind: ``file``, ``array`` of a .npz, or ``bytes``.
        place: a path; of an array with its name and the picture's number; bytes in base 64.
    """

    sha256: str
    findings: tuple[str, ...]
    kind: str
    place: str

    @property
    def text(self) -> str:
        """The cell."""
        return f"{_MARK}{self.sha256}\0{','.join(self.findings)}\0{self.kind}\0{self.place}"


class UnusableError(Exception):
    """A file whose content cannot be used.

    Args:
        finding: one of its opener's :attr:`~Opener.problems`.
    """

    def __init__(self, finding: str) -> None:
        super().__init__(finding)
        self.finding = finding


NO_FILE: Mapping[str, str] = {
    "missing": "are null; name a file in each record, or remove it",
    "no_file": (
        "name a file that is not there; a path starts at the folder of the table, and of a database"
        " it has to be absolute"
    ),
}
"""Problems of all kinds of content."""


class Opener(Protocol):
    """Opens files of one kind of content, one after the other."""

    problems: Mapping[str, str]
    """What makes a file unusable -> the end of a sentence that begins with a number of them."""

    def look(self, kind: str, place: str) -> Held:
        """Decode a file, and say what was found.

        Args:
            kind: one of ``file``, ``array`` and ``bytes``.
            place: as of :class:`Held`.
        """

    def written(self, held: Held) -> bytes:
        """Return a file, named as the first of the suffixes, that the schema reads alike."""

    def extent(self, data: bytes) -> int:
        """Return how many pixels or samples a file says that it holds, without decoding it."""

    def note(self, finding: str) -> str | None:
        """Return the end of a sentence that tells a finding; None for one that tells nothing."""


def opener_of(reading: FileReading) -> Opener:
    """Return what opens files of a kind."""
    opener: Opener = implementation(reading.opener)(reading)
    return opener


def parse_held(text: object) -> Held | None:
    """Read a cell; None if it holds no such file."""
    if not isinstance(text, str) or not text.startswith(_MARK):
        return None
    found = _CELL.fullmatch(text, len(_MARK))
    if found is None:
        return None
    digest, findings, kind, place = found.groups()
    return Held(digest, tuple(filter(None, findings.split(","))), kind, place)


def same_held(text: str) -> str | None:
    """Return what is equal of cells with the same content; None if the cell holds no such file."""
    held = parse_held(text)
    return None if held is None else held.text if not held.sha256 else _MARK + held.sha256


def shown(value: object) -> str:
    """Return a cell in words: the name of a file, or what else tells it from others."""
    held = parse_held(value)
    if held is None:
        return str(value)
    if held.kind == BYTES:
        return f"file {held.sha256[:12]}"
    path, *rest = held.place.split("\0")
    return " ".join([Path(path).name, *rest])


def array_place(parts: Iterable[object]) -> str:
    """Write path, name of an array and number of a picture."""
    return "\0".join(map(str, parts))


def embedded(data: bytes) -> str:
    """Write the bytes of a file as text."""
    return base64.b64encode(data).decode()


def file_bytes(path: Path) -> bytes:
    """Read a file; a device or a pipe, which may never end, is none.

    Raises:
        OSError: if it cannot be read.
        ValueError: if no file can have that name.
    """
    # Looked at before it is opened: opening a pipe would wait for whoever writes into it
    if not stat.S_ISREG(path.stat().st_mode):
        raise FileNotFoundError(f"{path} is no regular file")
    return path.read_bytes()


def bytes_of(place: str) -> bytes:
    """Read the bytes of a file that was written as text.

    Raises:
        ValueError: if it is none.
    """
    try:
        return base64.b64decode(place, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def file_cells(
    values: pyarrow.Array | pyarrow.ChunkedArray,
    reading: FileReading,
    folder: Path | None = None,
    opened: Opener | None = None,
    *,
    looked: bool = False,
) -> pyarrow.Array:
    """Return the cells of a column of paths or bytes.

    Args:
        values: the column.
        reading: what the schema says.
        folder: that relative paths start at; None: there are none.
        opened: what looks at the files; None: made here.
        looked: whether cells may be there already, which stay.

    Raises:
        DataError: if it holds anything else.
    """
    kind = values.type
    is_pair = pyarrow.types.is_struct(kind) and {"bytes", "path"} & {
        kind.field(i).name for i in range(kind.num_fields)
    }
    is_plain = pyarrow.types.is_null(kind) or any(
        test(kind)
        for test in (
            pyarrow.types.is_string,
            pyarrow.types.is_large_string,
            pyarrow.types.is_string_view,
            pyarrow.types.is_binary,
            pyarrow.types.is_large_binary,
            pyarrow.types.is_dictionary,
        )
    )
    if not is_pair and not is_plain:
        raise DataError(
            f"Column {reading.column} holds values of type {kind}; expected {reading.what}:"
            " paths of files, bytes of files, or both as datasets writes them."
        )
    looking, listed = opener_of(reading) if opened is None else opened, values.to_pylist()
    if not looked:
        paths = [one for one in map(_path_of, listed) if isinstance(one, str)]
        refuse_marked(reading.column, pyarrow.array(paths, pyarrow.string()))
    return pyarrow.array([_cell(value, looking, folder) for value in listed], pyarrow.string())


def refuse_marked(column: str, values: pyarrow.Array | pyarrow.ChunkedArray) -> None:
    """Refuse texts from outside that would be taken for cells.

    Args:
        column: its name.
        values: texts.

    Raises:
        DataError: naming the column and how many there are.
    """
    found = pyarrow.compute.sum(pyarrow.compute.starts_with(values, _MARK)).as_py()
    if found:
        raise DataError(
            f"Column {column}: {found} texts begin with a null character, the word held and another"
            " null character, which stand for files that confide has read; take these out."
        )


def _path_of(value: object) -> object:
    """Return the path in what datasets writes of a picture or a sound, or the value itself."""
    return value.get("path") if isinstance(value, dict) else value


def _cell(value: object, opened: Opener, folder: Path | None) -> str | None:
    if isinstance(value, dict):  # datasets' Image and Audio: bytes, or else where the file lies
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if value is None or value == "":
        return None
    if isinstance(value, bytes):
        return opened.look(BYTES, embedded(value)).text
    text = str(value)
    if parse_held(text) is not None:
        return text
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # ~name of nobody: a file may be called so
        path = path.expanduser()
    if not path.is_absolute() and folder is not None:
        path = folder / path
    # Without a folder a relative path would start wherever the process happens to run
    found = str(path) if path.is_absolute() or folder is not None else ""
    return opened.look(FILE, found).text


__all__ = [
    "ARRAY",
    "BYTES",
    "FILE",
    "NO_FILE",
    "Held",
    "Opener",
    "UnusableError",
    "array_place",
    "bytes_of",
    "embedded",
    "file_bytes",
    "file_cells",
    "opener_of",
    "parse_held",
    "refuse_marked",
    "same_held",
    "shown",
]
