"""Piecewise-linear encoding: one input a cell, which says how far a number fills it.

A linear model of these inputs is a piecewise-linear function of the number, whatever its shape
(Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning",
NeurIPS 2022, arXiv 2203.05556, section 3.2). Inputs run from -1, not reached, to 1, passed.
"""

import math

from confide.encodings.encoding import Encoding, Floats, Scale


def encode(values: Floats, scale: Scale) -> Floats:
    """Map [n] to [n, cells]."""
    import numpy

    edges = numpy.array(scale.edges)
    filled: Floats = ((values[:, None] - edges[:-1]) / (edges[1:] - edges[:-1])).clip(0, 1)
    return 2 * filled - 1


PIECEWISE = Encoding(
    encode_fn=encode,
    width_fn=lambda scale: scale.cells,
    bound_fn=lambda scale: math.sqrt(scale.cells),
    has_edges=True,
)

__all__ = ["PIECEWISE"]
