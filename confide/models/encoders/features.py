"""Features of a frozen backbone: computed once a record, kept on disk by content.

Features are derived from records, so the cache belongs to the institution: its files are readable
by their owner alone, and their names are keyed by what was computed, from what.
"""

import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from confide.tasks.task import LABELS, Batch, Examples

log = logging.getLogger(__name__)

_BATCH = 32


class FeatureCache:
    """Features on disk, one file a set of records.

    Args:
        folder: made if need be, readable by its owner alone.
        identity: all that decides features beside the records: backbone hash, layers, pooling,
            precision.
    """

    def __init__(self, folder: Path, identity: tuple[str, ...]) -> None:
        self._folder = folder / "features"
        self._identity = identity

    def path(self, examples: Examples) -> Path:
        """Name the file for these records."""
        # Kernels of another torch may round otherwise.
        digest = hashlib.sha256("\0".join((*self._identity, torch.__version__)).encode())
        for name in sorted(set(examples.columns) - {LABELS}):
            column = examples.columns[name].cpu().contiguous()
            digest.update(f"{name}{tuple(column.shape)}".encode())
            digest.update(column.numpy().tobytes())
        return self._folder / f"{digest.hexdigest()}.safetensors"

    def load(self, examples: Examples) -> Tensor | None:
        """Return features kept for these records; an unreadable file is computed anew."""
        path = self.path(examples)
        if not path.is_file() or not self._is_own():
            return None
        try:
            return load_file(path)["features"]
        except Exception as error:  # a cache may fail in any way, and costs time only
            log.warning(
                "Features in %s cannot be read (%s); computing them anew.",
                path,
                type(error).__name__,
            )
            return None

    def _is_own(self) -> bool:
        """Tell whether nobody else can put features there, such as into a folder in /tmp."""
        found = self._folder.lstat()
        is_own = found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode)
        if is_own and not found.st_mode & 0o022:
            return True
        log.warning(
            "Features are neither kept nor read: %s is another user's, or others may write there."
            " Set trainer.feature_cache, or CONFIDE_CACHE, to a folder of this user's alone.",
            self._folder,
        )
        return False

    def store(self, examples: Examples, features: Tensor) -> None:
        """Keep features; a cache that cannot be written is a warning, not a failure."""
        path, temporary = self.path(examples), ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._is_own():
                return
            # Readable by its owner alone.
            handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            os.close(handle)
            save_file({"features": features.cpu().contiguous()}, temporary)
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            log.warning(
                "Features are not kept: %s. Set trainer.feature_cache to a folder that can be"
                " written.",
                error,
            )


def features_of(
    examples: Examples,
    encode_fn: Callable[[Batch], Tensor],
    *,
    shape: tuple[int, ...],
    device: torch.device,
    autocast: torch.dtype | None,
    cache: FeatureCache | None,
) -> Tensor:
    """Return features of encoded records, from the cache or from the backbone.

    Every forward pass has the same number of rows, and a record is padded to a length that follows
    from its own: a record's features do not depend, not even in rounding, on which other records an
    institution holds.

    Args:
        examples: n encoded records; those without lengths are all of one shape.
        encode_fn: the frozen model: columns of R records, labels aside -> features [R, ...]; called
            only where features are not in the cache.
        shape: of one record's features: (d,), or (t, d) with t at least the longest padded length,
            of which the rest stays 0.
        device: to compute on.
        autocast: dtype of the forward pass, None for float32.
        cache: where features are kept, None for nowhere.

    Returns:
        float32 on the CPU, shape [n, *shape].
    """
    if not len(examples):
        return torch.empty((0, *shape))
    kept = cache.load(examples) if cache else None
    if kept is not None:
        return kept
    features = torch.zeros((len(examples), *shape))
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
    ):
        # One length for all of a bucket.
        for bucket in examples.length_buckets(torch.arange(len(examples))):
            for indices in bucket.split(_BATCH):
                found = encode_fn(_inputs(examples, indices, device))[: len(indices)].float().cpu()
                if len(shape) == 1:
                    features[indices] = found
                else:
                    features[indices, : found.shape[1]] = found
    if cache:
        cache.store(examples, features)
    return features


def _inputs(examples: Examples, indices: Tensor, device: torch.device) -> Batch:
    """Return a batch of _BATCH rows without labels: records, the last one as often as needed."""
    rows = torch.cat([indices, indices[-1:].expand(_BATCH - len(indices))])
    batch = examples.take(rows)
    del batch[LABELS]
    return {name: column.to(device) for name, column in batch.items()}


__all__ = ["FeatureCache", "features_of"]
