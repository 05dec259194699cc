"""An institution that masks a vector and helps to open its sum, in a process that is killed.

Started by test_sums.py over one folder. What leaves is a file.
"""

from pathlib import Path
from typing import Any

from crash_child import kill_at
from ledger_runs import name, opened, terms

from confide.client.ledger.event_log import EventLog
from confide.client.ledger.sums import LedgerSums
from confide.client.ledger.transaction import Transaction
from confide.client.secure_sums.memory import MaskedBefore

DIGEST, SURVIVORS = bytes(range(32)), ("north", "south", "ward")
MASKED = MaskedBefore(
    update="ab" * 32,
    values="cd" * 32,
    scores=("01" * 32, "23" * 32),
    threshold=2,
    signers={"north": "key", "ward": "another"},
    unproved=(bytes(range(32, 64)),),
)
VECTOR, SHARE = "vector", "share"
BOUNDARIES: dict[str, tuple[Any, str]] = {
    "mask": (LedgerSums, "mask"),
    "open": (LedgerSums, "open"),
    "append": (Transaction, "append"),
    "seal": (Transaction, "seal"),
    "anchor": (EventLog, "_write_anchor"),
}


def run(folder: Path, boundary: str | None, when: str, occurrence: int) -> None:
    """Go on in ``folder``; be killed at the n-th time that a boundary is reached."""
    ledger = opened(folder)
    ledger.reserve(terms(), 1, "a/1", key=None)
    sums = ledger.sums(name("a"))
    if boundary is not None:
        kill_at(*BOUNDARIES[boundary], when=when, occurrence=occurrence)
    sums.mask(DIGEST, MASKED)
    (folder / VECTOR).touch()
    sums.open(DIGEST, SURVIVORS)
    (folder / SHARE).touch()
