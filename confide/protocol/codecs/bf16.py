"""Numbers rounded to bfloat16, the upper half of a float32: two bytes each, ties to even.

What is lost is at most 2^-8 of a number. Nothing is kept for the next message.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from confide.privacy.randomness import KeyedGenerator
from confide.protocol.codecs.codec import Bytes
from confide.protocol.tensors import Shapes, Tensors, num_values


@dataclass(frozen=True)
class Bf16:
    """Two bytes a number; a :class:`~confide.protocol.codecs.codec.Codec`."""

    def num_bytes(self, shapes: Shapes) -> int:
        """Return two bytes a number."""
        return 2 * num_values(shapes)

    def first_state(self, shapes: Shapes) -> Tensors:
        """Return nothing."""
        return {}

    def write(
        self, values: Tensor, shapes: Shapes, state: Tensors, draw: KeyedGenerator
    ) -> tuple[Bytes, Tensors]:
        """Round to nearest."""
        return values.to(torch.bfloat16).view(torch.int16).numpy().astype("<i2").view(np.uint8), {}

    def read(self, data: Bytes, shapes: Shapes) -> Tensor:
        """Read what any two bytes mean."""
        halves = data.view("<i2").astype(np.int16)
        return torch.from_numpy(halves).view(torch.bfloat16).float()


__all__ = ["Bf16"]
