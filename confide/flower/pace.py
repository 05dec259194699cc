"""How long to pause between two looks for what another process sends."""

import time
from collections.abc import Callable

NEAR, FAR = 0.1, 0.25
"""Share of the wait so far that a pause takes: on one machine, and where each look is a request
that the SuperLink answers."""
PATIENCE_S = 5.0
"""Seconds in which a part that is announced is looked for; then come Flower's own pauses."""


class Pace:
    """Pauses of one wait: short at first, later a share of the wait so far.

    Args:
        shortest_s: shortest pause, in seconds.
        longest_s: longest pause, in seconds.
        share: of the wait so far that a pause takes.
        clock: function that returns the time in seconds.
    """

    def __init__(
        self,
        shortest_s: float,
        longest_s: float,
        *,
        share: float = NEAR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self._share, self._clock = share, clock
        self._began = clock()

    @property
    def waited_s(self) -> float:
        """How long the wait has lasted, in seconds."""
        return self._clock() - self._began

    @property
    def pause_s(self) -> float:
        """How long to pause now, in seconds."""
        return min(self._longest_s, max(self._shortest_s, self._share * self.waited_s))

    def begin(self) -> None:
        """Begin the wait anew, since something came or was sent."""
        self._began = self._clock()


def part_pace(clock: Callable[[], float] = time.monotonic) -> Pace:
    """Return the pace of looks for a part that is announced and not there yet."""
    return Pace(0.02, 0.5, clock=clock)


__all__ = ["FAR", "NEAR", "PATIENCE_S", "Pace", "part_pace"]
