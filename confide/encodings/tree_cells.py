"""Cells that trees split a number at, counted from 1; 0 stands for a missing value.

Cells are those of the public grid, or of the column's own edges. Numbers and edges are compared in
float32, as xgboost does: an exported tree sends every number the way that it was trained.
"""

from collections.abc import Callable

from confide.encodings.cells import grid
from confide.encodings.encoding import Encoding, Floats, Scale

NO, YES = 1.0, 2.0
"""Cells of a category that a record does not have, and that it has."""


def _of_grid(scale: Scale) -> Floats:
    return grid(scale.minimum, scale.maximum)


def _of_column(scale: Scale) -> Floats:
    import numpy

    return numpy.array(scale.edges)


_EDGES: dict[str, Callable[[Scale], Floats]] = {"grid": _of_grid, "edges": _of_column}
CELLS = tuple(_EDGES)
"""Where cells come from: the public grid, or the column's edges."""
RAW = "raw"
"""In place of cells: the number itself, NaN where it is missing, as xgboost takes it."""


def thresholds(cells: str, scale: Scale) -> Floats:
    """Return where a column's cells meet: a number from ``thresholds[i]`` on is past cell i + 1.

    Args:
        cells: one of :data:`CELLS`.
        scale: what is public of the column.

    Returns:
        Numbers of float32, ascending and distinct, above the minimum; fewer where float32 tells
        too few apart.
    """
    import numpy

    inner = numpy.unique(_EDGES[cells](scale)[1:-1].astype(numpy.float32))
    # One at the minimum would part numbers that are all clipped to it
    return inner[inner > numpy.float32(scale.minimum)].astype(numpy.float64)


def _in_cells(cells: str) -> Encoding:
    def encode(values: Floats, scale: Scale) -> Floats:
        import numpy

        as_float32 = values.astype(numpy.float32).astype(numpy.float64)
        past = numpy.searchsorted(thresholds(cells, scale), as_float32, side="right")
        return past.astype(numpy.float64)[:, None] + 1

    return Encoding(
        encode_fn=encode,
        width_fn=lambda _: 1,
        bound_fn=lambda scale: float(len(thresholds(cells, scale)) + 1),
    )


TREE_ENCODINGS: dict[str, Encoding] = {
    **{cells: _in_cells(cells) for cells in CELLS},
    RAW: Encoding(
        encode_fn=lambda values, _: values[:, None],
        width_fn=lambda _: 1,
        bound_fn=lambda scale: max(abs(scale.minimum), abs(scale.maximum)),
        missing=float("nan"),
    ),
}
"""Encodings of a tree's inputs, by what they are called in ``TabularConfig.for_trees``."""

__all__ = ["CELLS", "NO", "RAW", "TREE_ENCODINGS", "YES", "thresholds"]
