"""A number as it is, its range mapped to [-2, 2].

As if the range were two standard deviations either way: numbers and categories then weigh alike.
"""

from confide.encodings.encoding import Encoding, Floats, Scale

EDGE = 2.0


def encode(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, 1]."""
    return ((2 * scale.fraction(values) - 1) * EDGE)[:, None]


LINEAR = Encoding(encode_fn=encode, width_fn=lambda _: 1, bound_fn=lambda _: EDGE)

__all__ = ["EDGE", "LINEAR"]
