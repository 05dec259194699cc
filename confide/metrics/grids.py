"""Public grids of scores, on which records are counted by score.

A score is the log odds of a class. All edges are multiples of 1/32, and those of a coarser grid are
edges of every finer one, so that counts add up between the edges that they share. Probability 1/2
is an edge of all.
"""

import functools
from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]

REACH = 16.0
"""Log odds beyond which all scores are in the outermost bins of exact counts."""
_FINEST, _COARSEST = 1024, 64
_MOST = 2**14
"""Largest number of counts of one table: with many classes bins are wider."""


def exact_bins(classes: int) -> int:
    """Return the number of bins of exact counts, which follows from the number of classes."""
    return bins_of(1 if classes == 2 else classes)


def bins_of(histograms: int) -> int:
    """Return the number of bins of each of so many exact histograms."""
    bins = _FINEST
    while bins > _COARSEST and histograms * bins * 2 > _MOST:
        bins //= 2
    return bins


@functools.cache
def edges_between(reach: float, bins: int) -> Floats:
    """Return the inner edges of equal bins from -reach to reach, in ascending order, [bins - 1].

    >>> edges_between(4.0, 4).tolist()
    [-2.0, 0.0, 2.0]
    """
    return numpy.linspace(-reach, reach, bins + 1)[1:-1]


def places(probabilities: Floats, reach: float, bins: int) -> Integers:
    """Return the bin of each probability, from 0, in the shape given.

    Args:
        probabilities: in [0, 1], of any shape.
        reach: log odds beyond which all is in the first and the last bin.
        bins: number of bins.
    """
    with numpy.errstate(divide="ignore"):
        logits = numpy.log(probabilities) - numpy.log1p(-probabilities)
    scaled = (logits.clip(-reach, reach) / reach + 1) / 2 * bins
    return numpy.asarray(scaled.astype(numpy.int64).clip(0, bins - 1))


def by_priority(edges: Floats) -> list[int]:
    """Return the places of edges in the order in which they are tried, the coarsest first.

    The same for everybody, so that institutions whose bins are wide share edges all the same.
    """
    marks = numpy.rint(edges * 32).astype(int)

    def rank(place: int) -> tuple[int, int, int]:
        mark = abs(int(marks[place]))
        # Multiples of 2 before those of 1, of 1/2 and so on; in each the middle first.
        level = min(6, (mark & -mark).bit_length() - 1) if mark else 6
        return -level, mark, place

    return sorted(range(len(edges)), key=rank)


def probability(log_odds: Floats) -> Floats:
    """Return the probability of log odds."""
    return numpy.asarray(1 / (1 + numpy.exp(-log_odds)))


def middles(edges: Floats) -> Floats:
    """Return a probability for each bin, at the middle of its log odds, shape [b].

    The outermost bins have one edge: they are taken to be as wide as their neighbours, and 1 where
    there is none.

    Args:
        edges: inner edges, ascending, shape [b - 1].
    """
    if not len(edges):
        return numpy.array([0.5])
    first = edges[1] - edges[0] if len(edges) > 1 else 1.0
    last = edges[-1] - edges[-2] if len(edges) > 1 else 1.0
    ends = numpy.concatenate([[edges[0] - first], edges, [edges[-1] + last]])
    return probability((ends[1:] + ends[:-1]) / 2)


def joined(counts: Floats, edges: Floats, kept: Floats) -> Floats:
    """Add up bins between the edges that are kept.

    Args:
        counts: shape [b, ...].
        edges: inner edges of their bins, shape [b - 1].
        kept: some of these edges, ascending.
    """
    starts = numpy.append(0, numpy.searchsorted(edges, kept) + 1)
    return numpy.asarray(numpy.add.reduceat(counts, starts, axis=0))


def shared(grids: Sequence[Floats]) -> Floats:
    """Return the edges that all grids have."""
    return functools.reduce(numpy.intersect1d, grids)


__all__ = [
    "REACH",
    "Floats",
    "Integers",
    "bins_of",
    "by_priority",
    "edges_between",
    "exact_bins",
    "joined",
    "middles",
    "places",
    "probability",
    "shared",
]
