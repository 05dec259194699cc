"""The clock of a run's rounds: the real one, or a simulation's.

What decides a result, a deadline say, asks the clock of the run's reach. What people are shown of
the time that something took is real time.
"""

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and lets it pass."""

    @property
    def is_virtual(self) -> bool:
        """Whether its seconds are a simulation's."""

    def now(self) -> float:
        """Return seconds since some beginning."""

    def sleep(self, seconds: float) -> None:
        """Wait for messages, for at most so long."""


@dataclass(frozen=True)
class RealClock:
    """The machine's own clock, which nobody can set back."""

    is_virtual: bool = False

    def now(self) -> float:
        """Return seconds since the machine started."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


REAL = RealClock()

__all__ = ["REAL", "Clock", "RealClock"]
