"""A folder of ledgers: one file a population, and no second budget for people who have one.

Protected: every member of every population of the folder. Unit ids of all its ledgers are hashed
with keys that lie in it, so that a population which is new there, or takes in new units, can be
held against the others. What it cannot see: another folder, another machine, and the same people
under other ids.
"""

import contextlib
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from confide.client.ledger.database import locked, unit_kinds_in, units_in
from confide.client.ledger.file import LedgerFile
from confide.client.ledger.keys import LedgerKeys
from confide.client.ledger.names import SHARED_KEYS, declared, folded, keys_beside, ledgers_in
from confide.errors import DeniedError, LedgerError, words_of
from confide.protocol.refusals import Refusal

_LOCK = "ledgers.lock"
_KIND_CHARS = 16


def check_folder(path: Path, population: str, *, anchors: Path, is_named: bool) -> None:
    """Check that no other ledger of the folder is, or may be, the same population's.

    Args:
        path: file of the population's ledger.
        population: its name.
        anchors: folder of the anchors.
        is_named: whether the policy names the population.

    Raises:
        DeniedError: if one may be, with what to do.
    """
    others = [other for other in ledgers_in(path.parent, anchors) if other != path]
    listed = ", ".join(other.name for other in others)
    if others and not is_named and not path.exists():
        raise DeniedError(
            f"policy.budget.id=null, and {path.parent} holds several ledgers: {listed}. Write in"
            " policy.budget.id whose records these are; if two are of the same people: confide"
            " ledger merge LEDGER INTO",
            code=Refusal.UNDECLARED_POPULATION,
        )
    for other in others:
        names = {unquote(other.stem), *declared(other)}
        if population in declared(other):
            raise DeniedError(
                f"{path} and {other} both hold population {population}: the same people were"
                " charged in two ledgers. Bring what both spent into one: confide ledger merge"
                f" {other} {path}",
                code=Refusal.UNDECLARED_POPULATION,
            )
        alike = [name for name in names if folded(name) == folded(population)]
        if alike and population not in names:
            raise DeniedError(
                f"policy.budget.id={population} and {alike[0]!r} of {other} differ in case,"
                " space or dashes alone, and would be two budgets of the same people; write it as"
                " it was.",
                code=Refusal.UNDECLARED_POPULATION,
            )


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep two processes from declaring populations of a folder at the same time."""
    with locked(folder / _LOCK):
        yield


def shared_keys(path: Path) -> LedgerKeys:
    """Return the keys of a ledger, which are those of its folder unless it has its own already."""
    own = keys_beside(path)
    return LedgerKeys(own if own.exists() else path.with_name(SHARED_KEYS))


def known_by(*, id_column: str | None, group_column: str | None, content: Sequence[str]) -> str:
    """Return by what units are known, as text: the same people may have ids of several kinds.

    Args:
        id_column: column that identifies a record; None if its content does.
        group_column: column that identifies its owner, which is the unit; None if ungrouped.
        content: columns of a record's content, which count where no column identifies it.
    """
    column = group_column or id_column
    parts = ["column", column] if column else ["content", *content]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_KIND_CHARS]


@dataclass(frozen=True, kw_only=True)
class Members:
    """Units that are to be a population's.

    Attributes:
        ids: ids of the units.
        known_by: by what they are known, from :func:`known_by`.
    """

    ids: Sequence[str]
    known_by: str


def held_elsewhere(path: Path, members: Members, *, anchors: Path) -> Counter[str]:
    """Count the units that other ledgers of a folder hold.

    Args:
        path: ledger of the population that they are to belong to.
        members: the units.
        anchors: folder of the anchors.

    Returns:
        Population -> number of units; all of them where ids cannot be compared.

    Raises:
        LedgerError: if another ledger is gone or cannot be read: what it holds is not known.
    """
    found = Counter[str]()
    for other in ledgers_in(path.parent, anchors):
        if other == path:
            continue
        try:
            if not other.exists():
                raise OSError("it is gone, and its anchor is there")
            units = units_in(other)
            is_comparable = bool(units) and members.known_by in unit_kinds_in(other)
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(
                f"{other} cannot be read ({words_of(error)}), so that nobody knows whether these"
                " people have a budget in it; bring it back."
            ) from None
        if units and not is_comparable:
            # Nobody can tell, and a budget too few is better than one too many
            found.update(dict.fromkeys({name for name, _ in units}, len(members.ids)))
        elif units:
            keys = shared_keys(other)
            mine = {keys.mac(unit) for unit in members.ids}
            found.update(population for population, mac in units if mac in mine)
    return found


def check_members(file: LedgerFile, population: str, members: Members, *, anchors: Path) -> None:
    """Check that units which are new to a population have no budget in another ledger.

    Args:
        file: ledger of the population, read up to its end.
        population: its name.
        members: units that are to be trained on.
        anchors: folder of the anchors of this folder's ledgers.

    Raises:
        DeniedError: if another ledger of the folder holds some, or may, since its units are known
            by other columns; and nobody declared that each population spends its own budget.
    """
    known = file.state.populations.get(population)
    if known and known.is_separate:
        return
    there = {mac for name, mac in file.units() if name == population}
    fresh = [unit for unit in members.ids if file.keys.mac(unit) not in there]
    if not fresh:
        return
    held = held_elsewhere(file.path, replace(members, ids=fresh), anchors=anchors)
    if held:
        raise DeniedError(
            second_budget(f"Population {population}", file.path, held)
            + " (Units that are known by other columns than there count as the same.) Charge them"
            " where they are: write that population's name in policy.budget.id; or, if each may"
            f" spend its own budget: confide ledger budget {file.path} --declare {population}"
            " --epsilon E --separate",
            # Not a code of its own: it would tell coordinators that somebody is in two populations.
            code=Refusal.CANNOT_COMPLY,
        )


def second_budget(who: str, path: Path, held: Counter[str]) -> str:
    """Say that units may not be given another budget.

    Args:
        who: what brings them, such as ``Institution ward``.
        path: its ledger.
        held: population -> number of its units that have a budget there.
    """
    return (
        f"{who} is new to {path.parent}, and {sum(held.values())} of its units are in"
        f" {', '.join(sorted(held))} already: under another name, the same people would get a"
        " second budget."
    )


__all__ = [
    "Members",
    "check_folder",
    "check_members",
    "held_elsewhere",
    "known_by",
    "only_one",
    "second_budget",
    "shared_keys",
]
