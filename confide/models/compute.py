"""Device, precision and memory of local training."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from confide.config.client import TrainerConfig
from confide.errors import ConfigError

Precision = torch.dtype | None
"""None: float32 throughout; otherwise the dtype of autocast."""

SMALL_MODEL = 1_000_000
"""Parameters; a model with fewer is trained and scored on one thread."""


@dataclass(frozen=True)
class Compute:
    """Where and how to compute; none of it changes what is promised.

    Attributes:
        device: of model and batches.
        autocast: dtype of forward and backward; None for float32.
        physical_batch_size: most records in one forward pass.
        feature_cache: folder for frozen features; None for no cache.
        num_threads: number of CPU threads asked for; None for what :func:`threads_of` says.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    autocast: Precision = None
    physical_batch_size: int = 256
    feature_cache: Path | None = None
    num_threads: int | None = None


def make_compute(config: TrainerConfig, *, worker: int = 0) -> Compute:
    """Choose the device and set the number of CPU threads of this process.

    Args:
        config: what is wished for.
        worker: number of this process among those on the machine, which take GPUs in turn.

    Raises:
        ConfigError: if the device asked for is not there.
    """
    # The first that is there is auto's choice.
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    name = next(d for d in there if there[d]) if config.device == "auto" else config.device
    if not there[name]:
        raise ConfigError(
            f"trainer.device={name}: torch {torch.__version__} sees no such device; set"
            " trainer.device=auto."
        )
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    return Compute(
        device=pinned(name, worker, torch.cuda.device_count()),
        autocast=torch.bfloat16 if config.precision == "bf16" else None,
        physical_batch_size=config.physical_batch_size,
        feature_cache=Path(config.feature_cache) if config.feature_cache else None,
        num_threads=config.num_threads,
    )


def threads_of(model: nn.Module, compute: Compute) -> int | None:
    """Return the number of CPU threads that a model's passes take; None for torch's choice.

    It follows from config and model alone, never from the machine or from how busy it is, so that
    sums add up in one order everywhere. Threads meet at the end of every operation and wait for
    each other by spinning: beside one busy process a small model's round took fifteen times as long
    on two threads, and never less on a quiet machine.

    Args:
        model: what each pass runs through, frozen parts too.
        compute: whether a number was asked for.
    """
    if compute.num_threads is not None:
        return compute.num_threads
    return 1 if sum(p.numel() for p in model.parameters()) < SMALL_MODEL else None


@contextlib.contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Compute with so many of torch's CPU threads; None leaves them as they are."""
    before = torch.get_num_threads()
    if number is None or number == before:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pinned(name: str, worker: int, gpus: int) -> torch.device:
    """Return the device of one process among those that share the machine."""
    return torch.device(name, worker % gpus) if name == "cuda" else torch.device(name)


__all__ = ["SMALL_MODEL", "Compute", "make_compute", "threads", "threads_of"]
