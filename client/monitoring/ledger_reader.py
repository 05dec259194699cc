"""Reads a ledger while the trainer writes it, and takes no lock: nothing ever waits for it.

SQLite's own readers hold a writer up until they have read, and a trainer that commits would wait.
So the file's bytes are copied, between two looks that show that nobody wrote meanwhile: no journal
is there, which SQLite makes before it changes a byte and removes with its commit, and the file is
unchanged. The copy is opened in memory, and held against its hashes and its anchor as the trainer
itself does.
"""

import contextlib
import hashlib
import math
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from confide.client.ledger.database import FORMAT, format_of, read_events, read_seal
from confide.client.ledger.event_log import judged, read_anchor
from confide.client.ledger.state import LedgerState, PopulationAccount
from confide.errors import ConfideError, words_of
from confide.security.chain import Event

_TRIES = 25
_PAUSE_S = 0.02
"""Half a second together: on a busy disk a transaction takes about as long."""
_HUNDREDTHS = 100

LedgerCondition = Literal["sound", "none", "damaged", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Account:
    """A population's budget, in epsilon.

    Attributes:
        population: its name.
        unit: unit that the budget protects: record or group.
        budget: what it may spend in its lifetime.
        delta: the budget's delta.
        committed: what its runs cost when they are done; a new run is held against this.
        spent: what of it was computed.
    """

    population: str
    unit: str
    budget: float
    delta: float
    committed: float
    spent: float

    @property
    def left(self) -> float:
        """What a new run may cost, >= 0."""
        return max(0.0, self.budget - self.committed)


@dataclass(frozen=True, kw_only=True)
class RoundUnderWay:
    """A round that was counted and not answered yet.

    Attributes:
        job: name of the job.
        server_round: number of the round.
        since: time at which it was counted, in seconds since 1970.
    """

    job: str
    server_round: int
    since: float


@dataclass(frozen=True, kw_only=True)
class LedgerSeen:
    """A ledger as it was read last.

    Attributes:
        condition: sound, none (not begun), damaged, or unknown.
        problem: why it is damaged or unknown; '' otherwise.
        accounts: populations.
        approved: (job, SHA-256 of the plan) of what was approved.
        under_way: the newest round that is counted and not answered; None if there is none.
    """

    condition: LedgerCondition
    problem: str = ""
    accounts: tuple[Account, ...] = ()
    approved: frozenset[tuple[str, str]] = frozenset()
    under_way: RoundUnderWay | None = None


@dataclass
class LedgerReader:
    """Reads a ledger again when it has changed."""

    _mark: tuple[object, ...] = ()
    _last: LedgerSeen = field(default=LedgerSeen(condition="unknown", problem="not read yet"))

    def read(self, path: Path, anchor: Path) -> LedgerSeen:
        """Return what a ledger says now; while it is being written, what it said before.

        Args:
            path: file of the ledger.
            anchor: file of its anchor.
        """
        for _ in range(_TRIES):
            mark = (path, *map(_stamp, (path, anchor)))
            if mark == self._mark:
                return self._last
            if (seen := self._try(path, anchor)) is not None:
                self._mark, self._last = mark, seen
                return seen
            time.sleep(_PAUSE_S)
        if self._mark[:1] == (path,):
            return self._last
        return LedgerSeen(
            condition="unknown",
            problem=f"{path} is being written, or was left so by a process that was killed; the"
            " trainer's next start puts that right.",
        )

    def _try(self, path: Path, anchor: Path) -> LedgerSeen | None:
        """Read the ledger; None while it is being written."""
        try:
            # Before the file: it may then lag behind by a transaction, as it does after a kill
            anchored = read_anchor(anchor)
            data = _copied(path)
            if data is None:
                return None
        except FileNotFoundError:
            if anchored.is_missing:
                return LedgerSeen(condition="none")
            problem = f"{path} is gone, and its anchor {anchor} knows of it."
            return LedgerSeen(condition="damaged", problem=problem)
        except ConfideError as error:
            return LedgerSeen(condition="damaged", problem=str(error))
        except OSError as error:
            problem = f"{path} cannot be read: {error.strerror}."
            return LedgerSeen(condition="unknown", problem=problem)
        try:
            with contextlib.closing(sqlite3.connect(":memory:")) as connection:
                connection.deserialize(data)
                if format_of(connection) > FORMAT:
                    problem = f"{path} is of a newer release; use a newer confide."
                    return LedgerSeen(condition="unknown", problem=problem)
                events = list(read_events(connection, after=0))
                seal = read_seal(connection) if events else None
            problems = judged(events, seal, anchored, hashlib.sha256(data).hexdigest())
            state = LedgerState()
            for event in [] if problems else events:
                state.apply(event)
            if problems:
                return LedgerSeen(condition="damaged", problem=f"{path}: {' '.join(problems)}")
            return _seen(state, events)
        except (sqlite3.Error, ConfideError, KeyError, TypeError, ValueError) as error:
            problem = f"{path} cannot be read ({words_of(error)})."
            return LedgerSeen(condition="damaged", problem=problem)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _copied(path: Path) -> bytes | None:
    """Return a database's bytes between two transactions; None if one is under way."""
    journal = path.with_name(f"{path.name}-journal")
    before = path.stat()
    if journal.exists():
        return None
    data = path.read_bytes()
    after = path.stat()
    unchanged = (before.st_ino, before.st_size, before.st_mtime_ns) == (
        after.st_ino,
        after.st_size,
        after.st_mtime_ns,
    )
    return data if unchanged and not journal.exists() else None


def _seen(state: LedgerState, events: Sequence[Event]) -> LedgerSeen:
    return LedgerSeen(
        condition="sound",
        accounts=tuple(_account(population) for population in state.populations.values()),
        approved=frozenset(state.approved),
        under_way=_under_way(state, events),
    )


def _account(population: PopulationAccount) -> Account:
    return Account(
        population=population.name,
        unit=population.unit,
        budget=population.budget.epsilon,
        delta=population.budget.delta,
        committed=_rounded_up(population.committed),
        spent=_rounded_up(population.spent),
    )


def _rounded_up(epsilon: float) -> float:
    """Round up to hundredths: all digits would tell the number of records to who knows the plan."""
    return math.ceil(round(epsilon * _HUNDREDTHS, 6)) / _HUNDREDTHS


def _under_way(state: LedgerState, events: Sequence[Event]) -> RoundUnderWay | None:
    newest = next((event for event in reversed(events) if event.kind == "reserve"), None)
    if newest is None:
        return None
    run = state.populations[newest.content["population"]].runs[newest.content["run"]]
    if run.rounds[newest.content["digest"]].is_settled:
        return None
    return RoundUnderWay(
        job=run.terms.job, server_round=int(newest.content["round"]), since=newest.time
    )


__all__ = ["Account", "LedgerCondition", "LedgerReader", "LedgerSeen", "RoundUnderWay"]
