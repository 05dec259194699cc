"""``ledger_heads.jsonl``: what institutions' ledgers said, for auditors.

A head is signed by its institution and covers every event before it: with any one of them,
``confide ledger verify LEDGER --head HEAD`` finds out whether that ledger was written anew since.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from confide.errors import StorageError


class HeadsLog:
    """Appends the heads that changed in a round, one line a round.

    Args:
        path: the file; made with the first head.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}

    def write(self, server_round: int, heads: Mapping[str, str]) -> None:
        """Append what is new.

        Args:
            server_round: round after which the heads were told.
            heads: name of the institution -> head of its ledger.

        Raises:
            StorageError: if the file cannot be written.
        """
        new = {name: head for name, head in heads.items() if self._known.get(name) != head}
        if not new:
            return
        self._known |= new
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"round": server_round, "heads": new}) + "\n")
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error}. Free space.") from None


__all__ = ["HeadsLog"]
