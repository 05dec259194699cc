"""Sines and cosines of a number's logarithm, at fixed frequencies (Gorishniy et al. 2022, 3.3).

Their paper learns the frequencies. Here they are public: 1 to half of ``bins`` half-waves over the
range, the quicker the smaller, beside the logarithm itself.
"""

import math

from confide.encodings.encoding import Encoding, Floats, Scale, each, logarithmic
from confide.encodings.linear import EDGE


def encode(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, 1 + 2 (bins // 2)]."""
    import numpy

    place = 2 * logarithmic(values, scale) - 1
    columns = [EDGE * place]
    for waves in range(1, scale.bins // 2 + 1):
        angles = math.pi * waves * place
        columns += [each(wave, angles) / math.sqrt(waves) for wave in (math.sin, math.cos)]
    return numpy.stack(columns, axis=1)


PERIODIC = Encoding(
    encode_fn=encode,
    width_fn=lambda scale: 1 + 2 * (scale.bins // 2),
    bound_fn=lambda scale: math.sqrt(
        EDGE**2 + sum(1 / waves for waves in range(1, scale.bins // 2 + 1))
    ),
)

__all__ = ["PERIODIC"]
