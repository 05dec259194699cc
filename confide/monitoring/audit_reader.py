"""Follows an audit log while its side writes it: without its lock, and each line once.

Only whole lines count: one that is just being written is read the next time. Each is held against
its hash and against the line before; whether the log's head is signed is for ``confide audit-log
verify`` to say.
"""

import io
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from confide.audit_log.files import files_of, read_rest, to_line
from confide.errors import UnreadableError
from confide.security.chain import Event, chain_problems

_TAIL = 50


class TakesEvents(Protocol):
    """What is made from a log's events, one after another."""

    def take(self, event: Event) -> None:
        """Take the next event."""


T = TypeVar("T", bound=TakesEvents)


class AuditReader(Generic[T]):
    """Reads on in a log where it stopped.

    Args:
        make_fn: returns what the events of a log are given to; called anew for another log.
    """

    def __init__(self, make_fn: Callable[[], T]) -> None:
        self._make_fn = make_fn
        self._folder: Path | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.made = self._make_fn()
        self.tail: deque[Event] = deque(maxlen=_TAIL)
        self.problem = ""
        self._last: Event | None = None
        self._file: Path | None = None
        self._end = self._lines = 0  # bytes and number of the lines of that file that were read

    @property
    def last(self) -> Event | None:
        """The newest event; None for none."""
        return self._last

    def read(self, folder: Path) -> None:
        """Read what is new; afterwards ``problem`` is what is wrong with the log, '' if nothing.

        Args:
            folder: the log's; another one than before is read from its beginning.
        """
        try:
            files = files_of(folder)
            # Moved away, as after a damage: what is there now is another log
            if folder != self._folder or (self._file is not None and self._file not in files):
                self._begin_anew()
                self._folder = folder
            self.problem = ""
            for path in files if self._file is None else files[files.index(self._file) :]:
                self._read_file(path)
        except UnreadableError as error:
            self.problem = str(error)

    def _read_file(self, path: Path) -> None:
        if path != self._file:
            self._file, self._end, self._lines = path, 0, 0
        for raw in io.BytesIO(read_rest(path, self._end)):
            if not raw.endswith(b"\n"):
                return
            self._take(path, raw)

    def _take(self, path: Path, raw: bytes) -> None:
        line = to_line(path, self._lines + 1, raw)
        if line.event is None:
            raise UnreadableError(f"{line.place} is not what was written: {line.problem}.")
        # The oldest file that is here may follow one that was archived
        for problem in chain_problems(self._last, [line.event]) if self._last else ():
            raise UnreadableError(f"{line.place}: {problem}")
        try:
            self.made.take(line.event)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableError(
                f"{line.place} is an event of another release ({type(error).__name__})."
            ) from None
        self._last = line.event
        self.tail.append(line.event)
        self._end, self._lines = self._end + len(raw), self._lines + 1


__all__ = ["AuditReader", "TakesEvents"]
