"""One input a cell, 1 for the cell that a number lies in."""

from confide.encodings.encoding import Encoding, Floats, Scale


def encode(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, cells]."""
    import numpy

    cells = numpy.searchsorted(numpy.array(scale.edges[1:-1]), values, side="right")
    rows = numpy.zeros((len(values), scale.cells))
    rows[numpy.arange(len(values)), cells] = 1
    return rows


ONE_HOT = Encoding(
    encode_fn=encode,
    width_fn=lambda scale: scale.cells,
    bound_fn=lambda _: 1.0,
    has_edges=True,
)

__all__ = ["ONE_HOT"]
