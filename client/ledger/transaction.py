"""One transaction of an event log: events that are appended, with keys and unit hashes."""

import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from confide.client.ledger.database import write_seal
from confide.errors import LedgerError
from confide.security.chain import CLOCK, Event

CLOCK_SLACK_S = 300.0
_NONCE_BYTES = 16


class Transaction:
    """Events being appended, made by an :class:`~confide.client.ledger.event_log.EventLog`.

    Args:
        connection: connection to the database, inside a transaction.
        last: newest event of the log; None if it has none.
        path: path of the database, for messages.
        now_fn: clock; seconds since 1970.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        last: Event | None,
        path: Path,
        now_fn: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._last = last
        self._path = path
        self._now_fn = now_fn
        self.appended: list[Event] = []
        self._changed = False

    def check(self) -> None:
        """Refuse a change that comes without an event.

        Raises:
            ValueError: if something else was changed and no event was appended.
        """
        # The anchor holds the file's hash for the newest event: a change without an event would
        # look, at the next opening, as if somebody else had edited the file
        if self._changed and not self.appended:
            raise ValueError("A transaction that changes the log needs an event.")

    @property
    def seconds_ahead(self) -> float:
        """By how many seconds the newest event is in the future, by this machine's clock."""
        return self._last.time - self._now_fn() if self._last else 0.0

    def append(self, kind: str, content: Mapping[str, Any]) -> Event:
        """Append an event.

        Raises:
            LedgerError: if the clock has gone back.
        """
        last = self._last
        now = self._now_fn()
        before = last.time if last else 0.0
        # A small step back is what time servers do, and `max` below covers it; a large one means
        # that the time in the log would be worth nothing
        if kind == CLOCK:
            before = 0.0
        elif now < before - CLOCK_SLACK_S:
            raise LedgerError(
                f"{self._path}: the clock is {before - now:.0f} s behind the newest event. If the"
                " clock is wrong now, set it; if it was wrong then, `confide ledger repair"
                f" {self._path} --clock --reason TEXT` lets time go on from now. Nothing was"
                " trained."
            )
        event = Event(
            number=last.number + 1 if last else 1,
            time=round(max(now, before), 3),
            kind=kind,
            content={
                # Through JSON: the hash is taken of what a reader will parse, lists for tuples
                **json.loads(json.dumps(content, allow_nan=False)),
                # Coordinators see the newest hash; without a nonce they could guess the content
                "nonce": secrets.token_hex(_NONCE_BYTES),
            },
            previous=last.hash if last else "",
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
        self._last = event
        return event

    def seal(self, signature: str) -> None:
        """Keep the signature of the newest event in place of the one before."""
        assert self._last is not None
        write_seal(self._connection, self._last.number, signature)
        self._changed = True

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
            Number of units that are new to it, and number that another population holds too.
        """
        # total_changes counts inserted rows only; ignored ones leave it alone
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


__all__ = ["CLOCK_SLACK_S", "Transaction"]
