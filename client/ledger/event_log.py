"""An append-only log of events: SQLite, hash-chained, its head anchored outside the file.

An event's hash covers its number, time, kind, content and the hash of the event before. The anchor,
a file of its own, holds the newest event's number and hash and the SHA-256 of the whole database
file. A changed byte, a removed, reordered or cut-off event and an older copy put back are noticed
when the log is opened, and nothing is appended to it then. Between a commit and its anchor a
process may be killed: then the anchor lags behind by one transaction, which is allowed. A nonce in
each event keeps its hash, which coordinators are told, from telling its content.

Every transaction is durable before it returns (synchronous=EXTRA: SQLite's FULL, and the folder
too) and is one process's at a time. Deleted secrets are overwritten in the file; what a disk keeps
of them beneath is for its encryption.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confide.errors import LedgerError, StorageError
from confide.storage.files import write_text

FORMAT = 1
_LOCK_TIMEOUT_S, _LOCK_PAUSE_S = 60.0, 0.02
_CLOCK_SLACK_S = 300.0
_MOST_LAG = 4
"""Most events of one transaction: the first one, which begins a ledger, a population, a run and a
round."""
_NONCE_BYTES = 16
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


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened.

    Attributes:
        number: from 1.
        time: seconds since 1970, never less than of the event before.
        kind: a word.
        content: plain JSON.
        previous: hash of the event before; empty for the first.
    """

    number: int
    time: float
    kind: str
    content: Mapping[str, Any]
    previous: str

    @property
    def hash(self) -> str:
        """SHA-256 over everything."""
        parts = [self.number, self.time, self.kind, self.content, self.previous]
        return hashlib.sha256(
            json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        ).hexdigest()


class EventLog:
    """A log in one file, with its anchor beside it or elsewhere.

    Args:
        path: of the database; made with the first transaction.
        anchor: file that holds the head; None for ``PATH.anchor``.
        now_fn: seconds since 1970.

    Raises:
        LedgerError: if the log is damaged, older than its anchor, or of a newer release.
    """

    def __init__(
        self, path: Path, *, anchor: Path | None = None, now_fn: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self.anchor = anchor or path.with_name(f"{path.name}.anchor")
        self.events: list[Event] = []
        self._lock = path.with_name(f"{path.name}.lock")
        self._now_fn = now_fn
        if path.exists():
            problems = self.problems()
            if problems:
                raise LedgerError(f"{path}: {' '.join(problems)} {_MEND}")
        elif self._anchored().number:
            raise LedgerError(
                f"{path} is gone, and its anchor {self.anchor} knows of events in it. {_MEND}"
            )

    @property
    def head(self) -> tuple[int, str]:
        """Number and hash of the newest event; 0 and empty for none."""
        return (self.events[-1].number, self.events[-1].hash) if self.events else (0, "")

    def contains(self, number: int, digest: str) -> bool:
        """Say whether an event with this number has this hash."""
        return number == 0 or (
            number <= len(self.events) and self.events[number - 1].hash == digest
        )

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Transaction"]:
        """Append events, all of them or none, durable when the block has ended.

        Raises:
            LedgerError: if they cannot be written, or the log is not what it was. Then it is as
                before, unless it is the anchor that cannot be written: then the events stand.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self._lock):
                yield from self._exclusively()
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(
                f"{self.path} cannot be written: {error}. Nothing was trained; what stood there"
                " stands."
            ) from None
        except StorageError as error:
            raise error if isinstance(error, LedgerError) else LedgerError(str(error)) from None

    def _exclusively(self) -> Iterator["Transaction"]:
        if not self.path.exists():
            if self.events or self._anchored().number:
                raise LedgerError(f"{self.path} is gone. {_MEND}")
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with contextlib.closing(_connect(self.path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not connection.execute("PRAGMA user_version").fetchone()[0]:
                    if self._anchored().number:
                        raise LedgerError(f"{self.path} is empty. {_MEND}")
                    for statement in _SCHEMA:
                        connection.execute(statement)
                    # Of no event, before the first commit: from then on it is never missing
                    self._write_anchor()
                self._catch_up(connection)
                transaction = Transaction(connection, self)
                yield transaction
                transaction.check()
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
        self.events += transaction.appended
        if transaction.appended:
            self._write_anchor()

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Read what other processes appended, and check that what was known still stands."""
        anchored = self._anchored()  # first: another process may be about to write both
        number, digest = self.head
        if number:
            row = connection.execute(
                "SELECT hash FROM events WHERE number = ?", (number,)
            ).fetchone()
            if row is None or row[0] != digest:
                raise LedgerError(
                    f"{self.path} is not what it was: event {number} is gone or another. {_MEND}"
                )
        newer = list(_read(connection, after=number))
        known = [*self.events, *newer]
        problems = [
            *_chain_problems(self.events[-1] if self.events else None, newer),
            *self._anchor_problems(anchored, known),
        ]
        if problems:
            raise LedgerError(f"{self.path}: {' '.join(problems)} {_MEND}")
        self.events = known

    def read_again(self) -> None:
        """Read what other processes appended and anchored.

        Raises:
            LedgerError: if the log is not what it was.
        """
        anchored = self._anchored()
        if (anchored.number, anchored.hash) == self.head or not self.path.exists():
            return
        try:
            with contextlib.closing(_connect(self.path)) as connection:
                self._catch_up(connection)
        except (sqlite3.Error, ValueError) as error:
            raise LedgerError(f"{self.path} cannot be read: {error}. {_MEND}") from None

    def units(self) -> list[tuple[str, bytes]]:
        """Return the population and the keyed hash of each unit that was seen."""
        if not self.events:
            return []
        with contextlib.closing(_connect(self.path)) as connection:
            return [
                (str(name), bytes(mac))
                for name, mac in connection.execute("SELECT population, mac FROM units")
            ]

    def problems(self) -> list[str]:
        """Check the whole file; what is found sound is read.

        Returns:
            One sentence for each thing that is wrong.
        """
        try:
            with contextlib.ExitStack() as stack:
                with contextlib.suppress(OSError):  # on a disk that is read-only nobody writes
                    stack.enter_context(_locked(self._lock))
                file_hash = _settled_hash(self.path)
                connection = stack.enter_context(contextlib.closing(_connect(self.path)))
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version > FORMAT:
                    return [
                        f"It has format {version}, this release reads up to {FORMAT}; use a newer"
                        " confide."
                    ]
                problems = [
                    f"{row[0]}."
                    for row in connection.execute("PRAGMA integrity_check")
                    if row[0] != "ok"
                ]
                if problems:
                    return problems
                events, anchored = list(_read(connection, after=0)), self._anchored()
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            return [f"It cannot be read ({error})."]
        problems += _chain_problems(None, events)
        problems += self._anchor_problems(anchored, events)
        if not problems and anchored.number == len(events) > 0 and anchored.file != file_hash:
            problems.append(
                "The file is not the one that was written last, though its events are whole."
            )
        if not problems:
            self.events = events
        return problems

    def _anchor_problems(self, anchored: "_Anchor", events: list[Event]) -> Iterator[str]:
        number = anchored.number
        if anchored.is_missing and events:
            yield f"Its anchor {self.anchor} is missing."
        elif number > len(events):
            yield (
                f"It ends with event {len(events)}, its anchor knows of event {number}: an older"
                " copy, or a cut-off end."
            )
        elif number and events[number - 1].hash != anchored.hash:
            yield f"Event {number} is another than its anchor knows."
        elif len(events) - number > _MOST_LAG:
            yield (
                f"Its anchor knows of {number} of {len(events)} events: the anchor is an older"
                " copy."
            )

    def _anchored(self) -> "_Anchor":
        try:
            raw = json.loads(self.anchor.read_text())
            return _Anchor(number=int(raw["number"]), hash=str(raw["hash"]), file=str(raw["file"]))
        except FileNotFoundError:
            return _Anchor(is_missing=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{self.anchor} cannot be read ({error}). {_MEND}") from None

    def _write_anchor(self) -> None:
        number, digest = self.head
        self.anchor.parent.mkdir(parents=True, exist_ok=True)
        write_text(
            self.anchor,
            json.dumps({"number": number, "hash": digest, "file": _hash_of(self.path)}) + "\n",
        )


@dataclass(frozen=True, kw_only=True)
class _Anchor:
    """What an anchor holds: number and hash of the newest event, SHA-256 of the file."""

    number: int = 0
    hash: str = ""
    file: str = ""
    is_missing: bool = False


class Transaction:
    """What is being appended, by :meth:`EventLog.transaction`.

    Args:
        connection: in a transaction.
        log: what it goes into.
    """

    def __init__(self, connection: sqlite3.Connection, log: EventLog) -> None:
        self._connection = connection
        self._log = log
        self.appended: list[Event] = []
        self._changed = False

    def check(self) -> None:
        """Refuse what no event tells of: the anchor could not tell it from a change by somebody else."""
        if self._changed and not self.appended:
            raise ValueError("A transaction that changes the log needs an event.")

    def append(self, kind: str, content: Mapping[str, Any]) -> Event:
        """Append an event.

        Raises:
            LedgerError: if the clock has gone back.
        """
        last = (self.appended or self._log.events)[-1:]
        now, before = self._log._now_fn(), last[0].time if last else 0.0
        if now < before - _CLOCK_SLACK_S:
            raise LedgerError(
                f"{self._log.path}: the clock is {before - now:.0f} s behind the newest event; set"
                " it, then try again."
            )
        event = Event(
            number=last[0].number + 1 if last else 1,
            time=round(max(now, before), 3),
            kind=kind,
            content={
                **json.loads(json.dumps(content, allow_nan=False)),
                "nonce": secrets.token_hex(_NONCE_BYTES),
            },
            previous=last[0].hash if last else "",
        )
        row = (
            event.number,
            event.time,
            kind,
            json.dumps(event.content),
            event.previous,
            event.hash,
        )
        self._connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
        self.appended.append(event)
        return event

    def keep_key(self, digest: str, key: bytes) -> None:
        """Keep a secret until it is wiped."""
        self._connection.execute("INSERT INTO keys VALUES (?, ?)", (digest, key))
        self._changed = True

    def key(self, digest: str) -> bytes | None:
        """Return a secret that was kept; None if it was wiped."""
        row = self._connection.execute(
            "SELECT key FROM keys WHERE digest = ?", (digest,)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def wipe_key(self, digest: str) -> None:
        """Overwrite a secret."""
        self._connection.execute("DELETE FROM keys WHERE digest = ?", (digest,))
        self._changed = True

    def know_units(self, population: str, macs: list[bytes]) -> tuple[int, int]:
        """Remember units of a population.

        Returns:
            How many are new to it, and how many another population holds too.
        """
        before = self._connection.total_changes
        self._connection.executemany(
            "INSERT OR IGNORE INTO units VALUES (?, ?)", [(population, mac) for mac in macs]
        )
        new = self._connection.total_changes - before
        self._changed |= new > 0
        elsewhere = self._connection.execute(
            "SELECT count(*) FROM units AS mine JOIN units AS theirs USING (mac) "
            "WHERE mine.population = ? AND theirs.population <> mine.population",
            (population,),
        ).fetchone()[0]
        return new, int(elsewhere)


_MEND = (
    "Nothing is trained on it. Bring back the newest copy of the ledger and its anchor; "
    "if that is lost, treat the budgets in it as spent."
)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)
    for pragma in (
        "journal_mode = DELETE",
        "synchronous = EXTRA",
        "secure_delete = ON",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _read(connection: sqlite3.Connection, *, after: int) -> Iterator[Event]:
    if not connection.execute("PRAGMA user_version").fetchone()[0]:
        return  # nothing was committed yet
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


def _chain_problems(before: Event | None, events: list[Event]) -> Iterator[str]:
    """Say where a chain breaks.

    Args:
        before: the event that it goes on from; None for its beginning.
        events: the chain.
    """
    for event in events:
        number, digest = (before.number, before.hash) if before else (0, "")
        if event.number != number + 1:
            yield f"Event {number + 1} is missing."
        elif event.previous != digest:
            yield f"Event {event.number} does not follow event {number}."
        before = event


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _settled_hash(path: Path) -> str:
    """Hash a database file once what a killed process left in its journal was undone."""
    with contextlib.closing(_connect(path)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return _hash_of(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for, a bounded time."""
    with path.open("a") as file:
        end = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise LedgerError(
                        f"Another process has held {path} for {_LOCK_TIMEOUT_S:g} s; stop it."
                    ) from None
                time.sleep(_LOCK_PAUSE_S)
        yield


__all__ = ["FORMAT", "Event", "EventLog", "Transaction"]
