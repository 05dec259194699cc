"""The SQLite database that an event log is kept in: its tables, its settings and its lock.

Every transaction is durable before it returns (synchronous=EXTRA: SQLite's FULL, and the folder
too), and one process at a time writes. Deleted secrets are overwritten in the file; what a disk
keeps of them underneath is for disk encryption to protect.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from confide.client.ledger.events import Event
from confide.errors import LedgerError

FORMAT = 1
_LOCK_TIMEOUT_S = 60.0
_LOCK_PAUSE_S = 0.02
_SCHEMA = (
    (
        "CREATE TABLE events (number INTEGER PRIMARY KEY, time REAL, kind TEXT, content TEXT,"
        " previous TEXT, hash TEXT) STRICT"
    ),
    "CREATE TABLE keys (digest TEXT PRIMARY KEY, key BLOB) STRICT",
    (
        "CREATE TABLE units (population TEXT, mac BLOB, PRIMARY KEY (population, mac)) STRICT,"
        " WITHOUT ROWID"
    ),
    # The triggers stop a careless program, not a determined one: that is what hashes are for.
    (
        "CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are"
        " only appended'); END"
    ),
    (
        "CREATE TRIGGER events_stand BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are"
        " only appended'); END"
    ),
    f"PRAGMA user_version = {FORMAT}",
)


def create_file(path: Path) -> None:
    """Create an empty database file that only its owner may read."""
    # SQLite would create it with the process's umask, readable by others on many machines
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of an empty database."""
    for statement in _SCHEMA:
        connection.execute(statement)


def connect(path: Path) -> sqlite3.Connection:
    """Open a database with the settings that durability and secrecy need."""
    # isolation_level=None: Python's module would otherwise begin and commit transactions by itself
    connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
    for pragma in (
        # No write-ahead log: one file holds everything after a commit, so that one hash covers it
        "journal_mode = DELETE",
        # NORMAL and FULL may lose the newest commit, and with it a counted round, at power loss
        "synchronous = EXTRA",
        # Keys of finished rounds are overwritten with zeros, not merely marked as free
        "secure_delete = ON",
        # Somebody who can edit the file must not get functions called through its schema
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def format_of(connection: sqlite3.Connection) -> int:
    """Return the database's format; 0 while nothing was committed to it."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def read_events(connection: sqlite3.Connection, *, after: int) -> Iterator[Event]:
    """Yield the events after a number, oldest first.

    Raises:
        ValueError: if an event's content does not match its hash.
    """
    if not format_of(connection):
        return  # the process was killed before its first commit: there are no tables to read
    rows = connection.execute(
        "SELECT number, time, kind, content, previous, hash FROM events WHERE number > ? ORDER BY"
        " number",
        (after,),
    )
    for number, seconds, kind, content, previous, digest in rows:
        event = Event(
            number=number, time=seconds, kind=kind, content=json.loads(content), previous=previous
        )
        if event.hash != digest:
            raise ValueError(f"event {number} does not have its hash")
        yield event


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a whole file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recover(path: Path) -> None:
    """Undo what a killed process left in the journal of a database.

    The file's bytes are those of the newest commit afterwards.
    """
    with contextlib.closing(connect(path)) as connection:
        # SQLite rolls a hot journal back at the first read, and connecting alone reads nothing
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; other processes wait for it, for a bounded time.

    Raises:
        LedgerError: if another process does not release it in time.
    """
    with path.open("a") as file:
        end = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                # The kernel releases it when the process is killed; a file would stay
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise LedgerError(
                        f"Another process has held {path} for {_LOCK_TIMEOUT_S:g} s; stop it."
                    ) from None
                time.sleep(_LOCK_PAUSE_S)
        yield


__all__ = [
    "FORMAT",
    "connect",
    "create_file",
    "create_tables",
    "file_hash",
    "format_of",
    "locked",
    "read_events",
    "recover",
]
