"""A value that is read again once it is a second old, however often it is asked for."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """Reads a value for many who ask, one at a time.

    Args:
        read_fn: reads it; never by two threads at once.
        for_s: seconds for which what was read is good.
        now_fn: clock; seconds.
    """

    def __init__(
        self,
        read_fn: Callable[[], T],
        *,
        for_s: float = 1.0,
        now_fn: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_fn, self._for_s, self._now_fn = read_fn, for_s, now_fn
        self._lock = threading.Lock()
        self._value: tuple[T, float] | None = None

    def __call__(self) -> T:
        """Return the value; who waits while it is read gets what was read."""
        with self._lock:
            if self._value is None or self._now_fn() - self._value[1] >= self._for_s:
                # Its age counts from its end: a slow reading must not be followed by the next one
                self._value = self._read_fn(), self._now_fn()
            return self._value[0]


__all__ = ["Cached"]
