"""Where the ledgers of a folder lie: one file a population, whatever an institution is called.

Nothing is checked here, and torch is not imported.
"""

import sqlite3
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from confide.client.ledger.database import declared_in
from confide.storage.files import folder_name

SUFFIX = ".ledger"
SHARED_KEYS = "ledgers.key"
"""File next to the ledgers of a folder, which share one pair of keys."""
DEFAULT = "everybody"
"""Name of the population of a folder that no policy names: not the institution's, which a
coordinator gives and which may change."""
_ANCHOR = ".anchor"


def ledgers_in(folder: Path, anchors: Path) -> list[Path]:
    """Return the ledgers of a folder, those that are gone and have left an anchor included."""
    here = {*folder.glob(f"*{SUFFIX}"), *_anchored(folder, folder)}
    # Anchors on another disk may be those of several folders: they count where nothing else does
    return sorted(here or _anchored(folder, anchors))


def _anchored(folder: Path, anchors: Path) -> set[Path]:
    return {folder / it.name.removesuffix(_ANCHOR) for it in anchors.glob(f"*{SUFFIX}{_ANCHOR}")}


def ledger_path(folder: Path, anchors: Path, population: str | None) -> Path:
    """Return the file of a population's ledger, whether it is there or not.

    Earlier releases named files by the institution: such a file is found by what it holds.

    Args:
        folder: folder of the ledgers.
        anchors: folder of their anchors.
        population: name of the population; None for the only one of the folder.
    """
    own = folder / f"{folder_name(population or DEFAULT)}{SUFFIX}"
    there = ledgers_in(folder, anchors)
    if own in there or own in _anchored(folder, anchors):
        return own
    if population is not None:
        there = [path for path in there if population in declared(path)]
    return there[0] if len(there) == 1 else own


def population_of(path: Path) -> str:
    """Return the population of a ledger where no policy names one."""
    there = declared(path)
    return there[0] if len(there) == 1 else unquote(path.stem)


def declared(path: Path) -> list[str]:
    """Return the populations that a ledger declares, oldest first; none if it cannot be read."""
    try:
        return declared_in(path)
    except (sqlite3.Error, OSError, ValueError, KeyError):
        return []  # whoever opens it hears what is wrong


def folded(name: str) -> str:
    """Return what names that people take for the same have in common."""
    shown = unicodedata.normalize("NFKC", name).casefold()
    # Every dash is one, and what is not seen is not there
    kinds = ((char, unicodedata.category(char)) for char in shown)
    plain = ("-" if kind == "Pd" else char for char, kind in kinds if kind != "Cf")
    return " ".join("".join(plain).split())


def keys_beside(path: Path) -> Path:
    """Return the file of a ledger's keys: its own, as earlier releases made it, or the shared."""
    own, shared = path.with_name(f"{path.name}.key"), path.with_name(SHARED_KEYS)
    return shared if shared.exists() and not own.exists() else own


__all__ = [
    "DEFAULT",
    "SHARED_KEYS",
    "SUFFIX",
    "declared",
    "folded",
    "keys_beside",
    "ledger_path",
    "ledgers_in",
    "population_of",
]
