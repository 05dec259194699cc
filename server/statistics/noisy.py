"""Figures from noisy sums, each with the 95 % interval of its noise.

Everything here is post-processing. Intervals cover noise alone, and not which records an
institution happens to have. Ratios are linearised (the delta method) where their denominator is
far from 0; elsewhere a figure has no estimate, and its interval is all that is possible.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy

from confide.config.outcomes.survival import SurvivalConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.task import TaskConfig
from confide.encodings.cells import CELLS, OCTAVE_CELLS, WIDE_CELLS, WIDE_STARTS, wide_grid
from confide.privacy.histogram_tree import levels
from confide.releases.figures import Partition, numeric_columns, pairs
from confide.releases.release import Floats
from confide.releases.statistics import BOTH
from confide.releases.targets import LABEL, TRUTH, target_number
from confide.server.statistics.summary import (
    CROWDED,
    QUANTILES,
    ColumnFigures,
    Figure,
    Histogram,
    OutcomeFigures,
    Summary,
    pair_name,
)

_Z = 1.959963984540054
_SURE = 2 * _Z
"""A denominator is far from 0 if it is so many standard deviations above."""


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """Sums over institutions, with the noise of all of them.

    Attributes:
        units: n, declared by them together.
        institutions: how many they are.
        floor: smallest count that is told as a number.
        counts: partition's key -> counts of its cells, and their covariance.
        moments: [c, 3], that of a number that is predicted the last.
        moments_std: standard deviation of each.
        products: [pairs, 6].
        products_std: standard deviation of each.
    """

    units: int
    institutions: int
    floor: float
    counts: "dict[str, tuple[Floats, Floats]]"
    moments: Floats
    moments_std: float
    products: Floats
    products_std: float


class _Cells(NamedTuple):
    """Counts of one partition: as they came, with their covariance, and as they are told."""

    counts: Floats
    covariance: Floats
    told: Sequence[Figure]


def summarise_noisy(task: TaskConfig, parts: Sequence[Partition], sums: Noisy) -> Summary:
    """Read figures off noisy sums.

    Args:
        task: schema of the records.
        parts: all partitions of it.
        sums: what institutions released together.
    """
    names, columns = numeric_columns(task), {}
    for part in parts:
        if not part.is_column:
            continue
        cells = _cells(sums, part)
        column = task.table_columns[part.name]
        if part.kind == "numeric":
            own = sums.moments[names.index(part.name)]
            columns[part.name] = _numeric(column, sums, own, cells)
        else:
            columns[part.name] = ColumnFigures(
                kind="categorical",
                institutions=sums.institutions,
                missing=cells.told[-1].scaled(1 / sums.units),
                categories=dict(zip(category_names(column), cells.told[:-1], strict=True)),
            )
    correlations = {
        pair_name(names[i], names[j]): _correlation(products, sums.products_std)
        for (i, j), products in zip(pairs(task), sums.products, strict=True)
    }
    labels, outcome = _outcome(task, [part for part in parts if not part.is_column], sums)
    return Summary(
        units=sums.units,
        institutions=sums.institutions,
        columns=columns,
        labels=labels,
        correlations=correlations,
        outcome=outcome,
    )


def _cells(sums: Noisy, part: Partition) -> _Cells:
    counts, covariance = sums.counts[part.key]
    told = [_count(sums, x, math.sqrt(v)) for x, v in _with_variances(counts, covariance)]
    return _Cells(counts, covariance, told)


def _outcome(
    task: TaskConfig, parts: Sequence[Partition], sums: Noisy
) -> tuple[dict[str, Figure], OutcomeFigures]:
    """Return units by label, and all that is known of what is predicted."""
    labels: dict[str, Figure] = {}
    found = OutcomeFigures(kind=task.outcome.kind, column=", ".join(task.target_columns))
    for part in parts:
        cells, column = _cells(sums, part), target_number(task)
        if part.kind == LABEL:
            names = task.outcome.label_names(task.labelling)
            labels = dict(zip(names, cells.told, strict=True))
        elif part.kind == TRUTH:
            labels[part.name] = cells.told[1]
        elif column is not None:
            found = replace(found, number=_numeric(column, sums, sums.moments[-1], cells))
        elif isinstance(task.outcome, SurvivalConfig):
            found = _ends(found, task.outcome.ends, sums, cells)
    shares = {name: count.scaled(1 / sums.units) for name, count in labels.items()}
    return labels, replace(found, shares=shares)


def _ends(
    found: OutcomeFigures, ends: Sequence[float], sums: Noisy, cells: _Cells
) -> OutcomeFigures:
    """Return units by how and when they end."""
    edges, count = [0.0, *ends], len(ends)
    totals = []
    for place in (slice(None, count), slice(count, None)):
        deviation = math.sqrt(float(cells.covariance[place, place].sum()))
        totals.append(_count(sums, float(cells.counts[place].sum()), deviation))
    return replace(
        found,
        events=totals[0],
        censored=totals[1],
        event_times=Histogram(edges=edges, counts=cells.told[:count]),
        censored_times=Histogram(edges=[*edges, edges[-1]], counts=cells.told[count:]),
    )


def category_names(column: ColumnConfig) -> list[str]:
    """Return the names of a column's categories, in the order of their cells."""
    return [*column.categories, *(["other"] if column.unseen == "other" else [])]


def _with_variances(counts: Floats, covariance: Floats) -> list[tuple[float, float]]:
    return [(float(x), float(v)) for x, v in zip(counts, numpy.diag(covariance), strict=True)]


def _count(sums: Noisy, value: float, std: float) -> Figure:
    """Return a count; a small one is told as such, whatever its noise makes of it."""
    low, high = max(0.0, value - _Z * std), max(0.0, value + _Z * std)
    if value < sums.floor:
        return Figure(None, 0.0, min(float(sums.units), max(high, sums.floor)))
    return Figure(min(value, float(sums.units)), min(low, sums.units), min(high, sums.units))


def _numeric(
    column: ColumnConfig,
    sums: Noisy,
    moments: Floats,
    cells: _Cells,
) -> ColumnFigures:
    assert column.minimum is not None
    assert column.maximum is not None
    half = (column.maximum - column.minimum) / 2
    edges, std = wide_grid(column.minimum, column.maximum), sums.moments_std
    variance = _estimate(_variance, moments, std, denominator=0)
    return ColumnFigures(
        kind="numeric",
        institutions=sums.institutions,
        missing=cells.told[-1].scaled(1 / sums.units),
        mean=_bounded(_estimate(_mean, moments, std, denominator=0), -1, 1).scaled(
            half, column.minimum + half
        ),
        deviation=_root(variance).scaled(half),
        quantiles={
            f"{share:g}": _quantile(share, cells.counts[:-1], cells.covariance[:-1, :-1], edges)
            for share in QUANTILES
        },
        histogram=_histogram(sums, cells, edges),
    )


def _histogram(sums: Noisy, cells: _Cells, edges: Floats) -> Histogram:
    """Return the counts of cells; octaves as one, unless many units are in them."""
    counts, covariance = cells.counts[:-1], cells.covariance[:-1, :-1]
    if counts[:OCTAVE_CELLS].sum() > CROWDED * counts.sum():
        return Histogram(edges=edges.tolist(), counts=cells.told[:-1])
    joined = numpy.zeros((len(counts) - OCTAVE_CELLS + 1, len(counts)))
    joined[0, :OCTAVE_CELLS] = 1.0
    joined[1:, OCTAVE_CELLS:] = numpy.eye(len(counts) - OCTAVE_CELLS)
    figures = _with_variances(joined @ counts, joined @ covariance @ joined.T)
    return Histogram(
        edges=[float(edges[0]), *edges[OCTAVE_CELLS:].tolist()],
        counts=[_count(sums, x, math.sqrt(v)) for x, v in figures],
    )


def _mean(sums: Floats) -> float:
    """Return the mean of (count, sum, sum of squares)."""
    return float(sums[1] / sums[0])


def _variance(sums: Floats) -> float:
    """Return the variance of (count, sum, sum of squares)."""
    return float(sums[2] / sums[0] - (sums[1] / sums[0]) ** 2)


def _covariance(sums: Floats) -> float:
    """Return the covariance of a pair's six sums."""
    both = sums[BOTH]
    return float(sums[0] / both - sums[1] / both * sums[2] / both)


def _estimate(
    function: Callable[[Floats], float], sums: Floats, std: float, *, denominator: int
) -> Figure | None:
    """Return a ratio of noisy sums with its interval; None if its denominator may be 0.

    Args:
        function: of the sums.
        sums: with noise of ``std`` each.
        std: standard deviation.
        denominator: place of the sum that others are divided by.
    """
    if sums[denominator] <= max(_SURE * std, 0.0):
        return None
    step = max(std, 1e-6 * abs(float(sums[denominator]))) / 10
    slopes = [
        (function(sums + step * unit) - function(sums - step * unit)) / (2 * step)
        for unit in numpy.eye(len(sums))
    ]
    value, half = function(sums), _Z * std * math.hypot(*slopes)
    return Figure(value, value - half, value + half)


def _bounded(figure: Figure | None, least: float, largest: float) -> Figure:
    """Keep a figure in its range; all of it where nothing is known."""
    if figure is None or figure.value is None:
        return Figure(None, least, largest)
    value, low, high = (
        min(max(it, least), largest) for it in (figure.value, figure.low, figure.high)
    )
    return Figure(value, low, high)


def _root(variance: Figure | None) -> Figure:
    """Return a deviation, 0 to 1, with its variance's interval."""
    known = _bounded(variance, 0, 1)
    value = None if known.value is None else math.sqrt(known.value)
    return Figure(value, math.sqrt(known.low), math.sqrt(known.high))


def _correlation(sums: Floats, std: float) -> Figure:
    def correlation(sums: Floats) -> float:
        one = _variance(numpy.array([sums[BOTH], sums[1], sums[4]]))
        other = _variance(numpy.array([sums[BOTH], sums[2], sums[5]]))
        # Small steps around a variance of almost 0 would pass it
        return _covariance(sums) / math.sqrt(max(one, 1e-12) * max(other, 1e-12))

    for places in ((BOTH, 1, 4), (BOTH, 2, 5)):
        variance = _estimate(_variance, sums[list(places)], std, denominator=0)
        # Divided by what may be 0, a covariance is anything
        if variance is None or variance.low <= 0:
            return Figure(None, -1.0, 1.0)
    return _bounded(_estimate(correlation, sums, std, denominator=BOTH), -1, 1)


def _quantile(share: float, counts: Floats, covariance: Floats, edges: Floats) -> Figure:
    """Read a quantile off noisy counts.

    Its interval ends at edges of cells: from the last one that surely lies below, to the first that
    surely lies above.
    """
    cells = len(counts)
    # Rows: how much more lies below each edge than the share of all
    below = numpy.tril(numpy.ones((cells + 1, cells)), -1) - share
    excess = below @ counts
    std = numpy.sqrt(numpy.maximum(numpy.einsum("ij,jk,ik->i", below, covariance, below), 0.0))
    total = counts.sum()
    if total <= _SURE * math.sqrt(max(float(covariance.sum()), 0.0)):
        return Figure(None, float(edges[0]), float(edges[-1]))
    maybe_above = numpy.flatnonzero(excess > -_Z * std)
    maybe_below = numpy.flatnonzero(excess < _Z * std)
    low = edges[max(0, maybe_above[0] - 1)] if len(maybe_above) else edges[0]
    high = edges[min(cells, maybe_below[-1] + 1)] if len(maybe_below) else edges[-1]
    return Figure(interpolated(share, counts, edges), float(low), float(high))


def interpolated(share: float, counts: Floats, edges: Floats) -> float:
    """Return the place below which a share of counted values lies, by interpolation in cells."""
    reached = numpy.maximum.accumulate(numpy.maximum(numpy.cumsum(counts), 0.0))
    steps = numpy.concatenate([[0.0], reached]) + numpy.arange(len(edges)) * 1e-9
    return float(numpy.interp(share * steps[-1], steps, edges))


def from_tree(noisy: Floats, std: float, units: int) -> tuple[Floats, Floats]:
    """Read a histogram and the number of missing values off the noisy counts of a tree.

    Args:
        noisy: counts of all nodes, shape [nodes], each with noise of ``std``.
        std: standard deviation.
        units: n.

    Returns:
        Counts of the histogram's cells and of missing values, and their covariance.
    """
    estimate, spread = _from_nodes()
    counts = estimate @ noisy
    linear = numpy.vstack([numpy.eye(WIDE_CELLS), -numpy.ones(WIDE_CELLS)])
    counts = linear @ counts + numpy.append(numpy.zeros(WIDE_CELLS), units)
    return counts, linear @ (std**2 * spread) @ linear.T


@functools.cache
def _from_nodes() -> tuple[Floats, Floats]:
    """Return the least-squares map from a tree's nodes to a histogram's cells, and its spread."""
    depth = levels(CELLS)
    leaves = 2 ** (depth - 1)
    nodes = numpy.vstack(
        [numpy.kron(numpy.eye(2**level), numpy.ones(leaves // 2**level)) for level in range(depth)]
    )
    nodes = nodes[:, :CELLS]  # what lies beyond the grid is empty
    cells = numpy.zeros((WIDE_CELLS, CELLS))
    for cell, (start, end) in enumerate(itertools.pairwise(WIDE_STARTS)):
        cells[cell, start:end] = 1.0
    inverse = numpy.linalg.inv(nodes.T @ nodes)
    return cells @ inverse @ nodes.T, cells @ inverse @ cells.T


__all__ = ["Noisy", "category_names", "from_tree", "interpolated", "summarise_noisy"]
