"""Engines: what carries a simulation's messages. Every engine opens the same doors and gives the same weights, bit for bit."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from flwr.app import Context
from flwr.serverapp import Grid

from confide.client.app import Answers, make_client_app
from confide.client.data import InstitutionData
from confide.client.trainer import Trainer
from confide.plan import TrainingPlan
from confide.simulations.faults import Faults, FaultyDelivery, FaultyInstitution
from confide.simulations.grid import InlineGrid
from confide.simulations.institutions import Doors, StatesFn
from confide.simulations.pool import WorkerPool
from confide.simulations.process_grid import Mechanisms, ProcessGrid
from confide.simulations.shared import SharedBlock, SharedRecords
from confide.simulations.workers import WorkerSpec


class Engine(Protocol):
    """Gives each job a grid, and knows what its institutions have computed."""

    def grid(self, job: str, names: Sequence[str]) -> Grid:
        """Return a grid over the institutions ``names``, nodes numbered from 1 in their order."""

    def mechanisms(self, job: str) -> Mapping[str, frozenset[str]]:
        """Name what each institution has computed from training records in a job."""

    def recall(self, job: str, mechanisms: Mapping[str, Sequence[str]]) -> None:
        """Take over what an earlier process knew of a job."""

    def close(self) -> None:
        """End what was started."""


def _numbered(names: Sequence[str]) -> dict[int, str]:
    return dict(enumerate(names, start=1))


class InlineEngine:
    """Institutions in this process, which share one trainer.

    Args:
        data: encoded records, by institution.
        trainer: shared by all of them.
        serves: the plan it was built for.
        noise_secret: what mechanisms of institutions derive from.
        faults: injected ones.
        states: where institutions keep tensors between rounds; None declines algorithms that do.
    """

    def __init__(
        self,
        data: Mapping[str, InstitutionData],
        *,
        trainer: Trainer,
        serves: TrainingPlan,
        noise_secret: bytes,
        faults: Faults | None = None,
        states: StatesFn | None = None,
    ) -> None:
        doors = Doors(trainer, serves=serves, noise_secret=noise_secret, states=states)
        self._faults = faults
        self._institutions = {name: doors.open(name, part) for name, part in data.items()}

    def grid(self, job: str, names: Sequence[str]) -> Grid:
        """Return a grid that calls institutions when their replies are pulled."""
        by_node = _numbered(names)
        doors: dict[int, Answers] = {node: self._institutions[name] for node, name in by_node.items()}
        delivery = None
        if self._faults:
            faults, nobody_waits = self._faults, lambda seconds: None
            doors = {node: FaultyInstitution(door, faults, nobody_waits) for node, door in doors.items()}
            delivery = FaultyDelivery(faults, by_node, waits=True)

        def find(context: Context) -> Answers:
            return doors[context.node_id]

        return InlineGrid(make_client_app(find), list(by_node), delivery=delivery)

    def mechanisms(self, job: str) -> Mapping[str, frozenset[str]]:
        """Name what each institution has computed from training records in a job."""
        return {name: institution.mechanisms(job) for name, institution in self._institutions.items()}

    def recall(self, job: str, mechanisms: Mapping[str, Sequence[str]]) -> None:
        """Take over what an earlier process knew of a job."""
        for name, known in mechanisms.items():
            self._institutions[name].recall(job, known)

    def close(self) -> None:
        """Nothing was started."""


class ProcessEngine:
    """Worker processes with a model each, which share records and global tensors.

    Args:
        records: encoded, of all institutions.
        make_trainer: number of a worker -> its trainer; it and what it needs can be pickled.
        initial: initial trainable tensors.
        serves: the plan that trainers are built for.
        noise_secret: what mechanisms of institutions derive from.
        workers: how many.
        num_threads: of torch, in each.
        faults: injected ones.
        states: where institutions keep tensors between rounds; None declines algorithms that do.
    """

    def __init__(  # noqa: PLR0913
        self,
        records: SharedRecords,
        *,
        make_trainer: Callable[[int], Trainer],
        initial: Mapping[str, torch.Tensor],
        serves: TrainingPlan,
        noise_secret: bytes,
        workers: int,
        num_threads: int = 1,
        faults: Faults | None = None,
        states: StatesFn | None = None,
    ) -> None:
        self._faults = faults
        self._shapes = {name: tuple(tensor.shape) for name, tensor in initial.items()}
        size = sum(tensor.numel() for tensor in initial.values())
        params = SharedBlock(4 * size)
        self._params = params.tensor(torch.float32, (size,))
        self._mechanisms: dict[str, Mechanisms] = {}
        spec = WorkerSpec(
            make_trainer=make_trainer,
            serves=serves,
            num_threads=num_threads,
            noise_secret=noise_secret,
            records=records,
            params=params,
            faults=faults,
            states=states,
        )
        self.pool = WorkerPool(spec, shapes=self._shapes, count=workers)

    def grid(self, job: str, names: Sequence[str]) -> Grid:
        """Return a grid over the workers."""
        by_node = _numbered(names)
        return ProcessGrid(
            self.pool,
            by_node,
            shapes=self._shapes,
            params=self._params,
            mechanisms=self._mechanisms.setdefault(job, {}),
            delivery=FaultyDelivery(self._faults, by_node, waits=False) if self._faults else None,
        )

    def mechanisms(self, job: str) -> Mapping[str, frozenset[str]]:
        """Name what each institution has computed from training records in a job."""
        return dict(self._mechanisms.get(job, {}))

    def recall(self, job: str, mechanisms: Mapping[str, Sequence[str]]) -> None:
        """Take over what an earlier process knew of a job."""
        self._mechanisms[job] = {name: frozenset(known) for name, known in mechanisms.items()}

    def close(self) -> None:
        """End the workers."""
        self.pool.close()


def default_workers() -> int:
    """Return one worker a GPU, or one a CPU core that this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__ = ["Engine", "InlineEngine", "ProcessEngine", "default_workers"]
