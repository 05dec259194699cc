"""Public bins of predicted numbers and of residuals, and records counted in them.

Predictions are counted in equal bins of the public range, or of its logarithm where that is
learnt. Residuals, predictions less numbers as shares of the range, are counted in octaves on either
side of 0: what a model of a wide range is off by is a small share of it.

Exact counts, as a policy lets them out, hold enough units in each bin, since a coordinator chooses
the model and so who shares one; of a bin's numbers the sum is told, to 1/1024 of the range.
"""

import math
from dataclasses import dataclass

import numpy

from confide.metrics.counts import joined_starts, neighbour_starts
from confide.metrics.floor import Floor
from confide.metrics.grids import Floats, Integers

NOISY_BINS, EXACT_BINS = 32, 256
"""Bins of predictions."""
_OCTAVES = 9
RESIDUAL_EDGES = tuple(
    [-(2.0**-k) for k in range(1, _OCTAVES + 1)] + [0.0] + [2.0**-k for k in range(_OCTAVES, 0, -1)]
)
"""Inner edges of the bins of residuals, as shares of the range."""
RESIDUAL_BINS = len(RESIDUAL_EDGES) + 1
SUM_UNIT, BIN_UNIT = 2**30, 2**10
"""Exact sums over all records, and over those of a bin, are whole numbers of one over these."""


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Bins of predictions, as shares of a public range.

    Attributes:
        span: length of the range, in the number's unit.
        is_log: whether bins are equal on the scale of log(1 + distance from the minimum).
    """

    span: float
    is_log: bool = False

    def places(self, shares: Floats, bins: int) -> Integers:
        """Return the bin of each share, from 0, shape [n]."""
        mapped = shares
        if self.is_log:
            mapped = numpy.log1p(shares * self.span) / math.log1p(self.span)
        return numpy.asarray((mapped * bins).astype(numpy.int64).clip(0, bins - 1))

    def shares(self, mapped: Floats) -> Floats:
        """Return the share of the range at a share of the scale."""
        if not self.is_log:
            return mapped
        return numpy.asarray(numpy.expm1(mapped * math.log1p(self.span)) / self.span)


def residual_places(residuals: Floats) -> Integers:
    """Return the bin of each residual, from 0, shape [n]."""
    return numpy.asarray(numpy.searchsorted(RESIDUAL_EDGES, residuals, side="right"))


def residual_middles() -> Floats:
    """Return the middle of each bin of residuals, shape [bins]."""
    edges = numpy.array([-1.0, *RESIDUAL_EDGES, 1.0])
    middles: Floats = (edges[1:] + edges[:-1]) / 2
    return middles


def exact_residuals(residuals: Floats, floor: Floor) -> Integers | None:
    """Count residuals.

    Args:
        residuals: shape [n], n >= 1.
        floor: smallest number of units in a bin.

    Returns:
        Records, and whether a bin is joined to the one before it, shape [bins, 2]; None for fewer
        units than the floor.
    """
    if not floor.enough(numpy.ones(len(residuals), dtype=bool)):
        return None
    place = residual_places(residuals)
    starts = neighbour_starts(place, RESIDUAL_BINS, floor)
    counts = numpy.zeros((RESIDUAL_BINS, 2), dtype=numpy.int64)
    fine = numpy.bincount(place, minlength=RESIDUAL_BINS)
    counts[starts, 0] = numpy.add.reduceat(fine, starts)
    counts[:, 1] = 1
    counts[starts, 1] = 0
    return counts


def exact_squares(bins: Bins, shares: Floats, truth: Floats, floor: Floor) -> Integers | None:
    """Add up squares over all records, and numbers over those of each bin of predictions.

    Args:
        bins: the bins.
        shares: predictions, in [0, 1], shape [n], n >= 1.
        truth: numbers, in [0, 1], shape [n].
        floor: smallest number of units in a bin.

    Returns:
        Sums of e^2, (2 t - 1)^2, t and 1 - t, in units of 1 / ``SUM_UNIT``; then for each bin its
        records, the sum of t in units of 1 / ``BIN_UNIT``, and whether it is joined to the one
        before it: shape [4 + 3 bins]. None for fewer units than the floor.
    """
    if not floor.enough(numpy.ones(len(truth), dtype=bool)):
        return None
    squares = ((shares - truth) ** 2).sum(), ((2 * truth - 1) ** 2).sum()
    above = round(float(truth.sum()) * SUM_UNIT)
    sums = [*(round(float(it) * SUM_UNIT) for it in squares), above, len(truth) * SUM_UNIT - above]
    place = bins.places(shares, EXACT_BINS)
    starts = joined_starts(place, EXACT_BINS, floor)
    counts = numpy.zeros((EXACT_BINS, 3), dtype=numpy.int64)
    counts[starts, 0] = numpy.add.reduceat(numpy.bincount(place, minlength=EXACT_BINS), starts)
    summed = numpy.bincount(place, weights=truth, minlength=EXACT_BINS)
    counts[starts, 1] = numpy.rint(numpy.add.reduceat(summed, starts) * BIN_UNIT)
    counts[:, 2] = 1
    counts[starts, 2] = 0
    return numpy.concatenate([numpy.array(sums, dtype=numpy.int64), counts.ravel()])


__all__ = [
    "BIN_UNIT",
    "EXACT_BINS",
    "NOISY_BINS",
    "RESIDUAL_BINS",
    "RESIDUAL_EDGES",
    "SUM_UNIT",
    "Bins",
    "exact_residuals",
    "exact_squares",
    "residual_middles",
    "residual_places",
]
