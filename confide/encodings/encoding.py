"""What an encoding of a numeric column is: from a number and public figures to inputs of a model.

An encoding reads one number at a time, so that what a record becomes depends on no other record.
All it knows of a column is public: its range, and edges that come from the schema, from a private
release, or from the range alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

# Configs know encodings by their widths, and a command's help computes none: NumPy is loaded where
# numbers are encoded.
if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Floats = NDArray[numpy.float64]
else:
    Floats = Any


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What is public of a numeric column.

    Attributes:
        minimum: lowest value of its range.
        maximum: highest value of its range.
        edges: ascending, distinct, from ``minimum`` to ``maximum``; cells lie between neighbours.
        bins: number of cells asked for, >= 2.
        mean: public mean; None where the schema has none.
        deviation: public standard deviation, > 0; None where the schema has none.
    """

    minimum: float
    maximum: float
    edges: tuple[float, ...]
    bins: int
    mean: float | None = None
    deviation: float | None = None

    @property
    def cells(self) -> int:
        """Number of cells between the edges."""
        return len(self.edges) - 1

    def fraction(self, values: Floats) -> Floats:
        """Return where values [n] lie in the range, in [0, 1]."""
        return (values - self.minimum) / (self.maximum - self.minimum)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """One way to encode a number: an entry of :data:`~confide.encodings.table.ENCODINGS`.

    Attributes:
        encode_fn: finite values [n] inside the range, and what is public of their column -> inputs
            [n, d], float64.
        width_fn: what is public of the column -> d.
        bound_fn: what is public of the column -> a bound on the L2 norm of one encoded value.
        needs: settings of a column that it cannot do without.
        has_edges: whether it uses the column's edges.
        missing: what each input is where the value is missing.
    """

    encode_fn: Callable[[Floats, Scale], Floats]
    width_fn: Callable[[Scale], int]
    bound_fn: Callable[[Scale], float]
    needs: tuple[str, ...] = ()
    has_edges: bool = False
    missing: float = 0.0


def each(function: Callable[[float], float], values: Floats) -> Floats:
    """Apply a function to each distinct value.

    An array's functions may round a value otherwise by where in the array it stands, and records
    are to be encoded alike whatever lies beside them.
    """
    import numpy

    distinct, places = numpy.unique(values, return_inverse=True)
    return numpy.array([function(value) for value in distinct.tolist()], dtype=float)[places]


def public_edges(minimum: float, maximum: float, bins: int) -> tuple[float, ...]:
    """Return edges that follow from a range alone.

    Half of the cells are equally wide. The first of them, at the minimum, is halved again and
    again: concentrations, amounts and counts crowd there, within a range that has to hold the
    largest one possible.

    Args:
        minimum: lowest value.
        maximum: highest value, > minimum.
        bins: number of cells, >= 2.

    Returns:
        Ascending and distinct, both ends among them; fewer where floats between are too few.

    >>> public_edges(0, 80, 8)
    (0.0, 1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0)
    """
    wide = bins - bins // 2
    width = (maximum - minimum) / wide
    octaves = [minimum + width * 2.0**-k for k in range(bins // 2, 0, -1)]
    return between(minimum, maximum, [*octaves, *(minimum + k * width for k in range(1, wide))])


def between(minimum: float, maximum: float, inner: list[float]) -> tuple[float, ...]:
    """Return edges of a range: both ends and what lies between them, ascending and distinct."""
    inside = {float(edge) for edge in inner if minimum < edge < maximum}
    return (float(minimum), *sorted(inside), float(maximum))


_LOG_UNITS = 1000.0
"""Where a logarithm's bend lies: numbers are counted in thousandths of the range."""


def logarithmic(values: Floats, scale: Scale) -> Floats:
    """Map values [n] to [0, 1] by log(1 + distance from the minimum), in 1/1000 of the range."""
    return each(math.log1p, _LOG_UNITS * scale.fraction(values)) / math.log1p(_LOG_UNITS)


__all__ = ["Encoding", "Floats", "Scale", "between", "each", "logarithmic", "public_edges"]
