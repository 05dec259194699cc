"""Histograms that leave with noise: counts of a binary tree of cells, and the quantiles in them.

Protected: one unit, zero-out. A unit adds to each column the path of one cell, from the root to its
leaf: a vector of norm sqrt(levels), or nothing where its value is missing. A group adds the mean of
its records' vectors, whose norm is no larger. So all columns together move by at most
:func:`sensitivity`, whatever the records are. Public are the columns, their ranges and the grid.

Noise of a node's own makes any interval of cells a sum of few noisy counts. Counts that should add
up are then made to: the least-squares estimate, by two passes over the tree (Hay, Rastogi, Miklau
and Suciu, "Boosting the Accuracy of Differentially Private Histograms Through Consistency", VLDB
2010, arXiv 0904.0942, section 4). That, adding institutions up and reading quantiles off is
post-processing.
"""

import math

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]


def levels(cells: int) -> int:
    """Return the number of a tree's levels, root and leaves among them."""
    return (cells - 1).bit_length() + 1


def num_nodes(cells: int) -> int:
    """Return the number of a tree's nodes."""
    return int(2 ** levels(cells) - 1)


def sensitivity(columns: int, cells: int) -> float:
    """Return the largest norm of what one unit adds to all trees together."""
    return math.sqrt(columns * levels(cells))


def shares(groups: Integers) -> Floats:
    """Return each record's share of its group, shape [n]: those of a group add up to at most 1.

    A little less, 2^-32, so that float64 sums of up to two million of them stay below it however
    they round.

    Args:
        groups: whose each record is, 0 to G - 1, shape [n].
    """
    parts: Floats = (1 - 2.0**-32) / numpy.bincount(groups)[groups]
    return parts


def tree_sums(cells: Integers, count: int, groups: Integers | None = None) -> Floats:
    """Add up what units add to the trees of their columns.

    Args:
        cells: of each record and column, from 0; -1 where the value is missing: shape [n, c].
        count: number of cells of a column.
        groups: whose each record is, 0 to G - 1, shape [n]; None if each is a unit of its own.

    Returns:
        Shape [c, num_nodes(count)], level by level from the root.
    """
    rows, columns = cells.shape
    weights = numpy.ones(rows)
    if groups is not None:
        weights = shares(groups)
    depth = levels(count)
    sums = numpy.zeros((columns, num_nodes(count)))
    for column in range(columns):
        present = (cells[:, column] >= 0) & (cells[:, column] < count)
        leaves = numpy.bincount(
            cells[present, column], weights=weights[present], minlength=2 ** (depth - 1)
        )
        parts = [leaves.reshape(2**level, -1).sum(axis=1) for level in range(depth)]
        sums[column] = numpy.concatenate(parts)
    return sums


def consistent(noisy: Floats, count: int) -> Floats:
    """Return the counts of the leaves that fit all noisy counts of one tree best.

    Args:
        noisy: shape [num_nodes(count)], equal noise on every node.
        count: number of cells.

    Returns:
        Shape [count].
    """
    depth = levels(count)
    parts = [noisy[2**level - 1 : 2 ** (level + 1) - 1] for level in range(depth)]
    best = [*parts]
    # From the leaves up: a node's own count, and what its children say, by their variances.
    for level in range(depth - 2, -1, -1):
        below = 2.0 ** (depth - level)
        children = best[level + 1].reshape(-1, 2).sum(axis=1)
        best[level] = ((below - below / 2) * parts[level] + (below / 2 - 1) * children) / (
            below - 1
        )
    # From the root down: what children lack of their parent's count, half each.
    for level in range(1, depth):
        children = best[level].reshape(-1, 2).sum(axis=1)
        best[level] = best[level] + numpy.repeat((best[level - 1] - children) / 2, 2)
    return best[depth - 1][:count]


def quantile_edges(leaves: Floats, grid: Floats, bins: int) -> list[float]:
    """Read inner edges off a histogram: its quantiles, by interpolation inside cells.

    Tied values make quantiles fall together; a cell's width keeps them apart, and those that are
    the same all the same are one.

    Args:
        leaves: counts of the cells, which noise may have made negative: shape [m].
        grid: edges of the cells: shape [m + 1].
        bins: number of cells that the edges are to make.

    Returns:
        At most ``bins`` - 1 numbers inside the grid, ascending and distinct; equally many cells of
        the grid between them where nothing was counted.
    """
    # What is counted so far cannot fall; a running maximum is the nearest thing that does not.
    reached = numpy.maximum.accumulate(numpy.maximum(numpy.cumsum(leaves), 0.0))
    if reached[-1] <= 0:
        reached = numpy.arange(1.0, len(leaves) + 1)
    # Rising everywhere, however little, so that each share has one place.
    steps = numpy.concatenate([[0.0], reached]) / reached[-1] + numpy.arange(len(grid)) * 1e-9
    shares = numpy.arange(1, bins) / bins * steps[-1]
    found = numpy.unique(numpy.interp(shares, steps, grid))
    return [float(edge) for edge in found if grid[0] < edge < grid[-1]]


__all__ = [
    "Floats",
    "Integers",
    "consistent",
    "levels",
    "num_nodes",
    "quantile_edges",
    "sensitivity",
    "shares",
    "tree_sums",
]
