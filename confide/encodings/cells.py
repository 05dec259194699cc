"""The public grids that figures of columns are released on, and a number's cell in them.

For quantiles, 64 equal cells see where most columns lie; 16 octaves towards the minimum, in 8 cells
each, see concentrations and amounts, whose range has to hold the largest possible. Histograms are
for people, and take fewer: 16 equal cells, the first of them in octaves. No schema chooses these
encodings: they are what a plan that asks for a release reads records by.
"""

from confide.encodings.encoding import Encoding, Floats, Scale

_EQUAL, _OCTAVES, _PER_OCTAVE = 64, 16, 8
_WIDE = 16


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
_WIDE_PLACES = sorted({i / _WIDE for i in range(_WIDE + 1)} | {2.0**-k for k in range(5, _OCTAVES)})
OCTAVE_CELLS = sum(place <= 1 / _WIDE for place in _WIDE_PLACES) - 1
"""Cells of a histogram that make up the first of the equal ones."""
WIDE_CELLS = len(_WIDE_PLACES) - 1
"""Number of cells of a histogram."""
WIDE_STARTS = tuple(_PLACES.index(place) for place in _WIDE_PLACES)
"""Where among the fine cells each of a histogram's begins; the last number is :data:`CELLS`."""


def grid(minimum: float, maximum: float) -> Floats:
    """Return the edges of all cells of a range: ascending, shape [CELLS + 1]."""
    import numpy

    return minimum + (maximum - minimum) * numpy.array(_PLACES)


def wide_grid(minimum: float, maximum: float) -> Floats:
    """Return the edges of a histogram's cells: ascending, shape [WIDE_CELLS + 1]."""
    import numpy

    return minimum + (maximum - minimum) * numpy.array(_WIDE_PLACES)


def encode(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, 1]: 1 to CELLS, so that 0 stands for a missing value."""
    import numpy

    inner = grid(scale.minimum, scale.maximum)[1:-1]
    cells = numpy.searchsorted(inner, values, side="right").astype(numpy.float64)
    return cells[:, None] + 1


def encode_figures(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, 2]: the cell as :func:`encode`, and the place in the range, in [0, 1]."""
    import numpy

    return numpy.stack([encode(values, scale)[:, 0], scale.fraction(values)], axis=1)


IN_CELLS = Encoding(encode_fn=encode, width_fn=lambda _: 1, bound_fn=lambda _: float(CELLS))

AS_FIGURES = Encoding(
    encode_fn=encode_figures, width_fn=lambda _: 2, bound_fn=lambda _: float(CELLS)
)

__all__ = [
    "AS_FIGURES",
    "CELLS",
    "IN_CELLS",
    "OCTAVE_CELLS",
    "WIDE_CELLS",
    "WIDE_STARTS",
    "grid",
    "wide_grid",
]
