"""An append-only log of events: SQLite, hash-chained, its head anchored outside the file.

An event's hash covers its number, time, kind, content and the hash of the event before. The anchor,
a separate file, holds the newest event's number and hash and the SHA-256 of the whole database
file; the newest event is signed with the ledger's key. When the log is opened, a changed byte, a
removed, reordered or cut-off event, a chain that was computed anew and an older copy put back are
detected, and nothing more is appended. A process may be killed between a commit and its anchor:
then the anchor lags behind by one transaction, which is allowed. A nonce in each event keeps its
hash, which coordinators see, from revealing its content.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confide.client.ledger.database import (
    FORMAT,
    connect,
    create_file,
    create_tables,
    file_hash,
    format_of,
    locked,
    read_events,
    read_seal,
    recover,
    units_in,
)
from confide.client.ledger.heads import rewritten
from confide.client.ledger.transaction import Transaction
from confide.errors import LedgerError, StorageError, words_of
from confide.security.chain import Event, chain_problems
from confide.security.ledger_heads import Head
from confide.storage.files import write_text

_MAX_LAG = 4
"""Largest number of events in one transaction: the first one begins a ledger, a population, a run
and a round."""
_FIX = (
    "Nothing is trained on it. Bring back the newest copy of the ledger and its anchor; "
    "if that is lost, treat the budgets in it as spent."
)


class EventLog:
    """A log in one file, with its anchor next to it or elsewhere.

    Args:
        path: path of the database; created with the first transaction.
        anchor: file that holds the head; None for ``PATH.anchor``.
        now_fn: clock; seconds since 1970.

    Raises:
        LedgerError: if the log is damaged, older than its anchor, or of a newer release.
    """

    def __init__(
        self, path: Path, *, anchor: Path | None = None, now_fn: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self.anchor = anchor or path.with_name(f"{path.name}.anchor")
        self.events: list[Event] = []
        self.is_signed = True
        self._numbers: dict[str, int] = {}
        self._lock = path.with_name(f"{path.name}.lock")
        self._now_fn = now_fn
        if path.is_symlink() or (path.exists() and path.stat().st_nlink > 1):
            raise LedgerError(
                f"{path} is a link, or has a second name: two processes would not see each other's"
                " lock, and a change under one name is one under the other. Name the folder that"
                " the file itself lies in; for a backup, copy it."
            )
        if path.exists():
            problems = self.problems()
            if problems:
                raise LedgerError(f"{path}: {' '.join(problems)} {_FIX}")
        elif self._anchored().number:
            raise LedgerError(
                f"{path} is gone, and its anchor {self.anchor} knows of events in it. {_FIX}"
            )

    @property
    def head(self) -> tuple[int, str]:
        """Number and hash of the newest event; 0 and empty for none."""
        return (self.events[-1].number, self.events[-1].hash) if self.events else (0, "")

    def contains(self, number: int, digest: str) -> bool:
        """Say whether an event with this number has this hash."""
        return number == 0 or self.number_of(digest) == number

    def holds(self, head: Head) -> bool:
        """Say whether a head that left is in the chain."""
        number = self.number_of(head.digest)
        return number is not None and head.number in (None, number)

    def number_of(self, digest: str) -> int | None:
        """Return the number of the event with a hash; None if there is none."""
        for event in self.events[len(self._numbers) :]:
            self._numbers[event.hash] = event.number
        return self._numbers.get(digest)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Append events, all of them or none, durable when the block has ended.

        Raises:
            LedgerError: if they cannot be written, or the log has been changed. The log is then as
                before, except where only the anchor cannot be written: the events remain.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A lock around SQLite's own: the anchor is written after the commit, when SQLite has
            # let go, and must not be overtaken by another process's
            with locked(self._lock):
                if not self.path.exists():
                    if self.events or self._anchored().number:
                        raise LedgerError(f"{self.path} is gone. {_FIX}")
                    create_file(self.path)
                with contextlib.closing(connect(self.path)) as connection:
                    transaction = self._begin(connection)
                    try:
                        yield transaction
                        transaction.check()
                        connection.commit()
                    except BaseException:
                        connection.rollback()
                        raise
                self.events += transaction.appended
                if transaction.appended:
                    self._write_anchor()
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(
                f"{self.path} cannot be written: {error}. Nothing was trained, and what was"
                " written before is unchanged."
            ) from None
        except StorageError as error:
            raise error if isinstance(error, LedgerError) else LedgerError(str(error)) from None

    def _begin(self, connection: sqlite3.Connection) -> Transaction:
        """Begin a transaction on a log that is whole and read up to its end."""
        # IMMEDIATE takes the write lock now: a deferred one could fail after events were computed
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not format_of(connection):
                if self._anchored().number:
                    raise LedgerError(f"{self.path} is empty. {_FIX}")
                create_tables(connection)
                # Written for no event, before the first commit: from then on a missing anchor is
                # always an alarm
                self._write_anchor()
            self._catch_up(connection)
        except BaseException:
            connection.rollback()
            raise
        last = self.events[-1] if self.events else None
        return Transaction(connection, last=last, path=self.path, now_fn=self._now_fn)

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Read what other processes appended, and check that the known events are still there."""
        # The anchor first: another process may commit in between, and an anchor newer than the
        # events that were read would look like a cut-off end
        anchored = self._anchored()
        number, digest = self.head
        if number:
            row = connection.execute(
                "SELECT hash FROM events WHERE number = ?", (number,)
            ).fetchone()
            if row is None or row[0] != digest:
                raise LedgerError(
                    f"{self.path} has been changed: event {number} is missing or is not the one"
                    f" that was written. {_FIX}"
                )
        newer = list(read_events(connection, after=number))
        known = [*self.events, *newer]
        problems = [
            *chain_problems(self.events[-1] if self.events else None, newer),
            *_anchor_problems(anchored, known),
            *rewritten(known, read_seal(connection) if known else None),
        ]
        if problems:
            raise LedgerError(f"{self.path}: {' '.join(problems)} {_FIX}")
        self.events = known

    def read_again(self) -> None:
        """Read what other processes appended and anchored.

        Raises:
            LedgerError: if the log has been changed.
        """
        anchored = self._anchored()
        if (anchored.number, anchored.hash) == self.head or not self.path.exists():
            return
        try:
            with contextlib.closing(connect(self.path)) as connection:
                # One view of events and signature: another process may commit in between
                connection.execute("BEGIN")
                self._catch_up(connection)
        except (sqlite3.Error, ValueError) as error:
            raise LedgerError(f"{self.path} cannot be read: {error}. {_FIX}") from None

    def units(self) -> list[tuple[str, bytes]]:
        """Return the population and the keyed hash of each unit that was seen."""
        if not self.events:
            return []
        return units_in(self.path)

    def problems(self) -> list[str]:
        """Check the whole file, and read its events if it is sound.

        Returns:
            One sentence for each problem.
        """
        try:
            with contextlib.ExitStack() as stack:
                # On a read-only disk there is no lock to take, and nobody who writes
                with contextlib.suppress(OSError):
                    stack.enter_context(locked(self._lock))
                recover(self.path)
                digest = file_hash(self.path)
                connection = stack.enter_context(contextlib.closing(connect(self.path)))
                version = format_of(connection)
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
                events = list(read_events(connection, after=0))
                seal = read_seal(connection) if events else None
                anchored = self._anchored()
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            return [f"It cannot be read ({words_of(error)})."]
        problems += judged(events, seal, anchored, digest)
        if not problems:
            self.events = events
            # Until an event of this release is written to a ledger of an earlier one
            self.is_signed = seal is not None or not events
        return problems

    def _anchored(self) -> "Anchor":
        return read_anchor(self.anchor)

    def _write_anchor(self) -> None:
        number, digest = self.head
        self.anchor.parent.mkdir(parents=True, exist_ok=True)
        write_text(
            self.anchor,
            json.dumps({"number": number, "hash": digest, "file": file_hash(self.path)}) + "\n",
        )


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """The content of an anchor file.

    Attributes:
        path: the file.
        number: number of the newest event.
        hash: hash of the newest event.
        file: SHA-256 of the database file.
        is_missing: whether there is no anchor file.
    """

    path: Path
    number: int = 0
    hash: str = ""
    file: str = ""
    is_missing: bool = False


def read_anchor(path: Path) -> Anchor:
    """Read an anchor, whether or not there is one.

    Raises:
        LedgerError: if it cannot be read.
    """
    try:
        raw = json.loads(path.read_text())
        number, digest, file = int(raw["number"]), str(raw["hash"]), str(raw["file"])
        return Anchor(path=path, number=number, hash=digest, file=file)
    except FileNotFoundError:
        return Anchor(path=path, is_missing=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path} cannot be read ({words_of(error)}). {_FIX}") from None


def judged(
    events: list[Event], seal: tuple[int, str] | None, anchored: Anchor, digest: str
) -> list[str]:
    """Return one sentence for each sign that a log is not what was written.

    Args:
        events: all of them, oldest first.
        seal: number and signature of the event that was signed last, if any.
        anchored: what the anchor says.
        digest: SHA-256 of the database file.
    """
    problems = [*chain_problems(None, events), *_anchor_problems(anchored, events)]
    try:
        problems += rewritten(events, seal)
    except (KeyError, TypeError, ValueError) as error:
        problems.append(f"It cannot be read ({words_of(error)}).")
    # The file's hash counts only where the anchor is up to date; where it lags by one transaction,
    # the chain of hashes has to do
    if not problems and anchored.number == len(events) > 0 and anchored.file != digest:
        problems.append(
            "The file is not the one that was written last, although its events are complete."
        )
    return problems


def _anchor_problems(anchored: Anchor, events: list[Event]) -> Iterator[str]:
    number = anchored.number
    if anchored.is_missing and events:
        yield f"Its anchor {anchored.path} is missing."
    elif number > len(events):
        yield (
            f"It ends with event {len(events)}, its anchor knows of event {number}: this is an"
            " older copy, or its end was cut off."
        )
    elif number and events[number - 1].hash != anchored.hash:
        yield f"Event {number} is not the one that its anchor knows."
    elif len(events) - number > _MAX_LAG:
        yield f"Its anchor knows of {number} of {len(events)} events: the anchor is an older copy."


__all__ = ["Anchor", "EventLog", "judged", "read_anchor"]
