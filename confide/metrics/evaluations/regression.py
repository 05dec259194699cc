"""The section on a regression: intervals, numbers by what was predicted of them, residuals."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy

from confide.metrics.evaluation import (
    Json,
    Measured,
    figure,
    is_of_its_records,
    metric_figures,
    rounded,
)
from confide.metrics.grids import Floats
from confide.metrics.intervals import Z, wilson
from confide.metrics.number_bins import (
    BIN_UNIT,
    EXACT_BINS,
    NOISY_BINS,
    RESIDUAL_BINS,
    RESIDUAL_EDGES,
    Bins,
    residual_middles,
)
from confide.metrics.outcomes.regression import ABSOLUTE, SQUARES, squares_of
from confide.metrics.tally import ScoreTally

_GROUPS = 10
_STAND_OUT = 4.0
"""Standard deviations of its noise that a group's number of records is at least."""
_HEADER = 4
_NORMAL = 3.0
"""Kurtosis of what nothing is known of."""


class Number(Protocol):
    """The number that is predicted."""

    @property
    def column(self) -> str:
        """Name of its column."""

    @property
    def span(self) -> tuple[float, float]:
        """Its public range."""

    @property
    def scale(self) -> str:
        """Scale that it is learnt on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counted:
    """What one institution tells, or several together.

    Attributes:
        squares: sums of e^2, (2 t - 1)^2, t and 1 - t, as shares of the range.
        predicted: inner edges of the bins of predictions, shares of the scale; records and sums
            of their numbers in each, [b, 2]; variance of the noise in either, [b].
        residuals: inner edges of the bins of residuals; records in each; None where not told.
        std: standard deviation of the noise in ``squares``.
    """

    squares: Floats
    predicted: tuple[Floats, Floats, Floats]
    residuals: tuple[Floats, Floats] | None
    std: float

    @property
    def records(self) -> float:
        """Number of records, as far as sums tell; at least 1."""
        return max(1.0, float(self.squares[2] + self.squares[3]))

    @property
    def mean(self) -> float:
        """Mean of the numbers, as a share of the range."""
        return min(max(float(self.squares[2]) / self.records, 0.0), 1.0)

    @property
    def error(self) -> float:
        """Mean squared residual."""
        return min(max(float(self.squares[0]) / self.records, 0.0), 1.0)


def describe_regression(measured: Measured) -> dict[str, Json]:
    """Return the section on a regression; see docs/evaluation.md for its fields."""
    number = cast(Number, measured.settings)
    low, high = number.span
    counted = {}
    for name, tally in measured.tallies.items():
        one, scores = _read(tally), measured.test.get(name)
        if one and scores and is_of_its_records(name, scores, tally, one.records):
            counted[name] = one
    together = _added(list(counted.values())) if counted else None
    section: dict[str, Json] = {
        "column": number.column,
        "range": [low, high],
        "metrics": _metrics(measured, measured.federated, together),
    }
    if together is not None:
        section |= {
            "records": rounded(together.records),
            "noise": rounded(2 * together.std),
            "counted": list(counted),
            "actual": _actual(together, low, high - low),
            "groups": _groups(together, Bins(span=high - low, is_log=number.scale == "log1p"), low),
        }
        if together.residuals is not None:
            section["residuals"] = _residuals(together, high - low)
    section["clients"] = {
        name: {"metrics": _metrics(measured, scores, counted.get(name))}
        for name, scores in measured.test.items()
    }
    return section


def _read(tally: ScoreTally) -> _Counted | None:
    """Read a tally; None where it does not tell squares."""
    squares = squares_of(tally)
    if squares is None:
        return None
    parts = numpy.asarray(tally.sums[SQUARES], dtype=float)[_HEADER:]
    if tally.std:
        sums = 2 * parts.reshape(NOISY_BINS, 2)
        predicted = (
            numpy.linspace(0, 1, NOISY_BINS + 1)[1:-1],
            numpy.stack([sums.sum(axis=1), sums[:, 0]], axis=1),
            numpy.full(NOISY_BINS, (2 * tally.std) ** 2),
        )
    else:
        table = parts.reshape(EXACT_BINS, 3)
        starts = numpy.flatnonzero(table[:, 2] == 0)
        sums = table[starts, :2] / [1, BIN_UNIT]
        predicted = (starts[1:] / EXACT_BINS, sums, numpy.zeros(len(starts)))
    return _Counted(
        squares=2 * squares,
        predicted=predicted,
        residuals=_read_residuals(tally),
        std=2 * tally.std,
    )


def _read_residuals(tally: ScoreTally) -> tuple[Floats, Floats] | None:
    """Return inner edges of bins and records in each; None where a tally does not tell."""
    sums = numpy.asarray(tally.sums.get(ABSOLUTE, ()), dtype=float)
    edges = numpy.array(RESIDUAL_EDGES)
    if tally.std and len(sums) == 1 + RESIDUAL_BINS:
        # A record counts 1 - e in its bin
        return edges, sums[1:] / (1 - numpy.abs(residual_middles()))
    if not tally.std and len(sums) == 2 * RESIDUAL_BINS:
        table = sums.reshape(RESIDUAL_BINS, 2)
        starts = numpy.flatnonzero(table[:, 1] == 0)
        return edges[starts[1:] - 1], table[starts, 0]
    return None


def _added(parts: Sequence[_Counted]) -> _Counted:
    """Add institutions up, bins between the edges that all have."""
    kept = functools.reduce(numpy.intersect1d, [one.predicted[0] for one in parts])
    sums = [_between(one.predicted[1], one.predicted[0], kept) for one in parts]
    noise = [_between(one.predicted[2], one.predicted[0], kept) for one in parts]
    told = [one.residuals for one in parts if one.residuals is not None]
    residuals = None
    if len(told) == len(parts):
        shared = functools.reduce(numpy.intersect1d, [edges for edges, _ in told])
        each = [_between(counts, edges, shared) for edges, counts in told]
        residuals = shared, numpy.asarray(numpy.sum(each, axis=0))
    return _Counted(
        squares=numpy.asarray(numpy.sum([one.squares for one in parts], axis=0)),
        predicted=(kept, numpy.sum(sums, axis=0), numpy.sum(noise, axis=0)),
        residuals=residuals,
        std=math.hypot(*(one.std for one in parts)),
    )


def _between(counts: Floats, edges: Floats, kept: Floats) -> Floats:
    """Add up bins between some of their edges: [b, ...] -> [b', ...]."""
    starts = numpy.append(0, numpy.searchsorted(edges, kept) + 1)
    return numpy.asarray(numpy.add.reduceat(counts, starts, axis=0))


def _metrics(
    measured: Measured, scores: Mapping[str, float], counted: _Counted | None
) -> dict[str, Json]:
    deviations = {} if counted is None else _deviations(counted, scores, measured)
    return metric_figures(scores, measured.metrics, deviations)


def _deviations(
    counted: _Counted, scores: Mapping[str, float], measured: Measured
) -> dict[str, float]:
    """Return standard deviations of metrics over draws of records, by their first derivatives.

    Fourth moments are those of the counts by residual and by prediction; residuals are taken to be
    alike for every prediction. Where they grow with it, R2 spreads by a third more.
    """
    low, high = cast(Number, measured.settings).span
    # However noisy the sum of squares, their mean is no less than the square of the mean distance
    least = (max(0.0, scores.get("mae", 0.0)) / (high - low)) ** 2
    n, squares = counted.records, max(counted.error, least)
    fourth = _fourth(counted, squares)
    found = {}
    if "mae" in scores:
        mean = scores["mae"] / (high - low)
        spread = max(squares - mean**2, 0.0) or squares / 2  # of e, half as noise leaves it open
        found["mae"] = (high - low) * math.sqrt(spread / n)
    if squares > 0:
        found["rmse"] = (high - low) * math.sqrt(max(fourth - squares**2, 0.0) / n / squares) / 2
    second = float(counted.squares[1]) / n
    spread = (second - (2 * counted.mean - 1) ** 2) / 4
    if spread > 0:
        # Of a number that is its prediction and a residual apart from it
        explained = max(spread - squares, 0.0)
        kurtosis = _kurtosis_of_predictions(counted, measured)
        total = kurtosis * explained**2 + 6 * explained * squares + fourth
        share, of_errors = squares / spread, max(fourth - squares**2, 0.0)
        variance = of_errors * (1 - 2 * share) + share**2 * max(total - spread**2, 0.0)
        found["r2"] = math.sqrt(max(variance, 0.0) / n) / spread
    return found


def _kurtosis_of_predictions(counted: _Counted, measured: Measured) -> float:
    """Return the kurtosis of predictions by their bins; of noisy ones it would be that of noise."""
    edges, sums, noise = counted.predicted
    number = cast(Number, measured.settings)
    low, high = number.span
    ends = numpy.array([0.0, *edges, 1.0])
    bins = Bins(span=high - low, is_log=number.scale == "log1p")
    middles, weights = bins.shares((ends[1:] + ends[:-1]) / 2), sums[:, 0]
    if noise.any() or weights.sum() <= 0:
        return _NORMAL
    apart = middles - float(weights @ middles) / float(weights.sum())
    second = float(weights @ apart**2) / float(weights.sum())
    if second <= 0:
        return _NORMAL
    return float(weights @ apart**4) / float(weights.sum()) / second**2


def _fourth(counted: _Counted, squares: float) -> float:
    """Return the mean fourth power of residuals: kurtosis by counts, size by their squares."""
    kurtosis = _NORMAL
    if counted.residuals is not None:
        edges, counts = counted.residuals
        ends = numpy.array([-1.0, *edges, 1.0])
        a, b = ends[:-1], ends[1:]
        # Mean powers between two ends
        second = (a**2 + a * b + b**2) / 3
        fourth = (a**4 + a**3 * b + a**2 * b**2 + a * b**3 + b**4) / 5
        held = counts.clip(min=0.0)
        mean = float(held @ second)
        if mean > 0:
            kurtosis = max(1.0, float(held @ fourth) * float(held.sum()) / mean**2)
    return kurtosis * squares**2


def _actual(counted: _Counted, low: float, span: float) -> dict[str, Json]:
    """Return the mean of the numbers."""
    mean, n = counted.mean, counted.records
    spread = max(float(counted.squares[1]) / n - (2 * mean - 1) ** 2, 0.0) / 4
    noise = counted.std**2 * ((1 - mean) ** 2 + mean**2) / n**2
    half = span * Z * math.sqrt(spread / n + noise)
    value = low + span * mean
    return figure(value, (max(low, value - half), min(low + span, value + half)))


def _groups(counted: _Counted, bins: Bins, low: float) -> list[Json]:
    """Return neighbouring bins of predictions together, with the mean of the numbers in each."""
    edges, sums, noise = counted.predicted
    ends = numpy.array([0.0, *edges, 1.0])
    middles, ends = bins.shares((ends[1:] + ends[:-1]) / 2), bins.shares(ends)
    starts = [*_starts(sums[:, 0], noise, counted.records), len(sums)]
    found: list[Json] = []
    for start, end in itertools.pairwise(starts):
        records, above = (float(it) for it in sums[start:end].sum(axis=0))
        if records < 1:
            continue
        mean, held = min(max(above / records, 0.0), 1.0), sums[start:end, 0].clip(min=0.0)
        added = float(noise[start:end].sum()) * ((1 - mean) ** 2 + mean**2) / records**2
        half = Z * math.sqrt(_residual_square(counted) / records + added)
        predicted = float(held @ middles[start:end]) / max(float(held.sum()), 1e-9)
        value, span = low + bins.span * mean, bins.span
        found.append(
            {
                "from": rounded(low + span * float(ends[start])),
                "to": rounded(low + span * float(ends[end])),
                "records": rounded(records),
                "predicted": rounded(low + span * predicted),
                "actual": figure(
                    value, (max(low, value - span * half), min(low + span, value + span * half))
                ),
            }
        )
    return found


def _residual_square(counted: _Counted) -> float:
    """Return the mean square of residuals, at least that of their counts by octave."""
    if counted.error > 0 or counted.residuals is None:
        return counted.error
    edges, counts = counted.residuals
    ends = numpy.array([-1.0, *edges, 1.0])
    held = counts.clip(min=0.0)
    return float(held @ (ends[1:] * ends[:-1]).clip(min=0.0)) / max(float(held.sum()), 1.0)


def _starts(records: Floats, noise: Floats, total: float) -> list[int]:
    """Return the first bin of each group: a tenth of the records, or as many as stand out."""
    share, starts, size, variance = total / _GROUPS, [0], 0.0, 0.0
    for place in range(len(records) - 1):
        size, variance = size + float(records[place]), variance + 2 * float(noise[place])
        if size >= max(share * (1 - 1e-9), _STAND_OUT * math.sqrt(variance), 1.0):
            starts.append(place + 1)
            size = variance = 0.0
    rest = float(records[starts[-1] :].sum())
    left = _STAND_OUT * math.sqrt(2 * float(noise[starts[-1] :].sum()))
    if len(starts) > 1 and rest < max(share / 2, left):
        starts.pop()
    return starts


def _residuals(counted: _Counted, span: float) -> dict[str, Json]:
    """Return records by residual, and shares of predictions that are off by no more."""
    assert counted.residuals is not None
    edges, counts = counted.residuals
    held = counts.clip(min=0.0)
    total = max(float(held.sum()), 1.0)
    below = numpy.append(0.0, held.cumsum())
    at = {round(float(edge), 12): float(below[place + 1]) for place, edge in enumerate(edges)}
    within: list[Json] = []
    for edge in sorted(it for it in at if it > 0 and -it in at):
        share = min(max((at[edge] - at[-edge]) / total, 0.0), 1.0)
        noise = counted.std / 2 * math.sqrt(len(counts)) / total
        low, high = wilson(share, total)
        half = Z * noise
        ends = (
            max(0.0, share - math.hypot(share - low, half)),
            min(1.0, share + math.hypot(high - share, half)),
        )
        within.append({"distance": rounded(span * edge), "share": figure(share, ends)})
    return {
        "edges": [rounded(span * float(edge)) for edge in (-1.0, *edges, 1.0)],
        "records": [rounded(float(it)) for it in counts],
        "within": within,
    }


__all__ = ["Number", "describe_regression"]
