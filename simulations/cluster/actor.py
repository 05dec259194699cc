"""A worker inside a Ray actor: what runs on the machines of a cluster."""

import os
import signal
import socket
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy
import ray
import torch
from numpy.typing import NDArray
from torch import Tensor

from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.flower.messages import task_identity
from confide.simulations.cluster.shared_folders import Probe
from confide.simulations.engines.shared_memory import SharedBlock, SharedRecords
from confide.simulations.engines.worker import RoundSpec, SharedSum, Worker, WorkItem, WorkResult
from confide.simulations.institutions import Setup
from confide.version import __version__


class ArrayBlock:
    """Memory in an array, which Ray shares between the processes of a machine, read-only there.

    Args:
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self._array = numpy.zeros(max(1, size), numpy.uint8)

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...], offset: int = 0) -> Tensor:
        """View a part as a tensor; ``offset`` is in bytes, a multiple of the dtype's size."""
        count = int(numpy.prod(shape))
        if not count:  # torch refuses an empty buffer
            return torch.empty(shape, dtype=dtype)
        with warnings.catch_warnings():
            # Nobody writes to records: a trainer takes rows out of them
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            part = torch.frombuffer(self._array.data, dtype=dtype, count=count, offset=offset)
        return part.view(shape)


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Records of all institutions in the object store; a shard is fetched when it is first needed.

    Attributes:
        places: institution -> number of its shard.
        refs: of the shards.
    """

    places: Mapping[str, int]
    refs: Sequence["ray.ObjectRef"]
    _held: dict[int, SharedRecords] = field(default_factory=dict)

    def __getitem__(self, name: str) -> InstitutionData:
        """Return an institution's records."""
        number = self.places[name]
        if number not in self._held:
            self._held[number] = ray.get(self.refs[number])
        return self._held[number][name]


@dataclass(frozen=True, kw_only=True)
class ActorSpec:
    """What all actors have in common.

    Attributes:
        make_trainer: number of the worker -> its trainer, on its device.
        setup: of the institutions.
        num_threads: of torch.
        records: of all institutions.
        largest_sum: number of values in the longest sum.
        probes: of folders that all machines have to share.
        version: of this package where the run was started.
    """

    make_trainer: Callable[[int], Trainer]
    setup: Setup
    num_threads: int
    records: Shards
    largest_sum: int
    probes: Sequence[Probe]
    version: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """What all items of an exchange have in common; in the object store once a machine.

    Attributes:
        round_spec: what is asked.
        params: float32, shape [d], its tensors; None if it has none.
    """

    round_spec: RoundSpec
    params: NDArray[numpy.float32] | None


@dataclass(frozen=True, kw_only=True)
class Hello:
    """The first words of an actor.

    Attributes:
        pid: of its process.
        problem: why it cannot work; None for nothing.
    """

    pid: int
    problem: str | None


class Actor:
    """The product's own worker, which answers batches of items.

    A batch comes back with the sum of its own updates: what was reported is never lost with an
    actor, and what was not is done again elsewhere.

    Args:
        number: of this worker, from 0.
        spec: common to all.
    """

    def __init__(self, number: int, spec: ActorSpec) -> None:
        # The coordinator's process decides what an interrupt means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._problem = _problem(spec)
        self._worker: Worker | None = None
        if self._problem is not None:
            return
        torch.set_num_threads(spec.num_threads)
        self._identity = task_identity()
        self._identity.__enter__()  # for the rest of this process's life
        self._worker = Worker(
            spec.make_trainer(number),
            spec.setup,
            records=spec.records,
            partial_sum=SharedSum(SharedBlock(SharedSum.size(spec.largest_sum))),
        )
        self._number = 0

    def hello(self) -> Hello:
        """Return once the model is built."""
        return Hello(pid=os.getpid(), problem=self._problem)

    def answer(
        self, number: int, question: Sequence["ray.ObjectRef"], items: Sequence[WorkItem]
    ) -> tuple[list[WorkResult], NDArray[numpy.int64] | None]:
        """Answer a batch of items.

        Args:
            number: of the question.
            question: its one reference: fetched when its number is new.
            items: of whom.

        Returns:
            The results, and the sum of their updates, int64, shape [d]; None if none was summed.
        """
        worker = self._worker
        if worker is None:
            raise RuntimeError(f"{self._problem}.")
        if number != self._number:
            self._question: Question = ray.get(question[0])
            self._number = number
            params = self._question.params
            # A copy: what lies in the store cannot be written to, of which torch warns
            worker.begin(
                self._question.round_spec,
                None if params is None else torch.from_numpy(params.copy()),
            )
        rule = self._question.round_spec.sum_rule
        if rule is not None:
            worker.sum.begin(rule)
        results = [worker.answer(item) for item in items]
        is_summed = any(result.weight for result in results)
        return results, worker.sum.total.numpy().copy() if is_summed else None


def _problem(spec: ActorSpec) -> str | None:
    if spec.version != __version__:
        return (
            f"{socket.gethostname()} has confide {__version__}, and this machine {spec.version};"
            " install the same version on every machine of the cluster"
        )
    return next((found for probe in spec.probes if (found := probe.problem()) is not None), None)


__all__ = ["Actor", "ActorSpec", "ArrayBlock", "Hello", "Question", "Shards"]
