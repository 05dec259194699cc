"""The largest numbers of an update and their places; what is left out goes with the next one.

Top-k with error feedback (Stich et al., Sparsified SGD with memory, NeurIPS 2018, arXiv 1809.07599,
algorithm 1): e is what earlier messages left out, u the update; the message is the k largest of
u + e, and the new e is what it leaves out. Without e small numbers would never travel.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from confide.privacy.randomness import KeyedGenerator
from confide.protocol.codecs.codec import Bytes, unwritten
from confide.protocol.tensors import Shapes, Tensors, num_values

_ERROR = "error"
_PLACE = 4


@dataclass(frozen=True)
class TopK:
    """Places and values of the largest numbers; a :class:`~confide.protocol.codecs.codec.Codec`.

    Attributes:
        fraction: share of the numbers that travel, in (0, 0.5).
    """

    fraction: float

    def num_bytes(self, shapes: Shapes) -> int:
        """Return eight bytes for each number that travels."""
        return 2 * _PLACE * self._count(shapes)

    def first_state(self, shapes: Shapes) -> Tensors:
        """Return an error of zero."""
        return {_ERROR: torch.zeros(num_values(shapes))}

    def write(
        self, values: Tensor, shapes: Shapes, state: Tensors, draw: KeyedGenerator
    ) -> tuple[Bytes, Tensors]:
        """Write the k largest of update and error; of equal ones those that come first."""
        wanted = values + state[_ERROR]
        sizes, count = wanted.abs().numpy(), self._count(shapes)
        least = np.partition(sizes, len(sizes) - count)[len(sizes) - count]
        larger = np.flatnonzero(sizes > least)
        equal = np.flatnonzero(sizes == least)[: count - len(larger)]
        places = np.sort(np.concatenate([larger, equal])).astype("<u4")
        told = wanted.numpy()[places].astype("<f4")
        left = wanted.clone()
        left[places.astype(np.int64)] = 0.0
        return np.concatenate([places.view(np.uint8), told.view(np.uint8)]), {_ERROR: left}

    def read(self, data: Bytes, shapes: Shapes) -> Tensor:
        """Put values where they belong; each place at most once, in rising order."""
        end = _PLACE * self._count(shapes)
        places = torch.from_numpy(data[:end].view("<u4").astype(np.int64))
        values = torch.zeros(num_values(shapes))
        if not bool((places.diff() > 0).all()) or int(places[-1]) >= len(values):
            raise unwritten(f"places that do not rise below {len(values)}")
        values[places] = torch.from_numpy(data[end:].view("<f4").astype(np.float32))
        return values

    def _count(self, shapes: Shapes) -> int:
        return math.ceil(self.fraction * num_values(shapes))


__all__ = ["TopK"]
