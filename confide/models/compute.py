"""Device, precision and memory of local training."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from confide.config.client import TrainerConfig
from confide.errors import ConfigError

Precision = torch.dtype | None
"""None: float32 throughout; otherwise the dtype of autocast."""


@dataclass(frozen=True)
class Compute:
    """Where and how to compute; none of it changes what is promised.

    Attributes:
        device: of model and batches.
        autocast: dtype of forward and backward; None for float32.
        physical_batch_size: most records in one forward pass.
        feature_cache: folder for frozen features; None for no cache.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    autocast: Precision = None
    physical_batch_size: int = 256
    feature_cache: Path | None = None


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
    )


def pinned(name: str, worker: int, gpus: int) -> torch.device:
    """Return the device of one process among those that share the machine."""
    return torch.device(name, worker % gpus) if name == "cuda" else torch.device(name)


__all__ = ["Compute", "make_compute"]
