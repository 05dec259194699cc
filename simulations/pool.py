"""A pool of worker processes: what they are given, what becomes of it, and what replaces one that dies."""

import logging
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
from confide.records import Shapes
from confide.simulations.preload import CONTEXT, prepare_workers
from confide.simulations.shared import SharedBlock
from confide.simulations.workers import Brief, Done, SharedSum, Task, WorkerSpec, work

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 2.0
_MOST_ATTEMPTS = 3
_MOST_IN_HAND = 8
_IN_HAND_S = 0.02
"""Tasks are handed out ahead, but not more than this much work: the last ones of a round should be spread evenly."""


class Failed(NamedTuple):
    """A task that no worker survived."""

    task: Task


class PartialSum(NamedTuple):
    """What the workers added up.

    Attributes:
        total: int64, shape [d].
        weight: of the updates in it.
        lost: tasks that were reported done and whose update is in no sum.
    """

    total: Tensor
    weight: int
    lost: list[Task]


@dataclass
class _Summed:
    task: Task
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
        brief: what it was told last.
        in_hand: tasks given to it, oldest first.
        summed: tasks whose updates are in its sum.
    """

    number: int
    process: ForkServerProcess
    pipe: Connection
    sum: SharedSum
    ready: bool = False
    brief: Brief | None = None
    in_hand: deque[Task] = field(default_factory=deque)
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
        self._brief: Brief | None = None
        self._waiting: deque[Task] = deque()
        self._again: set[str] = set()
        self._attempts: dict[str, int] = {}
        self._salvaged: list[tuple[Tensor, int]] = []
        self._lost: list[Task] = []
        self._cut_off: list[Task] = []
        self._mean_s = 1.0
        self._failed_starts = 0
        prepare_workers()
        self._workers = [self._start(number) for number in range(count)]

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def begin(self, brief: Brief, tasks: Iterable[Task], *, prepare: Callable[[], None]) -> None:
        """Begin an exchange; whatever was left of the one before is dropped.

        Args:
            brief: what is asked.
            tasks: of whom.
            prepare: writes what workers will read, called when none of them is at work.

        Raises:
            RunFailedError: if the workers do not start.
        """
        self._again.clear()
        self._drop()
        self._brief = brief
        self._waiting.clear()
        self._again.clear()
        self._attempts.clear()
        self._salvaged.clear()
        self._lost.clear()
        for worker in self._workers:
            worker.summed.clear()
        self._wait_until_ready()
        prepare()
        self._waiting.extend(tasks)
        self._feed()

    def poll(self, timeout: float) -> list[Done | Failed]:
        """Return what was done since; wait at most ``timeout`` seconds for the first of it."""
        end = time.monotonic() + timeout
        while True:
            self._feed()
            found = self._look(max(0.0, end - time.monotonic()))
            if found or time.monotonic() >= end:
                return found

    def finish_sum(self, timeout: float) -> PartialSum:
        """Stop who is still busy, have done again what was lost with a worker, and add up.

        Args:
            timeout: seconds for what has to be done again.
        """
        self._drop()
        end = time.monotonic() + timeout
        if self._again:
            self._wait_until_ready()
        while self._again and time.monotonic() < end:
            self.poll(min(1.0, timeout))
        self._lost += [task for task in self._unfinished() if task.message_id in self._again]
        self._again.clear()
        self._drop()
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

    def take_cut_off(self) -> list[Task]:
        """Return tasks that workers were killed over since the last call: they may have been carried out in part."""
        taken, self._cut_off = self._cut_off, []
        return taken

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
        process = CONTEXT.Process(
            target=work, args=(number, self._spec, block, theirs), name=f"confide-worker-{number}", daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(number, process, ours, SharedSum(block, self._shapes))

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + _START_TIMEOUT_S
        while not all(worker.ready for worker in self._workers):
            if time.monotonic() >= end:
                raise RunFailedError(f"Worker processes were not ready within {_START_TIMEOUT_S:g} s.")
            self._look(1.0)

    def _feed(self) -> None:
        """Hand out tasks, to the worker with the fewest in hand first."""
        most = min(_MOST_IN_HAND, max(1, int(_IN_HAND_S / self._mean_s)))
        while self._waiting:
            free = [worker for worker in self._workers if worker.ready and len(worker.in_hand) < most]
            if not free:
                return
            worker = min(free, key=lambda w: len(w.in_hand))
            task = self._waiting.popleft()
            worker.in_hand.append(task)
            try:
                if worker.brief is not self._brief:
                    worker.brief = self._brief
                    worker.pipe.send(self._brief)
                worker.pipe.send(task)
            except OSError:  # it has died, which the next look finds
                return

    def _look(self, timeout: float) -> list[Done | Failed]:
        """Wait for a message or a death, and take in what there is."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        by_sentinel = {worker.process.sentinel: worker for worker in self._workers}
        ready = pipes.wait([*by_pipe, *by_sentinel], timeout)
        found: list[Done | Failed] = []
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

    def _read(self, worker: _Worker, dead: dict[int, _Worker]) -> list[Done | Failed]:
        found: list[Done | Failed] = []
        try:
            while worker.pipe.poll():
                message: Done | None = worker.pipe.recv()
                if message is None:
                    worker.ready, self._failed_starts = True, 0
                else:
                    found += self._take(worker, message)
        except (EOFError, OSError):
            dead[worker.number] = worker
        return found

    def _take(self, worker: _Worker, done: Done) -> list[Done | Failed]:
        task = worker.in_hand.popleft()
        self._mean_s += 0.1 * (done.seconds - self._mean_s)
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

    def _bury(self, worker: _Worker) -> list[Done | Failed]:
        """Replace a worker that died; what it had in hand or in its sum is done again."""
        failed: list[Done | Failed] = []
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
                raise RunFailedError(f"Worker processes end while starting (exit code {code}); their messages are on stderr.")
        if culprit is not None:
            self._attempts[culprit.message_id] = self._attempts.get(culprit.message_id, 0) + 1
            if self._attempts[culprit.message_id] >= _MOST_ATTEMPTS:
                worker.in_hand.popleft()
                if culprit.message_id in self._again:
                    self._again.discard(culprit.message_id)
                    self._lost.append(culprit)
                else:
                    failed.append(Failed(culprit))
        self._again |= {summed.task.message_id for summed in worker.summed}
        self._waiting.extendleft([*reversed(worker.in_hand), *(summed.task for summed in worker.summed)])
        self._replace(worker)
        return failed

    def _drop(self) -> None:
        """Forget tasks that nobody waits for any more, and kill who is busy with one.

        A killed worker's sum is kept if it holds what was reported and nothing else; otherwise that is done again.
        """
        kept = deque(task for task in self._waiting if task.message_id in self._again)
        for worker in self._workers:
            if all(task.message_id in self._again for task in worker.in_hand):
                continue
            _kill(worker.process)
            log.warning("Worker %d was still busy with %s and is replaced.", worker.number, worker.in_hand[0].client)
            if worker.summed and worker.sum.is_whole(len(worker.summed)):
                self._salvaged.append((worker.sum.total.clone(), sum(summed.weight for summed in worker.summed)))
            else:
                self._again |= {summed.task.message_id for summed in worker.summed}
                kept.extend(summed.task for summed in worker.summed)
            kept.extend(task for task in worker.in_hand if task.message_id in self._again)
            self._cut_off.extend(task for task in worker.in_hand if task.message_id not in self._again)
            self._replace(worker)
        self._waiting = kept

    def _unfinished(self) -> list[Task]:
        return [*self._waiting, *(task for worker in self._workers for task in worker.in_hand)]

    def _replace(self, worker: _Worker) -> None:
        worker.pipe.close()
        _kill(worker.process)
        self._workers[worker.number] = self._start(worker.number)


def _kill(process: ForkServerProcess) -> None:
    if process.is_alive():
        process.kill()
    process.join()


__all__ = ["Failed", "PartialSum", "WorkerPool"]
