"""A pool of worker processes: hands out work items, replaces workers that die or stand still.

What becomes of an item is in :mod:`~confide.simulations.engines.work_states`.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from confide.errors import RunFailedError
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.protocol.tensors import num_values
from confide.server.rounds.collect import PartialSum
from confide.simulations.engines.pace import Pace
from confide.simulations.engines.preload import prepare_workers
from confide.simulations.engines.shared_memory import SharedBlock
from confide.simulations.engines.work_states import MOST_DEATHS, Stage, TrackedItem
from confide.simulations.engines.worker import (
    RoundSpec,
    SharedSum,
    WorkerSpec,
    WorkItem,
    WorkResult,
)
from confide.simulations.engines.worker_handle import (
    WeightedSum,
    WorkerHandle,
    add_up,
    start_worker,
    wait_for,
)

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 2.0


class Failed(NamedTuple):
    """An item that no worker survived."""

    item: WorkItem


class WorkerPool:
    """Workers that carry out items, in any order.

    Args:
        spec: what they have in common.
        largest_sum: number of values in the longest sum.
        count: how many.
    """

    def __init__(self, spec: WorkerSpec, *, largest_sum: int, count: int) -> None:
        self._spec = spec
        self._blocks = [SharedBlock(SharedSum.size(largest_sum)) for _ in range(count)]
        self._round_spec: RoundSpec | None = None
        self._tracked: list[TrackedItem] = []
        self._waiting: deque[TrackedItem] = deque()
        self._salvaged: list[WeightedSum] = []
        self._deadline_s = math.inf
        self._pace = Pace()
        self._failed_starts = 0
        prepare_workers()  # what is to be imported can only be said before its server runs
        self._workers = [self._start(number) for number in range(count)]

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def begin(
        self, round_spec: RoundSpec, items: Iterable[WorkItem], *, prepare: Callable[[], None]
    ) -> None:
        """Begin an exchange; what is left of a stopped one is forgotten.

        Args:
            round_spec: what is asked.
            items: of whom.
            prepare: writes what workers will read, called when none of them is at work.

        Raises:
            RunFailedError: if the workers do not start.
        """
        self._waiting.clear()
        self._salvaged.clear()
        for worker in self._workers:
            worker.summed.clear()
        self._round_spec = round_spec
        self._deadline_s = TrainingPlan.from_json(round_spec.plan).deadline_s
        self._wait_until_ready()  # so that nobody reads what is about to be written
        prepare()
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
            worker.kill()  # first: until then it may begin another item
            begun += [one.item for one in worker.begun() if not one.is_redone]
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
        parts = [part for worker in self._workers if (part := worker.part()) is not None]
        total, weight = add_up([*self._salvaged, *parts], num_values=length)
        lost = [one.item.client for one in self._tracked if one.stage is Stage.LOST]
        return PartialSum(total, weight, dict.fromkeys(lost, Refusal.WORKER_LOST))

    def _redone(self) -> list[TrackedItem]:
        return [one for one in self._tracked if one.is_redone]

    def close(self) -> None:
        """End every worker."""
        for worker in self._workers:
            worker.pipe.close()  # a worker ends by itself when its pipe closes
        # One patience for all of them: they end at the same time
        end = time.monotonic() + _STOP_TIMEOUT_S
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            worker.kill()

    def _start(self, number: int) -> WorkerHandle:
        return start_worker(number, self._spec, block=self._blocks[number])

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + _START_TIMEOUT_S
        while not all(worker.ready for worker in self._workers):
            if time.monotonic() >= end:
                raise RunFailedError(
                    f"Worker processes were not ready within {_START_TIMEOUT_S:g} s."
                )
            self._look(1.0)

    def _unblock(self) -> None:
        """Take an item from a worker that it has kept for very long, if anybody waits.

        The item is done last, and alone. The worker may be stuck rather than the client, so the
        item is retried even if only idle workers are waiting.
        """
        if self._round_spec is None:
            return
        limit = self._pace.patience_s(self._round_spec.kind, deadline_s=self._deadline_s)
        for worker in self._workers:
            if not worker.in_hand or worker.in_hand[0].is_slow:
                continue
            if time.monotonic() - worker.since < limit:
                continue
            is_awaited = len(worker.in_hand) > 1 or any(other.is_idle for other in self._workers)
            if not self._waiting and not is_awaited:
                continue
            slow = worker.in_hand.popleft()
            log.warning(
                "Worker %d has been at %s for long; it goes on with the others first.",
                worker.number,
                slow.item.client,
            )
            slow.is_slow = True
            self._replace(worker)
            self._waiting.append(slow)

    def _feed(self) -> None:
        """Hand out items, to the worker with the fewest in hand first."""
        if self._round_spec is None:
            return
        most = self._pace.most_in_hand(self._round_spec.kind)
        while self._waiting:
            limit = 1 if self._waiting[0].is_slow else most
            free = [worker for worker in self._workers if worker.has_room(limit)]
            if not free:
                return
            worker = min(free, key=lambda one: len(one.in_hand))
            try:
                worker.send(self._waiting.popleft(), self._round_spec)
            except OSError:  # it has died, which the next look finds
                return

    def _look(self, timeout: float) -> list[WorkResult | Failed]:
        """Wait for a message or a death, and take in what there is."""
        found: list[WorkResult | Failed] = []
        readable, ended = wait_for(self._workers, timeout)
        for worker in readable:
            was_ready = worker.ready
            results, is_alive = worker.read()
            for result in results:
                if self._round_spec is not None:
                    self._pace.note(self._round_spec.kind, result.seconds)
                for name, level, text in result.logs:  # a worker has no log file of its own
                    logging.getLogger(name).log(level, "%s", text)
                # An item that is redone for the sum was reported before: its reply is no news
                if worker.take(result).report(result.weight):
                    found.append(result)
            if worker.ready and not was_ready:
                self._failed_starts = 0
            if not is_alive and worker not in ended:
                ended.append(worker)
        for worker in ended:
            found += self._bury(worker)
        return found

    def _bury(self, worker: WorkerHandle) -> list[WorkResult | Failed]:
        """Replace a worker that died; what it had in hand is done again."""
        culprit = worker.in_hand[0] if worker.in_hand else None
        worker.process.join(_STOP_TIMEOUT_S)  # the pipe may close before the process is gone
        code = worker.process.exitcode
        log.warning(
            "Worker %d died (exit code %s)%s; it is replaced and its clients run again.",
            worker.number,
            code,
            f" while {culprit.item.client} was at work" if culprit else "",
        )
        # A worker that dies at work is its item's fault; one that never got ready dies of the
        # config or the machine, and so would each replacement, for ever
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_DEATHS * len(self._workers):
                raise RunFailedError(
                    f"Worker processes end while starting (exit code {code}); their messages are on"
                    " stderr."
                )
        failed: list[WorkResult | Failed] = []
        if culprit is not None and not culprit.survive_death():
            worker.in_hand.popleft()
            if culprit.stage is Stage.FAILED:
                failed.append(Failed(culprit.item))
        self._replace(worker)
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
        worker.kill()
        part = worker.part()
        redone = list(worker.summed) if part is None else []
        for one in redone:
            one.lose_sum()
        if part is not None:  # a copy: the replacement sums in the same block
            self._salvaged.append(part._replace(total=part.total.clone()))
        worker.pipe.close()
        self._workers[worker.number] = self._start(worker.number)
        return redone


__all__ = ["Failed", "WorkerPool"]
