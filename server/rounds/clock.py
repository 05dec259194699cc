"""The clock of a run's rounds, the real one or a simulation's, and who is there by it.

What decides a result, a deadline say, asks the clock of the run's reach. What people are shown of
the time that something took is real time.
"""

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from confide.errors import RunFailedError


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


@dataclass(frozen=True)
class Deadline:
    """When nobody is waited for any more who computes in real time.

    Attributes:
        at: by the machine's clock.
        timeout_s: how long is waited in all.
        is_virtual: whether the run's own clock is a simulation's, which stands still meanwhile.
    """

    at: float
    timeout_s: float
    is_virtual: bool

    @classmethod
    def after(cls, timeout_s: float, clock: Clock) -> Self:
        """Begin to wait.

        Args:
            timeout_s: seconds.
            clock: of the run.
        """
        return cls(REAL.now() + timeout_s, timeout_s, clock.is_virtual)

    def is_past(self, waiting: int) -> bool:
        """Tell whether time is up.

        Args:
            waiting: how many have not answered yet.

        Raises:
            RunFailedError: if it is up and time is virtual: nobody loses an answer by how fast this
                machine is.
        """
        if REAL.now() < self.at:
            return False
        if self.is_virtual:
            raise RunFailedError(
                f"{waiting} institutions have computed for {self.timeout_s:g} s without an answer,"
                " in which virtual time stands still; raise server.round_timeout_s, or see what"
                " keeps them."
            )
        return True


__all__ = ["REAL", "Clock", "Deadline", "Presence", "RealClock", "enough"]
