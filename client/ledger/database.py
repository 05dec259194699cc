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

from confide.errors import LedgerError
from confide.security.chain import Event

FORMAT = 3
"""1 signed nothing, 2 knew of no masked sums."""
_LOCK_TIMEOUT_S = 60.0
_LOCK_PAUSE_S = 0.02
_SEAL = "CREATE TABLE IF NOT EXISTS seal (number INTEGER PRIMARY KEY, signature TEXT) STRICT"
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
    _SEAL,
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


def write_seal(connection: sqlite3.Connection, number: int, signature: str) -> None:
    """Keep the signature of the newest event, and of it alone.

    Earlier ones go: whoever cuts off the end of the log must not find one that fits.
    """
    connection.execute(_SEAL)  # a ledger of format 1 has no such table
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("DELETE FROM seal")
    connection.execute("INSERT INTO seal VALUES (?, ?)", (number, signature))


def read_seal(connection: sqlite3.Connection) -> tuple[int, str] | None:
    """Return number and signature of the event that was signed last; None for none."""
    if format_of(connection) < 2:  # written by a release that signed nothing
        return None
    row = connection.execute("SELECT number, signature FROM seal ORDER BY number DESC").fetchone()
    return (0, "") if row is None else (int(row[0]), str(row[1]))


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


def declared_in(path: Path) -> list[str]:
    """Return the names of the populations that a database declares, unchecked, oldest first.

    Raises:
        sqlite3.Error: if it is no database, or damaged.
    """
    if not path.exists():
        return []
    with contextlib.closing(connect(path)) as connection:
        if not format_of(connection):
            return []
        rows = connection.execute(
            "SELECT content FROM events WHERE kind = 'budget' ORDER BY number"
        ).fetchall()
    return list(dict.fromkeys(str(json.loads(content)["population"]) for (content,) in rows))


def unit_kinds_in(path: Path) -> set[str]:
    """Return by what the units of a database are known, unchecked; see ``known_by``.

    Raises:
        sqlite3.Error: if it is no database, or damaged.
    """
    with contextlib.closing(connect(path)) as connection:
        rows = connection.execute("SELECT content FROM events WHERE kind = 'units'").fetchall()
    return {str(json.loads(content).get("known_by", "")) for (content,) in rows} - {""}


def units_in(path: Path) -> list[tuple[str, bytes]]:
    """Return the population and the keyed hash of each unit that a database holds, unchecked.

    Raises:
        sqlite3.Error: if it is no database, or damaged.
    """
    with contextlib.closing(connect(path)) as connection:
        if not format_of(connection):
            return []
        rows = connection.execute("SELECT population, mac FROM units").fetchall()
    return [(str(name), bytes(mac)) for name, mac in rows]


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
    "declared_in",
    "file_hash",
    "format_of",
    "locked",
    "read_events",
    "read_seal",
    "recover",
    "unit_kinds_in",
    "units_in",
    "write_seal",
]
