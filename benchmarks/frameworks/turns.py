"""Rounds by turns: who runs them is told when, and what they took is noted.

Frameworks own their loops. Each has a hook after a round, which waits there until it is this
process's turn again: the others run theirs meanwhile.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

from torch import Tensor

Weights = Callable[[], Sequence[Tensor]]
"""Returns the global model's parameters in their order; called only where they are looked at."""


class Turns(Protocol):
    """What a framework's loop calls."""

    def begin(self) -> None:
        """Wait for the first turn: everything is set up."""

    def done(self, weights: Weights) -> None:
        """Note a round, and wait for the next turn."""


@dataclass
class Clock:
    """Wall seconds, and processor seconds of this process and all that it has started."""

    wall: float = 0.0
    cpu: float = 0.0

    def start(self) -> None:
        """Start both."""
        self.cpu, self.wall = children_cpu() + time.process_time(), time.perf_counter()

    def stop(self) -> tuple[float, float]:
        """Return seconds since the start: wall, CPU."""
        wall, own = time.perf_counter(), time.process_time()
        return wall - self.wall, own + children_cpu() - self.cpu


def children_cpu() -> float:
    """Return the processor seconds of all descendants that live."""
    return sum(_cpu(child) for child in _descendants(os.getpid()))


def _descendants(process: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # A name may hold blanks and brackets: fields are counted from the last bracket
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [process]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _cpu(process: int) -> float:
    # The clock of another process, as clock_getcpuclockid(3) numbers it: nanoseconds, and threads
    # that have ended are in it; /proc counts in steps of 10 ms
    try:
        return time.clock_gettime(~process << 3 | 2)
    except OSError:
        return 0.0


@dataclass
class HandedOut:
    """Turns that another process hands out over a pipe, a line each.

    Attributes:
        lines: where turns come from.
        reply: where what a round took goes to.
    """

    lines: TextIO
    reply: Callable[..., None]
    clock: Clock = field(default_factory=Clock)

    def begin(self) -> None:
        """Say that everything is set up, and wait."""
        gc.collect()
        gc.freeze()
        self._wait(ready=True)

    def done(self, weights: Weights) -> None:
        """Tell what the round took, and wait."""
        wall, cpu = self.clock.stop()
        self._wait(wall=wall, cpu=cpu)

    def _wait(self, **said: object) -> None:
        self.reply(**said)
        if not self.lines.readline():
            sys.exit("Whoever hands out turns has gone.")
        self.clock.start()


@dataclass
class Kept:
    """Turns of somebody who is alone and wants the last round's weights.

    Attributes:
        weights: after the last round.
    """

    weights: Sequence[Tensor] = ()

    def begin(self) -> None:
        """Nobody to wait for."""

    def done(self, weights: Weights) -> None:
        """Keep the weights."""
        self.weights = [one.detach().clone() for one in weights()]


def replies(out: TextIO) -> Callable[..., None]:
    """Return a function that writes its named arguments as a line of JSON."""

    def reply(**said: object) -> None:
        print(json.dumps(said), file=out, flush=True)

    return reply
