"""Workers that are processes of this machine.

Records, global tensors and partial sums lie in memory that they share with the coordinator's
process; only small messages go through pipes.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection as pipes
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

import torch
from torch import Tensor

from confide.client.training.trainer import Trainer
from confide.flower.messages import task_identity
from confide.protocol.codecs.travel import PLAIN, travel_of
from confide.protocol.tensors import BYTES_PER_VALUE, num_values, shapes_of
from confide.simulations.engines.pace import Ahead
from confide.simulations.engines.pool import WorkerPool
from confide.simulations.engines.pool_engine import PoolEngine
from confide.simulations.engines.preload import CONTEXT, prepare_workers
from confide.simulations.engines.shared_memory import SharedBlock, SharedRecords
from confide.simulations.engines.worker import (
    RoundSpec,
    SharedSum,
    Worker,
    WorkItem,
    WorkResult,
)
from confide.simulations.engines.worker_handle import Heard
from confide.simulations.institutions import Setup
from confide.strategies.parts import build_algorithm

_STOP_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What all workers have in common.

    Attributes:
        make_trainer: number of the worker -> its trainer, on its device.
        setup: of the institutions.
        num_threads: of torch.
        records: of all institutions.
        params: float32, the global tensors.
    """

    make_trainer: Callable[[int], Trainer]
    setup: Setup
    num_threads: int
    records: SharedRecords
    params: SharedBlock

    def values(self) -> Tensor:
        """Return the shared memory of the global tensors, float32, shape [d]."""
        return self.params.tensor(torch.float32, (self.params.size // BYTES_PER_VALUE,))


def work(number: int, spec: WorkerSpec, sum_block: SharedBlock, pipe: Connection) -> None:
    """Answer work items until the pipe closes.

    Args:
        number: of this worker, from 0.
        spec: common to all.
        sum_block: this worker's part of a sum: three int64 counters, then int64 of shape [d].
        pipe: to the coordinator's process.
    """
    # The coordinator's process decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(spec.num_threads)
    worker = Worker(
        spec.make_trainer(number),
        spec.setup,
        records=spec.records,
        partial_sum=SharedSum(sum_block),
    )
    params = spec.values()
    # A closed pipe means that nobody waits any more.
    with task_identity(), contextlib.suppress(EOFError, ConnectionError):
        pipe.send(None)  # ready
        while True:
            message: RoundSpec | WorkItem = pipe.recv()
            if isinstance(message, RoundSpec):
                worker.begin(message, params)
            else:
                pipe.send(worker.answer(message))


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    pipes.wait([parent.sentinel])
    os._exit(1)  # at once: nobody is left to hand anything to


@dataclass(kw_only=True)
class _Process:
    """A worker process and the pipe to it.

    Attributes:
        process: the process.
        pipe: to it.
        sum: its partial sum.
        is_ready: whether its model is built.
        round_spec: the last one it was sent.
    """

    process: ForkServerProcess
    pipe: Connection
    sum: SharedSum
    is_ready: bool = False
    round_spec: RoundSpec | None = None


class Processes:
    """Worker processes; a :class:`~confide.simulations.engines.worker_handle.Workforce`.

    Args:
        spec: what they have in common.
        largest_sum: number of values in the longest sum.
        count: how many.
    """

    ahead = Ahead(seconds=0.02, most_batches=8, most_items=1)  # a pipe is as quick for one item

    def __init__(self, spec: WorkerSpec, *, largest_sum: int, count: int) -> None:
        self._spec = spec
        self._params = spec.values()
        self._blocks = [SharedBlock(SharedSum.size(largest_sum)) for _ in range(count)]
        self._round_spec: RoundSpec | None = None
        self._there: dict[int, _Process] = {}
        prepare_workers()  # what is to be imported can only be said before its server runs

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [one.process.pid or 0 for _, one in sorted(self._there.items())]

    def publish(self, round_spec: RoundSpec, params: Tensor | None) -> None:
        """Write a question's tensors into shared memory; its description goes with its items."""
        self._round_spec = round_spec
        if params is not None:
            self._params[: len(params)].copy_(params)

    def start(self, number: int) -> None:
        """Start a worker process."""
        ours, theirs = CONTEXT.Pipe()
        block = self._blocks[number]
        partial = SharedSum(block)
        partial.begun = 0  # the block may have been that of a worker that died
        process = CONTEXT.Process(
            target=work,
            args=(number, self._spec, block, theirs),
            name=f"confide-worker-{number}",
            daemon=True,
        )
        process.start()
        theirs.close()  # else this process would keep the pipe open when the worker is gone
        self._there[number] = _Process(process=process, pipe=ours, sum=partial)

    def send(self, number: int, items: Sequence[WorkItem]) -> None:
        """Send items, after the description of their round if that is new."""
        one = self._there[number]
        if one.round_spec is not self._round_spec:
            one.round_spec = self._round_spec
            one.pipe.send(self._round_spec)
        for item in items:
            one.pipe.send(item)

    def wait(self, timeout: float) -> tuple[list[int], list[int]]:
        """Wait for a message or a death."""
        by_pipe = {one.pipe: number for number, one in self._there.items()}
        by_sentinel = {one.process.sentinel: number for number, one in self._there.items()}
        ready = pipes.wait([*by_pipe, *by_sentinel], timeout)
        heard = [by_pipe[one] for one in ready if isinstance(one, Connection)]
        return heard, [by_sentinel[one] for one in ready if isinstance(one, int)]

    def read(self, number: int) -> Heard:
        """Return the results that a worker sent, and whether its process is still there."""
        one, results = self._there[number], []
        try:
            while one.pipe.poll():
                message: WorkResult | None = one.pipe.recv()
                if message is None:
                    one.is_ready = True
                else:
                    results.append(message)
        except (EOFError, OSError):  # what it sent before its end counts
            return Heard(results, one.is_ready, False)
        return Heard(results, one.is_ready, True)

    def begun(self, number: int) -> int:
        """Return how many items a worker has begun, which outlives it."""
        return self._there[number].sum.begun

    def total(self, number: int, updates: int) -> Tensor | None:
        """Return a worker's sum, which outlives it, if it is whole."""
        partial = self._there[number].sum
        return partial.total if partial.is_whole(updates) else None

    def end(self, number: int, patience_s: float = 0.0) -> str:
        """Kill a worker that has not ended by itself after a patience."""
        one = self._there[number]
        one.process.join(patience_s)
        if one.process.is_alive():
            one.process.kill()
        one.process.join()
        one.pipe.close()
        return f"exit code {one.process.exitcode}"

    def close(self) -> None:
        """End every worker."""
        for one in self._there.values():
            one.pipe.close()  # a worker ends by itself when its pipe closes
        # One patience for all of them: they end at the same time
        end = time.monotonic() + _STOP_TIMEOUT_S
        for number in self._there:
            self.end(number, max(0.0, end - time.monotonic()))


def process_engine(
    records: SharedRecords,
    *,
    make_trainer: Callable[[int], Trainer],
    initial: Mapping[str, Tensor],
    setup: Setup,
    workers: int,
    num_threads: int = 1,
) -> PoolEngine:
    """Return an engine over worker processes, which share records and global tensors.

    Args:
        records: encoded, of all institutions.
        make_trainer: number of a worker -> its trainer; it and what it needs can be pickled.
        initial: initial trainable tensors.
        setup: what institutions have in common.
        workers: how many.
        num_threads: of torch, in each.
    """
    # Other jobs of the run, its baselines, are plain, and so need no more.
    algorithm, shapes = build_algorithm(setup.serves.objective), shapes_of(initial)
    sent, coded = algorithm.request_shapes(shapes), travel_of(setup.serves.download)
    spec = WorkerSpec(
        make_trainer=make_trainer,
        setup=setup,
        num_threads=num_threads,
        records=records,
        # What is only scored travels as it is; of very few numbers a codec makes more
        params=SharedBlock(max(travel.num_bytes(sent) for travel in (PLAIN, coded))),
    )
    workforce = Processes(
        spec, largest_sum=num_values(algorithm.reply_shapes(shapes)), count=workers
    )
    data = {name: records[name] for name in records.names}
    return PoolEngine(WorkerPool(workforce, count=workers), data, faults=setup.faults)


__all__ = ["Processes", "WorkerSpec", "process_engine", "work"]
