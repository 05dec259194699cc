"""How many of its planned steps a training takes: all, or those that its time allows."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")


class Pace:
    """Counts a round's steps, and ends them once its time is over: after one step at least.

    Args:
        within_s: seconds from now on; None for as many as it takes.
        clock: monotonic clock, in seconds.
    """

    def __init__(
        self, within_s: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._end = math.inf if within_s is None else clock() + within_s
        self.taken = 0

    def over(self, steps: Iterable[_T]) -> Iterator[_T]:
        """Yield what each step takes, while there is time; ``taken`` counts those of this training.

        Args:
            steps: one item for each planned step.
        """
        self.taken = 0
        for step in steps:
            if self.taken and self._clock() >= self._end:
                return
            self.taken += 1
            yield step


__all__ = ["Pace"]
