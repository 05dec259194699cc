"""Figures from exact sums, of which institutions kept small ones back (confide.releases.floors).

A figure that some institutions do not tell has the interval that what they tell leaves open.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy

from confide.config.outcomes.survival import SurvivalConfig
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.task import TaskConfig
from confide.encodings.cells import wide_grid
from confide.releases.figures import Partition, numeric_columns, pairs
from confide.releases.floors import HIDDEN
from confide.releases.release import Floats
from confide.releases.statistics import BOTH
from confide.releases.targets import LABEL, TRUTH, target_number
from confide.server.statistics.noisy import category_names, interpolated
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


@dataclass(frozen=True, kw_only=True)
class Exact:
    """What one institution tells.

    Attributes:
        units: n, as it declares it.
        floor: its ``policy.min_cell``; infinite where that counts owners and not records.
        counts: partition's key -> counts of its cells, some of them held back.
        moments: [c, 3], that of a number that is predicted the last; the count of one that is held
            back is below 0.
        products: [pairs, 6], likewise.
    """

    units: int
    floor: float
    counts: Mapping[str, Floats]
    moments: Floats
    products: Floats


def summarise_exact(
    task: TaskConfig, parts: Sequence[Partition], answers: Sequence[Exact]
) -> Summary:
    """Add up what institutions tell.

    Args:
        task: schema of the records.
        parts: all partitions of it.
        answers: one an institution.
    """
    names, columns = numeric_columns(task), {}
    for part in parts:
        if not part.is_column:
            continue
        told = [(answer.counts[part.key], answer) for answer in answers]
        column = task.table_columns[part.name]
        if part.kind == "numeric":
            place = names.index(part.name)
            moments = [answer.moments[place] for answer in answers]
            columns[part.name] = _numeric(column, told, moments)
            continue
        counts = _categories(told, part.cells)
        columns[part.name] = ColumnFigures(
            kind="categorical",
            institutions=sum(bool((own >= 0).any()) for own, _ in told),
            missing=counts[-1].scaled(1 / sum(answer.units for answer in answers)),
            categories=dict(zip(category_names(column), counts[:-1], strict=True)),
        )
    labels, outcome = _outcome(task, [part for part in parts if not part.is_column], answers)
    return Summary(
        units=sum(answer.units for answer in answers),
        institutions=len(answers),
        columns=columns,
        labels=labels,
        correlations={
            pair_name(names[i], names[j]): _correlation([a.products[k] for a in answers])
            for k, (i, j) in enumerate(pairs(task))
        },
        outcome=outcome,
    )


def _outcome(
    task: TaskConfig, parts: Sequence[Partition], answers: Sequence[Exact]
) -> tuple[dict[str, Figure], OutcomeFigures]:
    """Return units by label, and all that is known of what is predicted."""
    labels: dict[str, Figure] = {}
    found = OutcomeFigures(kind=task.outcome.kind, column=", ".join(task.target_columns))
    for part in parts:
        told = [(answer.counts[part.key], answer) for answer in answers]
        column = target_number(task)
        if part.kind == LABEL:
            names = task.outcome.label_names(task.labelling)
            labels = dict(zip(names, _categories(told, part.cells), strict=True))
        elif part.kind == TRUTH:
            labels[part.name] = _categories(told, part.cells)[1]
        elif column is not None:
            moments = [answer.moments[-1] for answer in answers]
            found = replace(found, number=_numeric(column, told, moments))
        elif isinstance(task.outcome, SurvivalConfig):
            found = _ends(found, task.outcome.ends, told)
    units = sum(answer.units for answer in answers)
    shares = {name: count.scaled(1 / units) for name, count in labels.items()}
    return labels, replace(found, shares=shares)


def _ends(
    found: OutcomeFigures, ends: Sequence[float], told: Sequence[tuple[Floats, Exact]]
) -> OutcomeFigures:
    """Return units by how and when they end; who tells neither may have any number of either."""
    grid, count = numpy.array([0.0, *ends]), len(ends)
    unknown = float(sum(answer.units for counts, answer in told if not (counts >= 0).any()))
    parts = (
        (grid, [counts[:count] for counts, _ in told]),
        (numpy.append(grid, grid[-1]), [counts[count:] for counts, _ in told]),
    )
    totals, times = [], []
    for edges, each in parts:
        known = float(sum(counts.clip(min=0).sum() for counts in each))
        value = known if unknown == 0 else None
        totals.append(Figure(value, known, known + unknown))
        merged, counts = _merged(edges, each)
        times.append(
            Histogram(edges=merged.tolist(), counts=[Figure.exact(float(it)) for it in counts])
        )
    return replace(
        found,
        events=totals[0],
        censored=totals[1],
        event_times=times[0],
        censored_times=times[1],
    )


def _categories(told: Sequence[tuple[Floats, Exact]], cells: int) -> list[Figure]:
    """Add up counts; where one is held back, it is between nothing and all that is not told."""
    low, high = numpy.zeros(cells), numpy.zeros(cells)
    for counts, answer in told:
        known = counts.clip(min=0)
        hidden = counts == HIDDEN
        low += known
        high += known + hidden * (answer.units - known.sum())
    return [
        Figure(float(least) if least == most else None, float(least), float(most))
        for least, most in zip(low, high, strict=True)
    ]


def _numeric(
    column: ColumnConfig, told: Sequence[tuple[Floats, Exact]], moments: Sequence[Floats]
) -> ColumnFigures:
    assert column.minimum is not None
    assert column.maximum is not None
    half, middle = (column.maximum - column.minimum) / 2, (column.maximum + column.minimum) / 2
    missing, slack = _missing(told)
    own = sum((it for it in moments if it[0] != HIDDEN), start=numpy.zeros(3))
    mean = variance = None
    if own[0] > 0:
        mean = float(own[1] / own[0])
        variance = max(0.0, float(own[2] / own[0]) - mean**2)
    grid = wide_grid(column.minimum, column.maximum)
    edges, counts = _merged(grid, [counts[:-1] for counts, _ in told])
    quantiles = {f"{share:g}": _quantile(share, counts, edges) for share in QUANTILES}
    edges, counts = _without_octaves(edges, counts)
    return ColumnFigures(
        kind="numeric",
        institutions=sum(bool((counts >= 0).any()) for counts, _ in told),
        missing=missing,
        mean=_known(mean, middle, half, column.minimum, column.maximum),
        deviation=_known(None if variance is None else math.sqrt(variance), 0.0, half, 0.0, half),
        quantiles=quantiles,
        histogram=Histogram(
            edges=edges.tolist(),
            counts=[Figure(float(it), max(0.0, float(it) - slack), float(it)) for it in counts],
        ),
    )


def _known(
    value: float | None, offset: float, factor: float, least: float, largest: float
) -> Figure:
    if value is None:
        return Figure(None, least, largest)
    return Figure.exact(offset + factor * value)


def _missing(told: Sequence[tuple[Floats, Exact]]) -> tuple[Figure, float]:
    """Return the share that is missing, and how many may be counted among the cells."""
    low = high = slack = 0.0
    for counts, answer in told:
        if counts[-1] >= 0:
            low, high = low + counts[-1], high + counts[-1]
        elif (counts >= 0).any():
            most = min(answer.floor - 1, answer.units)
            low, high, slack = low + 1, high + most, slack + most
        else:  # all but a few are missing, or there are too few records
            low, high = low + max(0.0, answer.units - answer.floor + 1), high + answer.units
    units = sum(answer.units for _, answer in told)
    value = low / units if low == high else None
    return Figure(value, low / units, high / units), slack


def _merged(grid: Floats, told: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return the edges that all institutions' cells have in common, and the counts between them."""
    common = numpy.ones(len(grid), dtype=bool)
    below = numpy.zeros(len(grid))
    for counts in told:
        if (counts >= 0).any():
            common[:-1] &= counts >= 0  # where a cell, or a run of cells, begins
        below += numpy.append(0.0, numpy.cumsum(counts.clip(min=0)))
    places = numpy.flatnonzero(common)
    return grid[places], numpy.diff(below[places])


def _without_octaves(edges: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Count cells within the first 16th of the range as one, unless many units are in them."""
    first = edges[0] + (edges[-1] - edges[0]) / 16 * (1 + 1e-9)
    inside = int((edges[1:] <= first).sum())
    if inside < 2 or counts[:inside].sum() > CROWDED * counts.sum():
        return edges, counts
    joined = numpy.append(counts[:inside].sum(), counts[inside:])
    return numpy.append(edges[0], edges[inside:]), joined


def _quantile(share: float, counts: Floats, edges: Floats) -> Figure:
    """Interpolate in the cell that holds the quantile: it is somewhere in it."""
    if counts.sum() <= 0:
        return Figure(None, float(edges[0]), float(edges[-1]))
    reached = numpy.cumsum(counts)
    cell = min(int(numpy.searchsorted(reached, share * reached[-1])), len(counts) - 1)
    value = interpolated(share, counts, edges)
    return Figure(value, float(edges[cell]), float(edges[cell + 1]))


def _correlation(told: Sequence[Floats]) -> Figure:
    own = sum((it for it in told if it[BOTH] != HIDDEN), start=numpy.zeros(6))
    if own[BOTH] <= 0:
        return Figure(None, -1.0, 1.0)
    one, other = own[1] / own[BOTH], own[2] / own[BOTH]
    variances = (own[4] / own[BOTH] - one**2, own[5] / own[BOTH] - other**2)
    if min(variances) <= 0:
        return Figure(None, -1.0, 1.0)
    value = (own[0] / own[BOTH] - one * other) / math.sqrt(variances[0] * variances[1])
    return Figure.exact(min(1.0, max(-1.0, float(value))))


__all__ = ["Exact", "summarise_exact"]
