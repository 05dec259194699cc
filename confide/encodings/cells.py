"""The public grid that quantiles are released on, and a number's cell in it.

64 equal cells see where most columns lie; 16 octaves towards the minimum, in 8 cells each, see
concentrations and amounts, whose range has to hold the largest possible. No schema chooses this
encoding: it is what a plan that asks for a release reads records by.
"""

from confide.encodings.encoding import Encoding, Floats, Scale

_EQUAL, _OCTAVES, _PER_OCTAVE = 64, 16, 8


# Sums of powers of two, without a rounding: edges that lie in both are one.
_PLACES = sorted(
    {i / _EQUAL for i in range(_EQUAL + 1)}
    | {
        2.0 ** -(k + 1) * (1 + i / _PER_OCTAVE)
        for k in range(_OCTAVES)
        for i in range(_PER_OCTAVE + 1)
    }
)
CELLS = len(_PLACES) - 1
"""Number of cells."""


def grid(minimum: float, maximum: float) -> Floats:
    """Return the edges of all cells of a range: ascending, shape [CELLS + 1]."""
    import numpy

    return minimum + (maximum - minimum) * numpy.array(_PLACES)


def encode(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, 1]: 1 to CELLS, so that 0 stands for a missing value."""
    import numpy

    inner = grid(scale.minimum, scale.maximum)[1:-1]
    cells = numpy.searchsorted(inner, values, side="right").astype(numpy.float64)
    return cells[:, None] + 1


IN_CELLS = Encoding(encode_fn=encode, width_fn=lambda _: 1, bound_fn=lambda _: float(CELLS))

__all__ = ["CELLS", "IN_CELLS", "grid"]
