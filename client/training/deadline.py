"""The deadline of a computation, checked between its steps; other threads may bring it forward."""

import math
import threading
import time
from collections.abc import Callable

from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal


class Deadline:
    """The deadline of the computation under way; there is one at a time.

    Args:
        clock: monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._job: str | None = None
        self._end = math.inf
        self._cancelled = False

    @property
    def job(self) -> str | None:
        """Job of the computation under way; None if there is none."""
        return self._job

    def start(self, seconds: float, job: str) -> None:
        """Begin a computation for a job.

        Args:
            seconds: time it may take; 0 or less for none at all.
            job: its name, for :meth:`cancel`.

        Raises:
            ValueError: if one has begun that was not finished.
        """
        with self._lock:
            if self._job is not None:
                raise ValueError(
                    f"Expected one computation at a time; job={self._job} was not finished."
                )
            self._job, self._end, self._cancelled = job, self._clock() + seconds, False

    def cancel(self, job: str) -> bool:
        """Have the computation of a job stop at its next step.

        Returns:
            Whether that job's computation is under way.
        """
        with self._lock:
            if self._job != job:
                return False
            self._cancelled = True
            return True

    def finish(self) -> None:
        """End the computation; without effect if none has begun."""
        with self._lock:
            self._job, self._end, self._cancelled = None, math.inf, False

    def expired(self) -> bool:
        """Return whether a computation has begun that must stop."""
        with self._lock:
            return self._cancelled or self._clock() >= self._end

    def check(self) -> None:
        """Stop the computation, if it must stop.

        Raises:
            ProtocolError: with the code ``cancelled`` or ``deadline``.
        """
        with self._lock:
            job, cancelled, late = self._job, self._cancelled, self._clock() - self._end
        if cancelled:
            raise ProtocolError(
                f"Job {job} was cancelled; ask again to go on.", code=Refusal.CANCELLED
            )
        if late >= 0:
            raise ProtocolError(
                f"Job {job} is {late:.1f} s past its deadline; give a round more time.",
                code=Refusal.DEADLINE,
            )


__all__ = ["Deadline"]
