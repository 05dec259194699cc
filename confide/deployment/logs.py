"""Logs of a deployment's processes: written to stderr, limited in size, read from their end."""

import contextlib
import logging
import os
import shutil
import sys
from pathlib import Path

from confide.storage.files import open_regular

_LONGEST_MESSAGE = 2000
_TAIL_BYTES = 16 * 2**10


class OneLine(logging.Formatter):
    """Writes each message on one line of limited length.

    A message may quote what the other side sent, which must not forge further lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """Write a record without its traceback, which does not come from the other side."""
        text = record.message[:_LONGEST_MESSAGE]
        record.message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        if len(text) == _LONGEST_MESSAGE:
            record.message += " ..."
        return super().formatMessage(record)


def log_to_stderr() -> None:
    """Log to stderr, with times, from level INFO on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # At INFO httpx logs a line per request, which is several a second of polling.
    for chatty in ("httpx", "httpcore", "flwr"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def log_tail(path: Path, *, since: int = 0, most: int = _TAIL_BYTES) -> str:
    """Return the end of a log; '' if there is none.

    Args:
        path: file of the log.
        since: offset in bytes from which on the log counts.
        most: largest number of bytes returned.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            # logrotate, too, empties a log
            file.seek(max(since if since <= size else 0, size - most))
            return file.read(most).decode(errors="replace")
    except OSError:
        return ""


def bound_log(path: Path, largest: int) -> bool:
    """Move the last part of a log that has grown too large to a second file, ``NAME.log.1``.

    Args:
        path: file of the log.
        largest: largest size in bytes.

    Returns:
        Whether the log was emptied.
    """
    # What the other side sends appears in logs, and must not fill the disk.
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        if size <= largest:
            return False
        with path.open("rb+") as file, path.with_suffix(".log.1").open("wb") as kept:
            os.fchmod(kept.fileno(), 0o600)
            file.seek(size - largest)
            shutil.copyfileobj(file, kept)
            # Truncated and not renamed: the program keeps the file open, in append mode, and goes
            # on writing at its new end.
            file.truncate(0)
        return True
    return False


__all__ = ["OneLine", "bound_log", "log_tail", "log_to_stderr"]
