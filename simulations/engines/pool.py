"""A pool of worker processes: what they are given, what becomes of it, and what replaces one that dies."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing import connection as pipes
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import NamedTuple

import torch
from torch import Tensor

from confide.errors import RunFailedError
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Shapes
from confide.simulations.engines.preload import CONTEXT, prepare_workers
from confide.simulations.engines.shared_memory import SharedBlock
from confide.simulations.engines.worker import (
    RoundSpec,
    SharedSum,
    WorkerSpec,
    WorkItem,
    WorkResult,
    work,
)

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 2.0
_MOST_ATTEMPTS = 3
_MOST_IN_HAND = 8
_IN_HAND_S = 0.02
"""Tasks are handed out ahead, but not more than this much work: the last ones of a round should be
spread evenly."""
_PATIENCE_S, _PATIENCE = 2.0, 50.0
"""Others do not wait behind a task that takes longer than so many seconds, and so many times the
mean."""
_SHARE_OF_DEADLINE = 0.25


class Failed(NamedTuple):
    """A task that no worker survived."""

    task: WorkItem


class PartialSum(NamedTuple):
    """What the workers added up.

    Attributes:
        total: int64, shape [d].
        weight: of the updates in it.
        lost: tasks that were reported done and whose update is in no sum.
    """

    total: Tensor
    weight: int
    lost: list[WorkItem]


@dataclass
class _Summed:
    task: WorkItem
    weight: int


@dataclass
class _Worker:
    """One process, seen from outside.

    Attributes:
        number: its place; a replacement takes the same.
        process: the process.
        pipe: to it.
        sum: its partial sum.
        ready: whether its model is built.
        round_spec: what it was told last.
        in_hand: tasks given to it, oldest first.
        since: when it came to the oldest of them.
        done: tasks done since it was started.
        summed: tasks whose updates are in its sum.
    """

    number: int
    process: ForkServerProcess
    pipe: Connection
    sum: SharedSum
    ready: bool = False
    round_spec: RoundSpec | None = None
    in_hand: deque[WorkItem] = field(default_factory=deque)
    since: float = 0.0
    done: int = 0
    summed: list[_Summed] = field(default_factory=list)


class WorkerPool:
    """Workers that carry out tasks, in any order.

    Args:
        spec: what they have in common.
        shapes: of the trainable tensors.
        count: how many.
    """

    def __init__(self, spec: WorkerSpec, *, shapes: Shapes, count: int) -> None:
        self._spec = spec
        self._shapes = shapes
        self._num_values = spec.params.size // 4
        self._blocks = [SharedBlock(SharedSum.size(self._num_values)) for _ in range(count)]
        self._round_spec: RoundSpec | None = None
        self._waiting: deque[WorkItem] = deque()
        self._again: set[str] = set()
        self._attempts: dict[str, int] = {}
        self._salvaged: list[tuple[Tensor, int]] = []
        self._lost: list[WorkItem] = []
        self._slow: set[str] = set()
        self._deadline_s = math.inf
        self._means_s: dict[str, float] = {}
        self._failed_starts = 0
        prepare_workers()
        self._workers = [self._start(number) for number in range(count)]

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def begin(
        self, round_spec: RoundSpec, tasks: Iterable[WorkItem], *, prepare: Callable[[], None]
    ) -> None:
        """Begin an exchange; what was left of the one before, which was stopped, is forgotten.

        Args:
            round_spec: what is asked.
            tasks: of whom.
            prepare: writes what workers will read, called when none of them is at work.

        Raises:
            RunFailedError: if the workers do not start.
        """
        for left in (
            self._again,
            self._waiting,
            self._attempts,
            self._salvaged,
            self._lost,
            self._slow,
        ):
            left.clear()
        for worker in self._workers:
            worker.summed.clear()
        self._round_spec = round_spec
        self._deadline_s = TrainingPlan.from_json(round_spec.plan).deadline_s
        self._wait_until_ready()
        prepare()
        self._waiting.extend(tasks)
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
        """Kill who is busy with a task that nobody waits for any more, and forget such tasks.

        A killed worker's sum is kept if it holds what was reported and nothing else; otherwise that
        is done again.

        Returns:
            The tasks that had been begun.
        """
        begun: list[WorkItem] = []
        kept = deque(task for task in self._waiting if task.message_id in self._again)
        for worker in self._workers:
            mine = [task for task in worker.in_hand if task.message_id in self._again]
            if len(mine) == len(worker.in_hand):
                continue
            log.warning(
                "Worker %d was still busy with %s and is replaced.",
                worker.number,
                worker.in_hand[0].client,
            )
            _kill(worker.process)
            started = list(worker.in_hand)[: max(0, worker.sum.begun - worker.done)]
            begun += [task for task in started if task.message_id not in self._again]
            kept.extend([*self._retire(worker), *mine])
        self._waiting = kept
        return begun

    def finish_sum(self, timeout: float) -> PartialSum:
        """Have done again what was lost with a worker, and add up; after :meth:`stop`.

        Args:
            timeout: seconds for what has to be done again.
        """
        end = time.monotonic() + timeout
        if self._again:
            self._wait_until_ready()
        while self._again and time.monotonic() < end:
            self.poll(min(1.0, timeout))
        self._lost += [task for task in self._unfinished() if task.message_id in self._again]
        self._again.clear()
        self.stop()
        self._lost += self._waiting
        total, weight = torch.zeros(self._num_values, dtype=torch.int64), 0
        for part, part_weight in self._salvaged:
            total += part
            weight += part_weight
        for worker in self._workers:
            if worker.summed:
                total += worker.sum.total
                weight += sum(summed.weight for summed in worker.summed)
        return PartialSum(total, weight, list(self._lost))

    def close(self) -> None:
        """End every worker."""
        for worker in self._workers:
            worker.pipe.close()
        end = time.monotonic() + _STOP_TIMEOUT_S
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            _kill(worker.process)

    def _start(self, number: int) -> _Worker:
        ours, theirs = CONTEXT.Pipe()
        block = self._blocks[number]
        partial = SharedSum(block, self._shapes)
        partial.begun = 0
        process = CONTEXT.Process(
            target=work,
            args=(number, self._spec, block, theirs),
            name=f"confide-worker-{number}",
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(number, process, ours, partial)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + _START_TIMEOUT_S
        while not all(worker.ready for worker in self._workers):
            if time.monotonic() >= end:
                raise RunFailedError(
                    f"Worker processes were not ready within {_START_TIMEOUT_S:g} s."
                )
            self._look(1.0)

    def _unblock(self) -> None:
        """Take a worker from a task that has kept it for very long, if anybody waits.

        That one is done last, and alone.

        It is the worker that may stand still and not the client: a task behind which only idle
        workers wait is done again too.
        """
        limit = self._patience_s()
        for worker in self._workers:
            head = worker.in_hand[0] if worker.in_hand else None
            if (
                head is None
                or head.message_id in self._slow
                or time.monotonic() - worker.since < limit
            ):
                continue
            if (
                len(worker.in_hand) > 1
                or self._waiting
                or any(other.ready and not other.in_hand for other in self._workers)
            ):
                log.warning(
                    "Worker %d has been at %s for long; it goes on with the others first.",
                    worker.number,
                    head.client,
                )
                self._slow.add(head.message_id)
                worker.in_hand.popleft()
                rest = list(worker.in_hand)
                self._waiting.extendleft(reversed([*self._retire(worker), *rest]))
                self._waiting.append(head)

    def _patience_s(self) -> float:
        """Return how long others wait behind one task."""
        share = _SHARE_OF_DEADLINE * self._deadline_s
        mean = None if self._round_spec is None else self._means_s.get(self._round_spec.kind)
        return share if mean is None else min(share, max(_PATIENCE_S, _PATIENCE * mean))

    def _feed(self) -> None:
        """Hand out tasks, to the worker with the fewest in hand first."""
        if self._round_spec is None:
            return
        mean = self._means_s.get(self._round_spec.kind, _IN_HAND_S)
        most = min(_MOST_IN_HAND, max(1, int(_IN_HAND_S / max(mean, 1e-6))))
        while self._waiting:
            limit = 1 if self._waiting[0].message_id in self._slow else most
            free = [
                w
                for w in self._workers
                if w.ready and len(w.in_hand) < limit and not self._is_slow(w)
            ]
            if not free:
                return
            worker = min(free, key=lambda w: len(w.in_hand))
            if not worker.in_hand:
                worker.since = time.monotonic()
            worker.in_hand.append(self._waiting.popleft())
            try:
                if worker.round_spec is not self._round_spec:
                    worker.round_spec = self._round_spec
                    worker.pipe.send(self._round_spec)
                worker.pipe.send(worker.in_hand[-1])
            except OSError:  # it has died, which the next look finds
                return

    def _is_slow(self, worker: _Worker) -> bool:
        return any(task.message_id in self._slow for task in worker.in_hand)

    def _look(self, timeout: float) -> list[WorkResult | Failed]:
        """Wait for a message or a death, and take in what there is."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        by_sentinel = {worker.process.sentinel: worker for worker in self._workers}
        ready = pipes.wait([*by_pipe, *by_sentinel], timeout)
        found: list[WorkResult | Failed] = []
        dead: dict[int, _Worker] = {}
        for one in ready:
            if isinstance(one, int):
                dead[by_sentinel[one].number] = by_sentinel[one]
            elif isinstance(one, Connection):
                worker = by_pipe[one]
                found += self._read(worker, dead)
        for worker in dead.values():
            found += self._bury(worker)
        return found

    def _read(self, worker: _Worker, dead: dict[int, _Worker]) -> list[WorkResult | Failed]:
        found: list[WorkResult | Failed] = []
        try:
            while worker.pipe.poll():
                message: WorkResult | None = worker.pipe.recv()
                if message is None:
                    worker.ready, self._failed_starts = True, 0
                else:
                    found += self._take(worker, message)
        except (EOFError, OSError):
            dead[worker.number] = worker
        return found

    def _take(self, worker: _Worker, done: WorkResult) -> list[WorkResult | Failed]:
        task = worker.in_hand.popleft()
        worker.since, worker.done = time.monotonic(), worker.done + 1
        if self._round_spec is not None:
            mean = self._means_s.get(self._round_spec.kind, done.seconds)
            self._means_s[self._round_spec.kind] = mean + 0.1 * (done.seconds - mean)
        for name, level, text in done.logs:
            logging.getLogger(name).log(level, "%s", text)
        if done.weight:
            worker.summed.append(_Summed(task, done.weight))
        if done.message_id in self._again:
            self._again.discard(done.message_id)
            if not done.weight:
                self._lost.append(task)
            return []
        return [done]

    def _bury(self, worker: _Worker) -> list[WorkResult | Failed]:
        """Replace a worker that died; what it had in hand is done again."""
        failed: list[WorkResult | Failed] = []
        culprit = worker.in_hand[0] if worker.in_hand else None
        worker.process.join(_STOP_TIMEOUT_S)
        code = worker.process.exitcode
        log.warning(
            "Worker %d died (exit code %s)%s; it is replaced and its clients run again.",
            worker.number,
            code,
            f" while {culprit.client} was at work" if culprit else "",
        )
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_ATTEMPTS * len(self._workers):
                raise RunFailedError(
                    f"Worker processes end while starting (exit code {code}); their messages are on"
                    " stderr."
                )
        if culprit is not None:
            self._attempts[culprit.message_id] = self._attempts.get(culprit.message_id, 0) + 1
            if self._attempts[culprit.message_id] >= _MOST_ATTEMPTS:
                worker.in_hand.popleft()
                if culprit.message_id in self._again:
                    self._again.discard(culprit.message_id)
                    self._lost.append(culprit)
                else:
                    failed.append(Failed(culprit))
        rest = list(worker.in_hand)
        self._waiting.extendleft(reversed([*self._retire(worker), *rest]))
        return failed

    def _retire(self, worker: _Worker) -> list[WorkItem]:
        """Replace a worker and keep its sum if it holds what was reported and nothing else.

        Return what is to be done again.
        """
        _kill(worker.process)
        again: list[WorkItem] = []
        if worker.summed and worker.sum.is_whole(len(worker.summed)):
            self._salvaged.append(
                (worker.sum.total.clone(), sum(summed.weight for summed in worker.summed))
            )
        else:
            again = [summed.task for summed in worker.summed]
            self._again |= {task.message_id for task in again}
        worker.pipe.close()
        self._workers[worker.number] = self._start(worker.number)
        return again

    def _unfinished(self) -> list[WorkItem]:
        return [*self._waiting, *(task for worker in self._workers for task in worker.in_hand)]


def _kill(process: ForkServerProcess) -> None:
    if process.is_alive():
        process.kill()
    process.join()


__all__ = ["Failed", "PartialSum", "WorkerPool"]
