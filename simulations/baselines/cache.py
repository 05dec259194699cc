"""Results of baselines, kept by the content of all that they depend on.

What an institution reaches alone, or all of them with their records in one place, does not depend
on the strategy: a sweep over strategies trains its baselines once. A result is taken from the cache
only where training again would give exactly the same, which is where nothing is random or all of it
follows from a seed, no ledger has to hear of it, and the task is not custom, whose code may
have changed. Files hold metrics alone and are readable by their owner alone.
"""

import dataclasses
import hashlib
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from confide.client.records.encoded import InstitutionData
from confide.config.privacy import PolicyConfig
from confide.config.server import ServerConfig
from confide.errors import StorageError
from confide.models.compute import Compute
from confide.protocol.messages import SPLITS
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.server.run.outputs import versions
from confide.storage.files import make_private_folder, write_text
from confide.storage.tensor_files import sha256

log = logging.getLogger(__name__)

_SETTINGS = ("num_rounds", "keep", "patience", "max_update_value")


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What results depend on beside the plan, the settings and who trains.

    Attributes:
        data: of all institutions, whose test records are scored.
        initial: initial trainable tensors.
        policy: which metrics may leave.
        secrets: that randomness derives from.
        by_round: whether noise follows from them and the round, not from tensors.
        compute: device, precision, batches.
        threads: of torch, where baselines are trained and scored: in this process.
    """

    data: Mapping[str, InstitutionData]
    initial: Tensors
    policy: PolicyConfig
    secrets: Sequence[bytes]
    by_round: bool
    compute: Compute
    threads: int

    def digest(self) -> str:
        """Hash all of it."""
        return _hash(
            {
                "test": {name: _digest(data, ("test",)) for name, data in self.data.items()},
                "initial": sha256(self.initial),
                "policy": dataclasses.asdict(self.policy),
                "secrets": [secret.hex() for secret in self.secrets],
                "by_round": self.by_round,
                "compute": [
                    _device(self.compute.device),
                    str(self.compute.autocast),
                    self.compute.physical_batch_size,
                ],
                "threads": self.threads,  # sums depend on them
                "versions": versions(),
            }
        )


class BaselineCache:
    """Results on disk, one file each.

    Args:
        folder: made if need be, readable by its owner alone.
        circumstances: of this run.
    """

    def __init__(self, folder: Path, circumstances: Circumstances) -> None:
        self._folder = folder / "baselines"
        self._circumstances = circumstances.digest()

    def path(self, plan: TrainingPlan, settings: ServerConfig, data: InstitutionData) -> Path:
        """Name the file of one result.

        Args:
            plan: of the baseline's own job.
            settings: of the run.
            data: that is trained on.
        """
        what = {
            # How long an answer may take changes no result
            "plan": dataclasses.replace(plan, deadline_s=1.0).to_json(),
            "settings": {name: getattr(settings, name) for name in _SETTINGS},
            "data": _digest(data, SPLITS),
            "circumstances": self._circumstances,
        }
        return self._folder / f"{_hash(what)}.json"

    def load(self, path: Path) -> Sequence[Any] | None:
        """Return a result; an unreadable one is computed anew."""
        try:
            on_all, own = json.loads(path.read_text())
            on_all["num_examples"], own.keys()  # both are metrics
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning(
                "The baseline in %s cannot be read (%s); training it anew.",
                path,
                type(error).__name__,
            )
            return None
        return on_all, own

    def store(self, path: Path, result: Sequence[Any]) -> None:
        """Keep a result; a cache that cannot be written is a warning, not a failure."""
        try:
            make_private_folder(self._folder)
            write_text(path, json.dumps(result) + "\n", mode=0o600)
        except StorageError as error:
            log.warning(
                "A baseline is not kept: %s Set trainer.feature_cache to a folder that can be"
                " written.",
                error,
            )


def _digest(data: InstitutionData, splits: Sequence[str]) -> str:
    parts: dict[str, torch.Tensor] = {}
    for split in splits:
        examples = data.split(split)
        parts |= {f"{split}/{name}": column for name, column in examples.columns.items()}
        if examples.lengths is not None:
            parts[f"{split}//lengths"] = examples.lengths
    # Groups are told apart in training records alone
    if "train" in splits and data.groups is not None:
        parts["groups"] = data.groups
    return sha256(parts)


def _device(device: torch.device) -> list[str]:
    # Another instruction set adds up in another order
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return [device.type, name, platform.machine()]


def _hash(values: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


__all__ = ["BaselineCache", "Circumstances"]
