"""Files of an audit log: JSON lines in ``audit-NUMBER.jsonl``, named by their first event's number.

A full file is followed by the next and never renamed, so that a process that is killed leaves no
file half moved. A piece at the end of the newest file without an end of line is a *torn* line,
which a kill or a full disk leaves: it was signed by nobody, and is no event.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from confide.errors import StorageError, UnreadableError
from confide.security.audit_heads import AuditHead
from confide.security.chain import Event
from confide.storage.files import open_regular, read_regular

HEAD = "audit.head"
LOCK_TIMEOUT_S = 60.0
"""Longest wait for a process that writes or checks the log: each takes moments."""
_LOCK_PAUSE_S = 0.002
_LONGEST_HEAD = 2**16
CONTINUED, TORN = "continued", "torn"
"""Kinds of the first event of a file but the first, and of one that names a torn line."""
_NAME = re.compile(r"audit-([0-9]{10})\.jsonl")
_FIELDS = {"number": int, "time": float, "kind": str, "content": dict, "previous": str}
_YEARS_1_TO_9999_S = -62_135_596_800, 253_402_300_799
"""First and last second that a calendar knows, since 1970."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One whole line of a file.

    Attributes:
        file: the file.
        number: of the line, from 1.
        event: what it holds; None where it is not what was written.
        problem: why not, in a few words.
    """

    file: Path
    number: int
    event: Event | None
    problem: str = ""

    @property
    def place(self) -> str:
        """Where it stands, for a message."""
        return f"{self.file.name} line {self.number}"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a log: one process writes or checks it at a time.

    Raises:
        UnreadableError: if the folder cannot be opened.
        StorageError: if another process does not let go in time.
    """
    # The folder itself is locked, so that no lock file is copied along, or needs a disk to write to
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UnreadableError(f"{folder} cannot be opened: {error.strerror}.") from None
    try:
        end = time.monotonic() + LOCK_TIMEOUT_S
        # A process that ends, however, lets go; one that was stopped does not
        while not _is_locked(handle):
            if time.monotonic() >= end:
                raise StorageError(
                    f"Another process has held the audit log {folder} for {LOCK_TIMEOUT_S:g} s:"
                    f" `fuser {folder}` names it; end it, or let it go on."
                )
            time.sleep(_LOCK_PAUSE_S)
        yield
    finally:
        os.close(handle)


def _is_locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def file_name(number: int) -> str:
    """Return the name of the file that begins with an event."""
    return f"audit-{number:010}.jsonl"


def first_number(path: Path) -> int:
    """Return the number of the event that a file begins with, by its name."""
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def files_of(folder: Path) -> list[Path]:
    """Return the files of a log, oldest first.

    Raises:
        UnreadableError: if the folder cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnreadableError(f"{folder} cannot be listed: {error.strerror}.") from None


def line_of(event: Event) -> bytes:
    """Return the one way in which an event is written, its end of line included."""
    raw = asdict(event) | {"hash": event.hash}
    return json.dumps(raw, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def parse_line(line: bytes) -> Event:
    """Read a line.

    Raises:
        ValueError: if it is not what :func:`line_of` wrote, to the byte.
    """
    raw = json.loads(line)
    if not isinstance(raw, dict) or set(raw) != {*_FIELDS, "hash"}:
        raise ValueError("it is no event")
    digest = raw.pop("hash")
    if any(type(raw[name]) is not kind for name, kind in _FIELDS.items()):
        raise ValueError("it is no event")
    first, last = _YEARS_1_TO_9999_S
    if not first <= raw["time"] <= last:
        raise ValueError("its time is none")
    event = Event(**raw)
    if event.hash != digest:
        raise ValueError("it does not have the hash that stands in it")
    # A key that is there twice, or another spelling, would let two readers see different events
    if line_of(event) != line:
        raise ValueError("it is written in another way")
    return event


def to_line(path: Path, number: int, raw: bytes) -> Line:
    """Read one whole line.

    Args:
        path: file that it stands in.
        number: of the line, from 1.
        raw: the line, its end included.
    """
    try:
        return Line(file=path, number=number, event=parse_line(raw))
    except (json.JSONDecodeError, UnicodeDecodeError):
        problem = "it is no JSON"
    except ValueError as error:
        problem = str(error)
    except (TypeError, RecursionError):  # such as of brackets inside brackets
        problem = "it is no event"
    return Line(file=path, number=number, event=None, problem=problem)


def lines_of(path: Path, *, end: int | None = None) -> Iterator[Line]:
    """Yield the whole lines of a file; a torn one at its end is none.

    Args:
        path: the file.
        end: bytes of it that count, where it may be written to meanwhile; None for all.

    Raises:
        UnreadableError: if it cannot be read.
    """
    try:
        with open_regular(path) as file:
            read = 0
            for number, raw in enumerate(file, start=1):
                read += len(raw)
                if raw.endswith(b"\n") and (end is None or read <= end):
                    yield to_line(path, number, raw)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from None


def read_rest(path: Path, start: int) -> bytes:
    """Return what a file holds from a byte on.

    Raises:
        UnreadableError: if it cannot be read, or has become shorter.
    """
    try:
        with open_regular(path) as file:
            if file.seek(0, os.SEEK_END) < start:
                raise UnreadableError(f"{path} has become shorter.")
            file.seek(start)
            return file.read()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from None


def read_head(folder: Path) -> AuditHead | None:
    """Return the signed head of a log; None if there is none.

    Raises:
        UnreadableError: if it cannot be read.
    """
    path = folder / HEAD
    try:
        return AuditHead.from_text(read_regular(path, most=_LONGEST_HEAD).decode())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{path} cannot be read: {error}.") from None


__all__ = [
    "CONTINUED",
    "HEAD",
    "TORN",
    "Line",
    "alone",
    "file_name",
    "files_of",
    "first_number",
    "line_of",
    "lines_of",
    "parse_line",
    "read_head",
    "read_rest",
    "to_line",
]
