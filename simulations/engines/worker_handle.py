"""Workers as the pool sees them, in whatever process and on whatever machine they run."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from confide.simulations.engines.pace import Ahead
from confide.simulations.engines.work_states import TrackedItem
from confide.simulations.engines.worker import RoundSpec, WorkItem, WorkResult


class WeightedSum(NamedTuple):
    """A part of a round's sum.

    Attributes:
        total: int64, shape [d].
        weight: of the updates in it.
    """

    total: Tensor
    weight: int


class Heard(NamedTuple):
    """What a worker sent.

    Attributes:
        results: of its oldest items, in their order.
        is_ready: whether its model is built.
        is_alive: whether it is still there.
    """

    results: list[WorkResult]
    is_ready: bool
    is_alive: bool


class Workforce(Protocol):
    """Workers of one kind, told apart by their numbers from 0: how they are started and reached."""

    @property
    def ahead(self) -> Ahead:
        """How much a worker is given ahead of time."""

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers; 0 where it is not known yet."""

    def publish(self, round_spec: RoundSpec, params: Tensor | None) -> None:
        """Have a question where workers find it; only while none is at work.

        Args:
            round_spec: what all items have in common.
            params: float32, shape [d], its tensors; None if it has none.
        """

    def start(self, number: int) -> None:
        """Start a worker, or another one in the place of one that was ended."""

    def send(self, number: int, items: Sequence[WorkItem]) -> None:
        """Hand items to a worker, for the question that was published last.

        Raises:
            OSError: if it has died; the items count as handed over all the same.
        """

    def wait(self, timeout: float) -> tuple[list[int], list[int]]:
        """Wait at most ``timeout`` seconds for a message or a death.

        Returns:
            Numbers of the workers that sent something, and of those that have ended.
        """

    def read(self, number: int) -> Heard:
        """Return what a worker has sent since this was last called."""

    def begun(self, number: int) -> int | None:
        """Return how many items it has begun since it was started; None if it cannot be told."""

    def total(self, number: int, updates: int) -> Tensor | None:
        """Return its sum, int64, if that holds so many updates and nothing else; None otherwise."""

    def end(self, number: int, patience_s: float = 0.0) -> str:
        """End a worker, at once but for this patience, and return how it ended."""

    def close(self) -> None:
        """End all workers."""


@dataclass(eq=False, kw_only=True)
class WorkerHandle:
    """What the pool knows of one worker.

    Attributes:
        number: its place in the pool; a replacement takes the same.
        ready: whether its model is built.
        in_hand: items given to it, oldest first.
        batches: how many of these are left of each message that brought them.
        since: when it came to the oldest message, by ``time.monotonic()``.
        done: items done since it was started.
        summed: items whose updates are in its sum.
    """

    number: int
    ready: bool = False
    in_hand: deque[TrackedItem] = field(default_factory=deque)
    batches: deque[int] = field(default_factory=deque)
    since: float = 0.0
    done: int = 0
    summed: list[TrackedItem] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        """Whether it could begin something at once."""
        return self.ready and not self.in_hand

    @property
    def oldest(self) -> list[TrackedItem]:
        """What is left of the oldest message: the item at work is among it."""
        return list(self.in_hand)[: self.batches[0]] if self.batches else []

    def has_room(self, most_batches: int) -> bool:
        """Tell whether another message may be sent, where so many may wait.

        Nobody waits behind an item that goes alone.
        """
        is_free = self.ready and len(self.batches) < most_batches
        return is_free and not any(one.is_alone for one in self.in_hand)

    def give(self, batch: Sequence[TrackedItem]) -> None:
        """Note what is sent to it in one message."""
        if not self.in_hand:
            self.since = time.monotonic()
        self.in_hand.extend(batch)
        self.batches.append(len(batch))

    def take(self, result: WorkResult) -> TrackedItem:
        """Note the result of the oldest item in hand."""
        tracked = self._drop()
        self.since = time.monotonic()
        self.done += 1
        if result.weight:
            self.summed.append(tracked)
        return tracked

    def take_back(self) -> list[TrackedItem]:
        """Take back what is left of the oldest message."""
        return [self._drop() for _ in self.oldest]

    def _drop(self) -> TrackedItem:
        self.batches[0] -= 1
        if not self.batches[0]:
            self.batches.popleft()
        return self.in_hand.popleft()

    def begun(self, count: int | None) -> list[TrackedItem]:
        """Return the items in hand that it has begun to work on.

        Args:
            count: items begun since it was started; None if that is not known: then all of them,
                since what is charged may only be too high.
        """
        items = list(self.in_hand)
        return items if count is None else items[: max(0, count - self.done)]


def add_up(parts: Iterable[WeightedSum], *, num_values: int) -> WeightedSum:
    """Add up parts of a sum of ``num_values`` values."""
    total, weight = torch.zeros(num_values, dtype=torch.int64), 0
    for part in parts:
        total += part.total[:num_values]
        weight += part.weight
    return WeightedSum(total, weight)


__all__ = ["Heard", "WeightedSum", "WorkerHandle", "Workforce", "add_up"]
