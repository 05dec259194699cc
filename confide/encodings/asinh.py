"""The inverse hyperbolic sine of a number, its range mapped to [-2, 2].

A logarithm for both signs: gains and losses, excesses and deficits. It bends at a thousandth of the
range's larger end.
"""

import math

from confide.encodings.encoding import Encoding, Floats, Scale, each
from confide.encodings.linear import EDGE

_UNITS = 1000.0


def encode(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, 1]."""
    unit = max(abs(scale.minimum), abs(scale.maximum)) / _UNITS
    low, high = math.asinh(scale.minimum / unit), math.asinh(scale.maximum / unit)
    bent = each(math.asinh, values / unit)
    return ((2 * (bent - low) / (high - low) - 1) * EDGE).clip(-EDGE, EDGE)[:, None]


ASINH = Encoding(encode_fn=encode, width_fn=lambda _: 1, bound_fn=lambda _: EDGE)

__all__ = ["ASINH"]
