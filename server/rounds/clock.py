"""The clock of a run's rounds, the real one or a simulation's, and who is there by it.

What decides a result, a deadline say, asks the clock of the run's reach. What people are shown of
the time that something took is real time.
"""

import itertools
import time
from collections.abc import Iterable, Sequence
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


class Presence(Protocol):
    """Tells who is there."""

    def is_there(self, client: str) -> bool:
        """Tell whether a client is there now."""

    def wait(self, clients: Sequence[str], least: int) -> None:
        """Let time pass until ``least`` of ``clients`` are there, or it has been long enough."""


def enough(presence: Presence, clients: Iterable[str], least: int) -> bool:
    """Tell whether ``least`` of ``clients`` are there; of many the first ones mostly suffice."""
    found = itertools.islice(filter(presence.is_there, clients), least)
    return sum(1 for _ in found) >= least


__all__ = ["REAL", "Clock", "Presence", "RealClock", "enough"]
