"""Records counted by the score of a class, and what follows from the counts.

Counts of institutions add up, so that every figure is computed in the same way for one of them and
for all. With noise in them counts may be negative. Figures are made of them as they are: sums over
bins are right in the mean, and would not be if empty bins were lifted to zero.

Shapes: b bins in the order of scores, and the last axis is (rest, class). Functions of counts take
any leading axes, such as draws.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from confide.metrics.grids import (
    REACH,
    Floats,
    bins_of,
    edges_between,
    joined,
    middles,
    shared,
)
from confide.metrics.ranks import RANKS
from confide.metrics.tally import ScoreTally

_NOISY_REACH, _NOISY_BINS = 4.0, 16
_DRAWS, _SEED = 200, 0
_MOST_DRAWN = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreTable:
    """Records by the score of one class.

    Attributes:
        counts: records of the rest and of the class, float64 of shape [b, 2].
        edges: inner edges of the bins, log odds in ascending order, shape [b - 1].
        variances: of the noise in each count of a bin, shape [b]; 0 for exact ones.
    """

    counts: Floats
    edges: Floats
    variances: Floats

    @property
    def is_noisy(self) -> bool:
        """Whether there is noise in the counts."""
        return bool(self.variances.any())

    @property
    def records(self) -> float:
        """Number of records, as far as the counts tell; at least 1."""
        return max(1.0, float(self.counts.sum()))

    @functools.cached_property
    def middles(self) -> Floats:
        """A probability for each bin, shape [b]."""
        return middles(self.edges)

    @functools.cached_property
    def likely(self) -> Floats:
        """Nearest counts of which none is negative, shape [b, 2]: to draw records from."""
        return nearest(self.counts) if self.is_noisy else self.counts

    def between(self, kept: Floats) -> "ScoreTable":
        """Return the same records between some of the edges."""
        return ScoreTable(
            counts=joined(self.counts, self.edges, kept),
            edges=kept,
            variances=joined(self.variances, self.edges, kept),
        )

    def reversed(self) -> "ScoreTable":
        """Return the table of the first of two classes in place of the second."""
        return ScoreTable(
            counts=self.counts[::-1, ::-1], edges=-self.edges[::-1], variances=self.variances[::-1]
        )

    def narrowed(self, most: int) -> "ScoreTable":
        """Return the same records in at most so many bins, every second edge left out."""
        table = self
        while len(table.edges) >= most:
            table = table.between(table.edges[1::2])
        return table

    @functools.cached_property
    def draws(self) -> "Draws":
        """Tables that records and noise like these might have given.

        Counts are drawn by Poisson's law, the bootstrap of records whose number is drawn too, and
        noise anew.
        """
        table = self.narrowed(_MOST_DRAWN)
        # Public randomness: this says how sure a figure is and hides nothing.
        rng = numpy.random.default_rng(_SEED)
        drawn = rng.poisson(table.likely, size=(_DRAWS, *table.counts.shape)).astype(float)
        if table.is_noisy:
            noise = rng.normal(size=drawn.shape) * numpy.sqrt(table.variances)[:, None]
            drawn += noise
        return Draws(counts=drawn, edges=table.edges)


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Tables drawn to see how figures spread.

    Attributes:
        counts: shape [d, b, 2].
        edges: inner edges of the bins, shape [b - 1].
    """

    counts: Floats
    edges: Floats


def tables_of(tally: ScoreTally, classes: int) -> list[ScoreTable]:
    """Read the tables of scores of a tally: of the second of two classes, or of every class.

    Args:
        tally: of one split.
        classes: number of classes.

    Returns:
        Nothing if it holds none, or some of another shape.
    """
    return tables_in(tally, RANKS, 1 if classes == 2 else classes)


def tables_in(
    tally: ScoreTally, name: str, histograms: int, *, exact: int | None = None
) -> list[ScoreTable]:
    """Read so many tables of a statistic; nothing if it holds none, or some of another shape.

    Args:
        tally: of one split.
        name: of the statistic.
        histograms: number of tables.
        exact: bins of each where counts are exact; None for the usual number.
    """
    sums = numpy.asarray(tally.sums.get(name, ()), dtype=float)
    bins, columns = (_NOISY_BINS, 2) if tally.std else (exact or bins_of(histograms), 3)
    if sums.size != histograms * bins * columns:
        return []
    parts = sums.reshape(histograms, bins, columns)
    if not tally.std:
        return [_exact_table(part) for part in parts]
    # A record's row has length 1 over all histograms, and counts as 1 in each.
    scale = numpy.sqrt(histograms)
    edges, variances = edges_between(_NOISY_REACH, bins), numpy.full(bins, (scale * tally.std) ** 2)
    return [ScoreTable(counts=scale * part, edges=edges, variances=variances) for part in parts]


def _exact_table(part: Floats) -> ScoreTable:
    """Read counts by bin, of which some are joined to the one before: shape [bins, 3]."""
    edges = edges_between(REACH, len(part))
    starts = numpy.flatnonzero(part[1:, 2] == 0)
    table = ScoreTable(counts=part[:, :2], edges=edges, variances=numpy.zeros(len(part)))
    return table.between(edges[starts])


def add_up(tables: Sequence[ScoreTable]) -> ScoreTable:
    """Add up tables of institutions, at least one, between the edges that they share."""
    kept = shared([table.edges for table in tables])
    same = [table.between(kept) for table in tables]
    return ScoreTable(
        counts=numpy.sum([table.counts for table in same], axis=0),
        edges=kept,
        variances=numpy.sum([table.variances for table in same], axis=0),
    )


def nearest(counts: Floats) -> Floats:
    """Return the nearest counts with the same sum of which none is negative, [..., b, 2].

    Projection on a simplex (Duchi et al., "Efficient Projections onto the l1-Ball", ICML 2008). A
    sum below 1 becomes 1.
    """
    flat = counts.reshape(*counts.shape[:-2], -1)
    totals = flat.sum(axis=-1, keepdims=True).clip(min=1.0)
    ordered = -numpy.sort(-flat, axis=-1)
    excess = (ordered.cumsum(axis=-1) - totals) / numpy.arange(1, flat.shape[-1] + 1)
    last = (ordered > excess).sum(axis=-1, keepdims=True) - 1
    shift = numpy.take_along_axis(excess, last, axis=-1)
    return numpy.asarray((flat - shift).clip(min=0.0).reshape(counts.shape))


def auc(counts: Floats) -> Floats:
    """Return the area under the ROC curve, ties in a bin counting half: [..., b, 2] -> [...]."""
    rest, found = counts[..., 0], counts[..., 1]
    below = rest.cumsum(axis=-1) - rest / 2
    pairs = found.sum(axis=-1).clip(min=0.0) * rest.sum(axis=-1).clip(min=0.0)
    return divide((found * below).sum(axis=-1), pairs).clip(0, 1)


def average_precision(counts: Floats) -> Floats:
    """Return the mean of precision over recall: [..., b, 2] -> [...].

    Records of one bin are taken to be in any order: precision is that at the middle one of its
    right ones, of p among t, which stands at (t + 1) / 2 in the mean.
    """
    right, taken = counts[..., ::-1, 1], counts.sum(axis=-1)[..., ::-1]
    before, above = right.cumsum(axis=-1) - right, taken.cumsum(axis=-1) - taken
    at_middle = (before + (right + 1) / 2) / (above + (taken + 1) / 2).clip(min=0.5)
    summed = (at_middle.clip(0, 1) * right).sum(axis=-1)
    return divide(summed, right.sum(axis=-1)).clip(0, 1)


def brier(counts: Floats, edges: Floats) -> Floats:
    """Return the mean squared error of the class's probability, bins at their middle: -> [...]."""
    middle = middles(edges)
    errors = counts[..., 1] * (1 - middle) ** 2 + counts[..., 0] * middle**2
    return divide(errors.sum(axis=-1), counts.sum(axis=(-1, -2))).clip(0, 1)


def spread(values: Floats) -> float:
    """Return the standard deviation of a figure over draws: half of where 68 % of them lie."""
    known = values[numpy.isfinite(values)]
    if not known.size:
        return 0.0
    low, high = numpy.percentile(known, [15.87, 84.13])
    return float(high - low) / 2


def divide(value: Floats, by: Floats, otherwise: float = numpy.nan) -> Floats:
    """Divide; ``otherwise`` where there is nothing to divide by."""
    safe = numpy.where(by > 0, by, 1.0)
    return numpy.asarray(numpy.where(by > 0, value / safe, otherwise))


__all__ = [
    "Draws",
    "ScoreTable",
    "add_up",
    "auc",
    "average_precision",
    "brier",
    "divide",
    "nearest",
    "spread",
    "tables_in",
    "tables_of",
]
