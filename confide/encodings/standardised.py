"""A number less a public mean, in public standard deviations.

Mean and deviation are the schema's: of a published cohort, say, and never of the records.
"""

from confide.encodings.encoding import Encoding, Floats, Scale

_MOST = 4.0
"""Deviations beyond which a number counts as that far: one outlier must not outweigh a column."""


def encode(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, 1]."""
    assert scale.mean is not None
    assert scale.deviation is not None
    return ((values - scale.mean) / scale.deviation).clip(-_MOST, _MOST)[:, None]


STANDARDISED = Encoding(
    encode_fn=encode,
    width_fn=lambda _: 1,
    bound_fn=lambda _: _MOST,
    needs=("mean", "deviation"),
)

__all__ = ["STANDARDISED"]
