"""Requests that wait, and the one thread that computes: what has come by then goes together.

While the thread computes, requests gather; a short delay lets more of them in where it is idle.
Nobody waits for a request that came later than their own batch was begun.
"""

import asyncio
import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from confide.serving.answering import Answer, Asked
from confide.serving.refusal import RefusedError

log = logging.getLogger(__name__)

AnswerFn = Callable[[Sequence[Asked]], list[Answer]]
_RETRY_S = 1


class _Waiting(NamedTuple):
    asked: Asked
    future: "asyncio.Future[Answer]"
    loop: asyncio.AbstractEventLoop
    since: float


class Batcher:
    """Answers requests in the order in which they came.

    Args:
        answer_fn: predicts on several requests at once; called by one thread.
        most_records: of a batch; a request with more goes alone.
        most_waiting: requests that may wait.
        delay_s: that a batch waits for others, from its first request on.

    Attributes:
        on_batch: told the number of records of each batch.
    """

    def __init__(
        self,
        answer_fn: AnswerFn,
        *,
        most_records: int,
        most_waiting: int,
        delay_s: float,
    ) -> None:
        self._answer_fn = answer_fn
        self.on_batch: Callable[[int], None] = lambda _: None
        self._most_records, self._most_waiting, self._delay_s = most_records, most_waiting, delay_s
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._records = 0  # of those that wait
        self._changed = threading.Condition()
        self._is_ended = False
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread that computes runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def refuse_full(self) -> None:
        """Check that one more request may wait.

        Raises:
            RefusedError: if not; the sender may try again.
        """
        if len(self._waiting) >= self._most_waiting:
            raise RefusedError(
                503,
                f"{self._most_waiting} requests wait already (--max-waiting); try again later.",
                {"retry-after": str(_RETRY_S)},
            )

    async def answer(self, asked: Asked) -> Answer:
        """Wait for the answer to one request.

        Raises:
            RefusedError: if too many wait already.
        """
        loop = asyncio.get_running_loop()
        one = _Waiting(asked, loop.create_future(), loop, time.monotonic())
        with self._changed:
            self.refuse_full()
            self._waiting.append(one)
            self._records += len(asked)
            self._changed.notify()
        return await one.future

    def end(self) -> None:
        """End the thread once the batch under way is done; those that wait are not answered."""
        with self._changed:
            self._is_ended = True
            self._changed.notify()

    def _run(self) -> None:
        while not self._is_ended:
            batch = self._next()
            if not batch:
                continue
            self.on_batch(sum(len(one.asked) for one in batch))
            answers: list[Answer]
            try:
                answers = self._answer_fn([one.asked for one in batch])
            except Exception as error:  # the thread goes on whatever happens
                answers = [error] * len(batch)
            # One wake-up for all: each takes the interpreter from whoever has it
            for loop in {one.loop for one in batch}:
                with contextlib.suppress(RuntimeError):  # it has ended, and nobody waits any more
                    loop.call_soon_threadsafe(_resolve, loop, batch, answers)

    def _next(self) -> list[_Waiting]:
        """Wait for requests; [] at the end, or where all gave up."""
        with self._changed:
            while not self._waiting and not self._is_ended:
                self._changed.wait()
            if self._is_ended:
                return []
            until = self._waiting[0].since + self._delay_s
            while self._records < self._most_records:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left) or self._is_ended:
                    break
            return self._taken()

    def _taken(self) -> list[_Waiting]:
        """Take from the front what goes together; those that gave up are left out."""
        taken: list[_Waiting] = []
        count = 0
        while self._waiting:
            first = self._waiting[0]
            if taken and count + len(first.asked) > self._most_records:
                break
            self._waiting.popleft()
            self._records -= len(first.asked)
            if first.future.done():
                continue
            taken.append(first)
            count += len(first.asked)
        return taken


def _resolve(
    loop: asyncio.AbstractEventLoop, batch: Sequence[_Waiting], answers: Sequence[Answer]
) -> None:
    for one, answer in zip(batch, answers, strict=True):
        if one.loop is loop and not one.future.done():  # whoever asked may have given up
            one.future.set_result(answer)


__all__ = ["AnswerFn", "Batcher"]
