"""Engines: what carries a simulation's messages.

Every engine opens the same institutions. Inline, process and ray give the same weights, bit for
bit; vectorised gives those of another order of sums, which differ in the last bits. A new engine is
one function and one line in :data:`ENGINES`, under a name that ``simulation.engine`` knows.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from confide.client.ledger.ledger import RoundsSpent
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.simulation import RayConfig
from confide.protocol.tensors import Tensors
from confide.simulations.cluster.engine import ray_engine
from confide.simulations.engines.inline import InlineEngine, LocalGrid
from confide.simulations.engines.process import process_engine
from confide.simulations.engines.shared_memory import SharedRecords
from confide.simulations.engines.vectorised import VectorisedEngine
from confide.simulations.institutions import Setup


class Engine(Protocol):
    """Gives each job a grid, and knows what its institutions have computed."""

    @property
    def data(self) -> Mapping[str, InstitutionData]:
        """Encoded records by institution, where the engine keeps them."""

    def grid(self, job: str, names: Sequence[str]) -> LocalGrid:
        """Return a grid over the institutions ``names``, nodes numbered from 1 in their order."""

    def spent(self, job: str) -> Mapping[str, RoundsSpent]:
        """Return what a job has computed at each institution."""

    def restore_spent(self, job: str, spent: Mapping[str, RoundsSpent]) -> None:
        """Take over what an earlier process knew of a job."""

    def close(self) -> None:
        """End what was started."""


@dataclass(frozen=True, kw_only=True)
class EngineParts:
    """What an engine is made of.

    Attributes:
        data: encoded records by institution.
        trainer: of this process.
        make_trainer: number of a worker process -> its trainer; can be pickled.
        initial: initial trainable tensors.
        setup: what institutions have in common.
        workers: number of worker processes; None for one a device.
        num_threads: of torch, in each worker; None for one.
        ray: the cluster of workers that are not on this machine alone.
        folders: setting that names it -> folder that institutions write to.
    """

    data: Mapping[str, InstitutionData]
    trainer: Trainer
    make_trainer: Callable[[int], Trainer]
    initial: Tensors
    setup: Setup
    workers: int | None
    num_threads: int | None
    ray: RayConfig = field(default_factory=RayConfig)
    folders: Mapping[str, Path] = field(default_factory=dict)


def _inline(parts: EngineParts) -> Engine:
    return InlineEngine(parts.data, trainer=parts.trainer, setup=parts.setup)


def _process(parts: EngineParts) -> Engine:
    return process_engine(
        SharedRecords(parts.data),
        make_trainer=parts.make_trainer,
        initial=parts.initial,
        setup=parts.setup,
        workers=min(parts.workers or default_workers(), len(parts.data)),
        num_threads=parts.num_threads or 1,
    )


def _ray(parts: EngineParts) -> Engine:
    return ray_engine(
        parts.data,
        make_trainer=parts.make_trainer,
        initial=parts.initial,
        setup=parts.setup,
        config=parts.ray,
        workers=parts.workers,
        num_threads=parts.num_threads or 1,
        cpus_here=default_workers(),
        folders=parts.folders,
    )


def _vectorised(parts: EngineParts) -> Engine:
    return VectorisedEngine(parts.data, trainer=parts.trainer, setup=parts.setup)


ENGINES: Mapping[str, Callable[[EngineParts], Engine]] = {
    "inline": _inline,
    "process": _process,
    "ray": _ray,
    "vectorised": _vectorised,
}
"""``simulation.engine`` -> builds it."""


def default_workers() -> int:
    """Return one worker a GPU, or one a CPU core that this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    # Not the machine's cores: a container or a scheduler may give this process fewer
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__ = ["ENGINES", "Engine", "EngineParts", "default_workers"]
