"""A number's logarithm, its range mapped to [-2, 2]: for amounts that span magnitudes."""

from confide.encodings.encoding import Encoding, Floats, Scale, logarithmic
from confide.encodings.linear import EDGE


def encode(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, 1]."""
    return ((2 * logarithmic(values, scale) - 1) * EDGE)[:, None]


LOGARITHM = Encoding(encode_fn=encode, width_fn=lambda _: 1, bound_fn=lambda _: EDGE)

__all__ = ["LOGARITHM"]
