"""Which ledgers a command means, opened."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from confide.client.ledger.names import SUFFIX
from confide.errors import ConfigError

if TYPE_CHECKING:
    from confide.client.ledger.file import LedgerFile


def files_at(path: Path) -> list[Path]:
    """Return the ledgers at a path."""
    if path.is_dir():
        files = sorted(path.glob(f"*{SUFFIX}"))
        if files:
            return files
        raise ConfigError(f"{path} holds no ledger (*{SUFFIX}).")
    if not path.exists():
        raise ConfigError(f"{path} does not exist; name a ledger, or a folder of ledgers.")
    return [path]


def one_at(arguments: argparse.Namespace, what: str) -> Path:
    """Return the only ledger at a path."""
    files = files_at(arguments.path)
    if arguments.path.is_dir():
        raise ConfigError(
            f"{arguments.path} is a folder of {len(files)} ledgers; {what} one of them."
        )
    return files[0]


def open_file(path: Path, arguments: argparse.Namespace) -> "LedgerFile":
    """Open a ledger with the anchor and the keys that the arguments name, or those beside it."""
    from confide.client.ledger.file import LedgerFile

    anchor = arguments.anchors / f"{path.name}.anchor" if arguments.anchors else None
    return LedgerFile(path, anchor=anchor, keys=arguments.keys)


__all__ = ["files_at", "one_at", "open_file"]
