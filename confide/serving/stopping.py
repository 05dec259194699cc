"""A stop that leaves nobody without an answer: what was taken is answered, no more is taken."""

import contextlib
import threading
from collections.abc import Iterator


class Stopping:
    """Counts what was taken and not answered yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._answered = 0
        self.is_stopping = False

    @property
    def answered(self) -> int:
        """Requests for predictions that were taken and answered, with whatever status."""
        return self._answered

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Count a request from here until it is answered."""
        with self._changed:
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._answered += 1
                self._changed.notify_all()

    def stop(self) -> None:
        """Take no more."""
        self.is_stopping = True

    def wait(self, timeout_s: float) -> int:
        """Wait until all that was taken is answered.

        Args:
            timeout_s: that it waits at most.

        Returns:
            How many are not.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, timeout_s)
            return self._under_way


__all__ = ["Stopping"]
