"""Numbers rounded at random to 8 bits.

QSGD (Alistarh et al., NeurIPS 2017, arXiv 1610.02132, section 3.1 with the buckets of section 4),
with the largest size of a block in place of its norm, and rounding up or down with the
probabilities that leave the mean as it is. A block is 1024 numbers, whatever tensors they are of:
one float32, a 127th of the block's largest size, goes before them all.

The error of a number is below that unit, of mean zero and independent of all others, so that it
averages out over institutions and rounds: nothing is kept for the next message.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from confide.privacy.randomness import KeyedGenerator
from confide.protocol.codecs.codec import Bytes, unwritten
from confide.protocol.tensors import Shapes, Tensors, num_values

_BLOCK, _LARGEST = 1024, 127


@dataclass(frozen=True)
class Int8:
    """One byte a number; a :class:`~confide.protocol.codecs.codec.Codec`."""

    def num_bytes(self, shapes: Shapes) -> int:
        """Return a byte a number and four a block."""
        return num_values(shapes) + 4 * _blocks(shapes)

    def first_state(self, shapes: Shapes) -> Tensors:
        """Return nothing."""
        return {}

    def write(
        self, values: Tensor, shapes: Shapes, state: Tensors, draw: KeyedGenerator
    ) -> tuple[Bytes, Tensors]:
        """Round each number to one of its two neighbours."""
        blocks = _in_blocks(values.double())
        units = (blocks.abs().amax(dim=1) / _LARGEST).float()
        # A unit that is zero is one of a block of zeros, or of numbers that none could be told from
        steps = torch.where(units > 0, units, 1.0).double()[:, None]
        chance = _in_blocks(draw.uniform(len(values)))
        rounded = torch.floor(blocks / steps + chance)
        # A float32's unit may be a last bit too small for its own block's largest number
        levels = rounded.clamp(-_LARGEST, _LARGEST).to(torch.int8).flatten()[: len(values)]
        heads = units.numpy().astype("<f4").view(np.uint8)
        return np.concatenate([heads, levels.numpy().view(np.uint8)]), {}

    def read(self, data: Bytes, shapes: Shapes) -> Tensor:
        """Multiply levels by the units of their blocks."""
        end = 4 * _blocks(shapes)
        units = torch.from_numpy(data[:end].view("<f4").astype(np.float32))
        levels = torch.from_numpy(data[end:].view(np.int8).astype(np.float32))
        if not bool(((units >= 0) & units.isfinite()).all()):
            raise unwritten("a unit that is no number >= 0")
        if bool((levels < -_LARGEST).any()):
            raise unwritten(f"a level below -{_LARGEST}")
        return (_in_blocks(levels) * units[:, None]).flatten()[: len(levels)].clone()


def _blocks(shapes: Shapes) -> int:
    return -(-num_values(shapes) // _BLOCK)


def _in_blocks(values: Tensor) -> Tensor:
    return pad(values, (0, -len(values) % _BLOCK)).view(-1, _BLOCK)


__all__ = ["Int8"]
