"""A worker process as the pool sees it."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection as pipes
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import NamedTuple

import torch
from torch import Tensor

from confide.simulations.engines.preload import CONTEXT
from confide.simulations.engines.shared_memory import SharedBlock
from confide.simulations.engines.work_states import TrackedItem
from confide.simulations.engines.worker import RoundSpec, SharedSum, WorkerSpec, WorkResult, work


class WeightedSum(NamedTuple):
    """A part of a round's sum.

    Attributes:
        total: int64, shape [d].
        weight: of the updates in it.
    """

    total: Tensor
    weight: int


@dataclass(eq=False, kw_only=True)
class WorkerHandle:
    """One worker process, seen from outside.

    Attributes:
        number: its place in the pool; a replacement takes the same.
        process: the process.
        pipe: to it.
        sum: its partial sum.
        ready: whether its model is built.
        round_spec: the last one it was sent.
        in_hand: items given to it, oldest first.
        since: when it came to the oldest of them, by ``time.monotonic()``.
        done: items done since it was started.
        summed: items whose updates are in its sum.
    """

    number: int
    process: ForkServerProcess
    pipe: Connection
    sum: SharedSum
    ready: bool = False
    round_spec: RoundSpec | None = None
    in_hand: deque[TrackedItem] = field(default_factory=deque)
    since: float = 0.0
    done: int = 0
    summed: list[TrackedItem] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        """Whether it could begin something at once."""
        return self.ready and not self.in_hand

    def has_room(self, most: int) -> bool:
        """Tell whether another item may be handed out, ``most`` at a time.

        Nobody waits behind a slow one.
        """
        return (
            self.ready and len(self.in_hand) < most and not any(one.is_slow for one in self.in_hand)
        )

    def send(self, tracked: TrackedItem, round_spec: RoundSpec) -> None:
        """Hand out an item, after the description of its round if that is new.

        Raises:
            OSError: if the process has died; the item is in hand all the same.
        """
        if not self.in_hand:
            self.since = time.monotonic()
        self.in_hand.append(tracked)
        if self.round_spec is not round_spec:
            self.round_spec = round_spec
            self.pipe.send(round_spec)
        self.pipe.send(tracked.item)

    def read(self) -> tuple[list[WorkResult], bool]:
        """Return the results that it sent, and whether the process is still there."""
        results: list[WorkResult] = []
        try:
            while self.pipe.poll():
                message: WorkResult | None = self.pipe.recv()
                if message is None:
                    self.ready = True
                else:
                    results.append(message)
        except (EOFError, OSError):  # what it sent before its end counts
            return results, False
        return results, True

    def take(self, result: WorkResult) -> TrackedItem:
        """Take the result of the oldest item in hand."""
        tracked = self.in_hand.popleft()
        self.since = time.monotonic()
        self.done += 1
        if result.weight:
            self.summed.append(tracked)
        return tracked

    def begun(self) -> list[TrackedItem]:
        """Return the items in hand that it has begun to work on."""
        return list(self.in_hand)[: max(0, self.sum.begun - self.done)]

    def part(self) -> WeightedSum | None:
        """Return its sum if that holds what was reported and nothing else; None otherwise."""
        if not self.summed or not self.sum.is_whole(len(self.summed)):
            return None
        return WeightedSum(self.sum.total, sum(one.weight for one in self.summed))

    def kill(self) -> None:
        """End the process at once."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


def start_worker(number: int, spec: WorkerSpec, *, block: SharedBlock) -> WorkerHandle:
    """Start a worker process.

    Args:
        number: its place in the pool.
        spec: common to all.
        block: holds its partial sum.
    """
    ours, theirs = CONTEXT.Pipe()
    partial = SharedSum(block)
    partial.begun = 0  # the block may have been that of a worker that died
    process = CONTEXT.Process(
        target=work,
        args=(number, spec, block, theirs),
        name=f"confide-worker-{number}",
        daemon=True,
    )
    process.start()
    theirs.close()  # else this process would keep the pipe open when the worker is gone
    return WorkerHandle(number=number, process=process, pipe=ours, sum=partial)


def wait_for(
    workers: Sequence[WorkerHandle], timeout: float
) -> tuple[list[WorkerHandle], list[WorkerHandle]]:
    """Wait at most ``timeout`` seconds for a message or a death.

    Returns:
        The workers that sent something, and those whose process has ended.
    """
    by_pipe = {worker.pipe: worker for worker in workers}
    by_sentinel = {worker.process.sentinel: worker for worker in workers}
    ready = pipes.wait([*by_pipe, *by_sentinel], timeout)
    readable = [by_pipe[one] for one in ready if isinstance(one, Connection)]
    ended = [by_sentinel[one] for one in ready if isinstance(one, int)]
    return readable, ended


def add_up(parts: Iterable[WeightedSum], *, num_values: int) -> WeightedSum:
    """Add up parts of a sum of ``num_values`` values."""
    total, weight = torch.zeros(num_values, dtype=torch.int64), 0
    for part in parts:
        total += part.total[:num_values]
        weight += part.weight
    return WeightedSum(total, weight)


__all__ = ["WeightedSum", "WorkerHandle", "add_up", "start_worker", "wait_for"]
