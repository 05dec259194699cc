"""A client's share of the noise on a sum that nobody sees inside.

Protected: one client with all its data, whatever it computes of it and in however many local steps,
since its whole update is clipped. Neighbouring relation: its updates are zeros in all rounds, or
not. Trusted: that of the clients in each sum at least h, this one among them, clip, add their
shares and keep them to themselves, and that nobody sees more of a round than its sum. Neither the
coordinator nor the other clients need be trusted with anything. Public: settings, who takes part,
every sum.

Each client clips its update to S and adds Gaussian noise of standard deviation z S / sqrt(h). The
sum over any survivors, h of them honest, holds noise of z S at least, and one client moves it by S
at most. Updates of the others follow from the model alone, which is made of sums before. A run is
then as many Gaussian mechanisms of noise multiplier z, composed adaptively. No chance of being
drawn makes them cheaper: the coordinator, which is not trusted, knows who was drawn.

Shares are rounded to a grid before they are added up, and nothing after. A Gaussian of standard
deviation s steps, rounded, has the probabilities that Z + U has densities at the points of the
grid, U uniform over one step: adding U is post-processing, and sums over the grid differ from
integrals by exp(-2 pi^2 s^2). At s of 2^10 and more that is nothing.

What voids it: fewer than h honest survivors; a seed that is told; the same update in two sums with
the same noise; whatever else is shown of an update or of the records, such as a client's scores.
"""

import math

import numpy
from torch import Tensor

from confide.config.noise_share import NoiseShare
from confide.privacy.randomness import KeyedGenerator

_SLACK = 1e-6
"""Of the clipping norm: room for what rounding after clipping adds."""


def clipping_factor(
    values: Tensor, clip_norm: float, *, rounding: float = 0.0
) -> tuple[float, bool]:
    """Return what an update is multiplied by, in (0, 1], and whether it was within the norm.

    Args:
        values: float32, shape [d].
        clip_norm: S, > 0.
        rounding: by how much rounding may lengthen what was clipped, below S; room for a millionth
            of S is left in any case.
    """
    # By numpy, which adds up in one order, however many threads there are
    norm = math.sqrt(float(numpy.square(values.numpy(), dtype=numpy.float64).sum()))
    most = min(clip_norm * (1 - _SLACK), clip_norm - rounding)
    return (1.0 if norm <= most else most / norm), norm <= clip_norm


def noised(values: Tensor, share: NoiseShare, *, key: bytes) -> Tensor:
    """Clip an update, add one client's noise and round the result to the grid.

    Args:
        values: finite, float32, shape [d].
        share: clipping norm, noise and grid.
        key: 32 bytes, known to the client alone and used for this update alone.

    Returns:
        Multiples of 2^-k, up to ``share.largest``: float32, shape [d].
    """
    factor, _ = clipping_factor(values, share.clip_norm)
    told = values.double().mul_(factor)
    KeyedGenerator(key).add_normal([told], std=share.std)
    step = 2.0**-share.grid_bits
    # Exact as float32, and in any sum: what is released was rounded once
    return told.div_(step).round_().mul_(step).float()


__all__ = ["clipping_factor", "noised"]
