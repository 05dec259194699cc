"""Features of a frozen backbone: computed once a record, kept on disk by content.

Features are derived from records, so the cache belongs to the institution: its files are readable
by their owner alone, and their names are keyed by what was computed, from what.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from confide.models.networks import TextClassifier
from confide.tasks.task import Examples, padded_length

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
        for name in sorted(examples.token_columns):
            column = examples.columns[name].cpu().contiguous()
            digest.update(f"{name}{tuple(column.shape)}".encode())
            digest.update(column.numpy().tobytes())
        return self._folder / f"{digest.hexdigest()}.safetensors"

    def load(self, examples: Examples) -> Tensor | None:
        """Return features kept for these records; an unreadable file is computed anew."""
        path = self.path(examples)
        if not path.is_file():
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

    def store(self, examples: Examples, features: Tensor) -> None:
        """Keep features; a cache that cannot be written is a warning, not a failure."""
        path, temporary = self.path(examples), ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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


def _rows(tokens: Tensor, length: int) -> Tensor:
    """Cut or pad tokens [b, t] to [_BATCH, length] with zeros."""
    rows = torch.zeros((_BATCH, length), dtype=tokens.dtype)
    width = min(length, tokens.shape[1])
    rows[: len(tokens), :width] = tokens[:, :width]
    return rows


def features_of(
    examples: Examples,
    encoder: Callable[[], TextClassifier],
    *,
    width: int,
    device: torch.device,
    autocast: torch.dtype | None,
    cache: FeatureCache | None,
) -> Tensor:
    """Return pooled features of encoded texts, from the cache or from the backbone.

    Every forward pass has the same number of rows, and a text is padded to a length that follows
    from its own: a record's features do not depend, not even in rounding, on which other records an
    institution holds.

    Args:
        examples: tokens, shape [n, t].
        encoder: loads the frozen model when first needed.
        width: d.
        device: to compute on.
        autocast: dtype of the forward pass, None for float32.
        cache: where features are kept, None for nowhere.

    Returns:
        float32 on the CPU, shape [n, d].
    """
    if not len(examples):
        return torch.empty((0, width))
    kept = cache.load(examples) if cache else None
    if kept is not None:
        return kept
    assert examples.lengths is not None
    features = torch.empty((len(examples), width))
    model = encoder()
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
    ):
        for bucket in examples.length_buckets(torch.arange(len(examples))):
            # One length for all of a bucket.
            length = padded_length(int(examples.lengths[bucket[0]]))
            for indices in bucket.split(_BATCH):
                ids, mask = (
                    _rows(examples.columns[name][indices].cpu(), length)
                    for name in ("input_ids", "attention_mask")
                )
                mask[len(indices) :, 0] = 1  # a row that attends to nothing would be NaN
                features[indices] = (
                    model.pooled(ids.to(device), mask.to(device))[: len(indices)].float().cpu()
                )
    if cache:
        cache.store(examples, features)
    return features


__all__ = ["FeatureCache", "features_of"]
