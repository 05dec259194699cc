"""Engines: what carries a simulation's messages.

Every engine opens the same doors and gives the same weights, bit for bit.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from flwr.app import Context
from flwr.serverapp import Grid

from confide.client.app import RequestHandler, make_client_app
from confide.client.ledger.ledger import RoundsSpent
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.simulations.engines.inline import InlineGrid
from confide.simulations.engines.pool import WorkerPool
from confide.simulations.engines.process import ProcessGrid
from confide.simulations.engines.shared_memory import SharedBlock, SharedRecords
from confide.simulations.engines.worker import WorkerSpec
from confide.simulations.faults import Faults, FaultyDelivery
from confide.simulations.institutions import InstitutionFactory, Setup, faulty


class Engine(Protocol):
    """Gives each job a grid, and knows what its institutions have computed."""

    def grid(self, job: str, names: Sequence[str]) -> Grid:
        """Return a grid over the institutions ``names``, nodes numbered from 1 in their order."""

    def spent(self, job: str) -> Mapping[str, RoundsSpent]:
        """Return what a job has computed at each institution."""

    def restore_spent(self, job: str, spent: Mapping[str, RoundsSpent]) -> None:
        """Take over what an earlier process knew of a job."""

    def close(self) -> None:
        """End what was started."""


def _numbered(names: Sequence[str]) -> dict[int, str]:
    return dict(enumerate(names, start=1))


def _delivery(faults: Faults | None, job: str, by_node: Mapping[int, str]) -> FaultyDelivery | None:
    return FaultyDelivery(faults, by_node) if faults is not None and faults.job == job else None


class InlineEngine:
    """Institutions in this process, which share one trainer.

    Args:
        data: encoded records, by institution.
        trainer: shared by all of them.
        setup: what else they share.
    """

    def __init__(
        self, data: Mapping[str, InstitutionData], *, trainer: Trainer, setup: Setup
    ) -> None:
        doors = InstitutionFactory(trainer, setup)
        self._faults = setup.faults
        self._institutions = {name: doors.open(name, part) for name, part in data.items()}

    def grid(self, job: str, names: Sequence[str]) -> Grid:
        """Return a grid that calls institutions when their replies are pulled."""
        by_node = _numbered(names)
        doors = {
            node: faulty(self._institutions[name], self._faults, job)
            for node, name in by_node.items()
        }

        def find(context: Context) -> RequestHandler:
            return doors[context.node_id]

        return InlineGrid(
            make_client_app(find), list(by_node), delivery=_delivery(self._faults, job, by_node)
        )

    def spent(self, job: str) -> Mapping[str, RoundsSpent]:
        """Return what a job has computed at each institution."""
        return {name: institution.spent(job) for name, institution in self._institutions.items()}

    def restore_spent(self, job: str, spent: Mapping[str, RoundsSpent]) -> None:
        """Take over what an earlier process knew of a job."""
        for name, institution in self._institutions.items():
            institution.restore_spent(job, spent.get(name, RoundsSpent()))

    def close(self) -> None:
        """Nothing was started."""


class ProcessEngine:
    """Worker processes with a model each, which share records and global tensors.

    Args:
        records: encoded, of all institutions.
        make_trainer: number of a worker -> its trainer; it and what it needs can be pickled.
        initial: initial trainable tensors.
        setup: what institutions have in common.
        workers: how many.
        num_threads: of torch, in each.
    """

    def __init__(
        self,
        records: SharedRecords,
        *,
        make_trainer: Callable[[int], Trainer],
        initial: Mapping[str, torch.Tensor],
        setup: Setup,
        workers: int,
        num_threads: int = 1,
    ) -> None:
        self._faults = setup.faults
        self._shapes = {name: tuple(tensor.shape) for name, tensor in initial.items()}
        size = sum(tensor.numel() for tensor in initial.values())
        params = SharedBlock(4 * size)
        self._params = params.tensor(torch.float32, (size,))
        self._spent: dict[str, dict[str, RoundsSpent]] = {}
        spec = WorkerSpec(
            make_trainer=make_trainer,
            setup=setup,
            num_threads=num_threads,
            records=records,
            params=params,
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
            spent=self._spent.setdefault(job, {}),
            delivery=_delivery(self._faults, job, by_node),
        )

    def spent(self, job: str) -> Mapping[str, RoundsSpent]:
        """Return what a job has computed at each institution."""
        return dict(self._spent.get(job, {}))

    def restore_spent(self, job: str, spent: Mapping[str, RoundsSpent]) -> None:
        """Take over what an earlier process knew of a job."""
        self._spent[job] = dict(spent)

    def close(self) -> None:
        """End the workers."""
        self.pool.close()


def default_workers() -> int:
    """Return one worker a GPU, or one a CPU core that this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__ = ["Engine", "InlineEngine", "ProcessEngine", "default_workers"]
