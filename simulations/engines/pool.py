"""A pool of workers: hands out work items, replaces workers that die or stand still.

Of what kind they are is up to a :class:`~confide.simulations.engines.worker_handle.Workforce`.

What becomes of an item is in :mod:`~confide.simulations.engines.work_states`.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from confide.errors import RunFailedError
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import num_values
from confide.server.rounds.collect import PartialSum
from confide.simulations.engines.pace import Pace
from confide.simulations.engines.work_states import MOST_DEATHS, Stage, TrackedItem
from confide.simulations.engines.worker import RoundSpec, WorkItem, WorkResult
from confide.simulations.engines.worker_handle import WeightedSum, WorkerHandle, Workforce, add_up

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 2.0


class Failed(NamedTuple):
    """An item that no worker survived."""

    item: WorkItem


class WorkerPool:
    """Workers that carry out items, in any order.

    Args:
        workforce: how they are started and reached.
        count: how many.
    """

    def __init__(self, workforce: Workforce, *, count: int) -> None:
        self._workforce = workforce
        self._round_spec: RoundSpec | None = None
        self._tracked: list[TrackedItem] = []
        self._waiting: deque[TrackedItem] = deque()
        self._salvaged: list[WeightedSum] = []
        self._deadline_s = math.inf
        self._pace = Pace(workforce.ahead)
        self._failed_starts = 0
        self._is_complete = False
        self._workers = [self._start(number) for number in range(count)]

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return self._workforce.pids

    def begin(
        self, round_spec: RoundSpec, items: Iterable[WorkItem], *, params: Tensor | None
    ) -> None:
        """Begin an exchange; what is left of a stopped one is forgotten.

        Args:
            round_spec: what is asked.
            items: of whom.
            params: float32, shape [d], the question's tensors; None if it has none.

        Raises:
            RunFailedError: if the workers do not start.
        """
        self._waiting.clear()
        self._salvaged.clear()
        for worker in self._workers:
            worker.summed.clear()
        self._round_spec = round_spec
        self._deadline_s = TrainingPlan.from_json(round_spec.plan).deadline_s
        self._wait_until_ready()
        self._workforce.publish(round_spec, params)
        self._tracked = [TrackedItem(item) for item in items]
        self._waiting.extend(self._tracked)
        self._feed()

    def poll(self, timeout: float) -> list[WorkResult | Failed]:
        """Return what was done since; wait at most ``timeout`` seconds for the first of it."""
        end = time.monotonic() + timeout
        while True:
            self._unblock()
            self._feed()
            found = self._look(max(0.0, end - time.monotonic()))
            if found or time.monotonic() >= end:
                return found

    def settle(self, timeout: float) -> None:
        """Let workers end what they have in hand, which nobody waits for, and begin no more.

        Args:
            timeout: seconds; whoever is busy then is left to :meth:`stop`.
        """
        self._waiting.clear()
        end = time.monotonic() + timeout
        while any(worker.in_hand for worker in self._workers) and time.monotonic() < end:
            self._look(max(0.0, end - time.monotonic()))

    def stop(self) -> list[WorkItem]:
        """Kill who is busy with an item that nobody waits for any more, and forget such items.

        A killed worker's sum is kept if it holds what was reported and nothing else; otherwise that
        is done again.

        Returns:
            The items that had been begun.
        """
        begun: list[WorkItem] = []
        kept = deque(one for one in self._waiting if one.is_redone)
        for worker in self._workers:
            # What is redone for the sum is still waited for, by `finish_sum`
            redone = [one for one in worker.in_hand if one.is_redone]
            if len(redone) == len(worker.in_hand):
                continue
            client = worker.in_hand[0].item.client
            log.warning("Worker %d was still busy with %s and is replaced.", worker.number, client)
            self._workforce.end(worker.number)  # first: until then it may begin another item
            count = self._workforce.begun(worker.number)
            begun += [one.item for one in worker.begun(count) if not one.is_redone]
            kept.extend([*self._retire(worker), *redone])
        self._waiting = kept
        return begun

    def finish_sum(self, timeout: float) -> PartialSum:
        """Have done again what was lost with a worker, and add up; after :meth:`stop`.

        Args:
            timeout: seconds for what has to be done again.
        """
        end = time.monotonic() + timeout
        if self._redone():
            self._wait_until_ready()
        while self._redone() and time.monotonic() < end:
            self.poll(min(1.0, timeout))
        for one in self._redone():
            one.give_up()
        self.stop()  # who is still at it has no time left, and must not write while we add up
        for one in self._redone():  # their sum was lost while others were stopped
            one.give_up()
        rule = self._round_spec.sum_rule if self._round_spec else None
        length = num_values(rule.shapes) if rule else 0
        parts = [part for worker in self._workers if (part := self._part(worker)) is not None]
        total, weight = add_up([*self._salvaged, *parts], num_values=length)
        lost = [one.item.client for one in self._tracked if one.stage is Stage.LOST]
        return PartialSum(total, weight, dict.fromkeys(lost, Refusal.WORKER_LOST))

    def _redone(self) -> list[TrackedItem]:
        return [one for one in self._tracked if one.is_redone]

    def _part(self, worker: WorkerHandle) -> WeightedSum | None:
        """Return a worker's sum if that holds what was reported and nothing else."""
        if not worker.summed:
            return None
        total = self._workforce.total(worker.number, len(worker.summed))
        weight = sum(one.weight for one in worker.summed)
        return None if total is None else WeightedSum(total, weight)

    def close(self) -> None:
        """End every worker."""
        self._workforce.close()

    def _start(self, number: int) -> WorkerHandle:
        self._workforce.start(number)
        return WorkerHandle(number=number)

    def _wait_until_ready(self) -> None:
        """Wait for all workers at first; later on for one, which others join as they get ready."""
        end = time.monotonic() + _START_TIMEOUT_S
        while not all(worker.ready for worker in self._workers):
            is_any = any(worker.ready for worker in self._workers)
            if is_any and self._is_complete:
                break
            if time.monotonic() >= end:
                if is_any:
                    log.warning("Not every worker is ready after %g s.", _START_TIMEOUT_S)
                    break
                raise RunFailedError(f"No worker was ready within {_START_TIMEOUT_S:g} s.")
            self._look(1.0)
        self._is_complete = True

    def _unblock(self) -> None:
        """Take an item from a worker that it has kept for very long, if anybody waits.

        The item is done last, and alone. The worker may be stuck rather than the client, so the
        item is retried even if only idle workers are waiting.
        """
        if self._round_spec is None:
            return
        kind = self._round_spec.kind
        for worker in self._workers:
            oldest = worker.oldest
            if not oldest or oldest[0].is_alone:
                continue
            limit = self._pace.patience_s(kind, items=len(oldest), deadline_s=self._deadline_s)
            if time.monotonic() - worker.since < limit:
                continue
            is_awaited = len(worker.in_hand) > len(oldest) or any(
                other.is_idle for other in self._workers
            )
            if not self._waiting and not is_awaited:
                continue
            slow = worker.take_back()
            log.warning(
                "Worker %d has been at %s for long; it goes on with the others first.",
                worker.number,
                _named(slow),
            )
            for one in slow:
                one.is_alone = True
            self._replace(worker)
            self._waiting.extend(slow)

    def _feed(self) -> None:
        """Hand out items, to the worker with the fewest in hand first."""
        if self._round_spec is None:
            return
        most = self._pace.most_batches(self._round_spec.kind)
        while self._waiting:
            limit = 1 if self._waiting[0].is_alone else most
            free = [worker for worker in self._workers if worker.has_room(limit)]
            if not free:
                return
            worker, batch = min(free, key=lambda one: len(one.in_hand)), self._next_batch()
            worker.give(batch)
            try:
                self._workforce.send(worker.number, [one.item for one in batch])
            except OSError:  # it has died, which the next look finds
                return

    def _next_batch(self) -> list[TrackedItem]:
        """Take the items of one message from the queue."""
        assert self._round_spec is not None
        batch = [self._waiting.popleft()]
        if not batch[0].is_alone:
            ready = sum(worker.ready for worker in self._workers)
            size = self._pace.batch(
                self._round_spec.kind, waiting=len(self._waiting), workers=max(1, ready)
            )
            while self._waiting and len(batch) < size and not self._waiting[0].is_alone:
                batch.append(self._waiting.popleft())
        return batch

    def _look(self, timeout: float) -> list[WorkResult | Failed]:
        """Wait for a message or a death, and take in what there is."""
        found: list[WorkResult | Failed] = []
        heard, ended = self._workforce.wait(timeout)
        for worker in (self._workers[number] for number in heard):
            said = self._workforce.read(worker.number)
            for result in said.results:
                if self._round_spec is not None:
                    self._pace.note(self._round_spec.kind, result.seconds)
                for name, level, text in result.logs:  # a worker has no log file of its own
                    logging.getLogger(name).log(level, "%s", text)
                # An item that is redone for the sum was reported before: its reply is no news
                if worker.take(result).report(result.weight):
                    found.append(result)
            if said.is_ready and not worker.ready:
                worker.ready = True
                self._failed_starts = 0
            if not said.is_alive and worker.number not in ended:
                ended.append(worker.number)
        for number in ended:
            found += self._bury(self._workers[number])
        return found

    def _bury(self, worker: WorkerHandle) -> list[WorkResult | Failed]:
        """Replace a worker that died; what it had in hand is done again."""
        culprits = worker.oldest
        # With patience: a pipe may close before its process is gone
        how = self._workforce.end(worker.number, _STOP_TIMEOUT_S)
        log.warning(
            "Worker %d died (%s)%s; it is replaced and its clients run again.",
            worker.number,
            how,
            f" while {_named(culprits)} was at work" if culprits else "",
        )
        # A worker that dies at work is its item's fault; one that never got ready dies of the
        # config or the machine, and so would each replacement, for ever
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_DEATHS * len(self._workers):
                raise RunFailedError(
                    f"Workers end while starting ({how}); their messages are on stderr."
                )
        failed: list[WorkResult | Failed] = []
        again = []
        for culprit in worker.take_back():
            culprit.is_alone |= len(culprits) > 1  # which of them it was shows when each goes alone
            if culprit.survive_death():
                again.append(culprit)
            elif culprit.stage is Stage.FAILED:
                failed.append(Failed(culprit.item))
        self._replace(worker)
        self._waiting.extendleft(reversed(again))
        return failed

    def _replace(self, worker: WorkerHandle) -> None:
        """Start another worker in this one's place; what it left goes to the head of the queue."""
        # `extendleft` turns the order round
        rest = list(worker.in_hand)
        self._waiting.extendleft(reversed([*self._retire(worker), *rest]))

    def _retire(self, worker: WorkerHandle) -> list[TrackedItem]:
        """Start another worker in this one's place, and keep its sum if that can be trusted.

        Returns:
            What was in a sum that cannot, to be done again.
        """
        self._workforce.end(worker.number)
        part = self._part(worker)
        redone = list(worker.summed) if part is None else []
        for one in redone:
            one.lose_sum()
        if part is not None:  # a copy: the replacement sums in the same block
            self._salvaged.append(part._replace(total=part.total.clone()))
        self._workers[worker.number] = self._start(worker.number)
        return redone


def _named(items: list[TrackedItem]) -> str:
    others = len(items) - 1
    return items[0].item.client + (f" or one of {others} others" if others else "")


__all__ = ["Failed", "WorkerPool"]
