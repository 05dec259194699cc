"""What is told of a group where a number is predicted: how far predictions are off, and which way.

With e the residual as a share of the public range, predicted less actual, a record adds its
part above 0, its part below, 1 - abs(e), and abs(e) (1 - abs(e)). With x = abs(e) (1 - abs(e)) the
row's squares add up to 1 - 2 x + x^2, at most 1; the mean square follows from the last entry at no
more noise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, cast

import numpy

from confide.metrics.floor import Floor
from confide.metrics.grids import Floats, Integers
from confide.metrics.metric import Metric, Statistic
from confide.metrics.subgroups.gaps import Measure, records
from confide.metrics.subgroups.kind import Context, GroupKind
from confide.metrics.subgroups.pooled import GroupSums

RESIDUALS = "residuals"
"""Name of the statistic."""
_UNIT = 2**16
"""Exact sums are told in units of 2^-16 of the range."""


class _Number(Protocol):
    @property
    def span(self) -> tuple[float, float]:
        """Its public range."""


def residual_rows(shares: Floats, truth: Floats) -> Floats:
    """Return what each record adds, shape [n, 4].

    Args:
        shares: predictions, as shares of the range, in [0, 1], shape [n].
        truth: the numbers, likewise.
    """
    residual = (shares - truth).clip(-1, 1)
    size = abs(residual)
    return numpy.stack(
        [residual.clip(min=0), (-residual).clip(min=0), 1 - size, size * (1 - size)], axis=1
    )


def _exact(shares: Floats, truth: Floats, floor: Floor) -> Integers:
    return numpy.asarray(numpy.rint(residual_rows(shares, truth).sum(axis=0) * _UNIT), dtype=int)


def _statistics(table: Mapping[str, Metric], told: Sequence[str]) -> list[Statistic]:
    own = [table[name].statistic for name in told if name in table]
    of_all = next((one for one in own if one is not None), None)
    if of_all is None:
        return []
    return [
        replace(
            of_all,  # for the range that it knows
            name=RESIDUALS,
            rows_fn=residual_rows,
            counts_fn=lambda numbers: numpy.array([1.0, 1.0, 1.0, 0.0]),
            exact_fn=_exact,
        )
    ]


def _measures(sums: GroupSums, context: Context) -> dict[str, Measure]:
    low, high = cast(_Number, context.settings).span
    added, variance = numpy.zeros(4), 0.0
    for values, std in sums.of(RESIDUALS):
        added += values / (1 if std else _UNIT)
        variance += std**2
    above, below, rest, product = map(float, added)
    count = above + below + rest
    # Exact sums are rounded each by itself
    total = max(float(round(count)) if variance == 0 else count, 1.0)
    mean, off = (above - below) / total, min(max((above + below) / total, 0.0), 1.0)
    square = max((above + below - product) / total, 0.0)

    def around(name: str, mean: float, spread: float, noise: float) -> Measure:
        deviation = math.sqrt(max(spread, 0.0) / total + variance * noise / total**2)
        return _figure(name, mean, high - low, deviation)

    told = [
        records(total, 3 * variance),
        around("mean_error", mean, square - mean**2, (1 - mean) ** 2 + (1 + mean) ** 2 + mean**2),
        around("mae", off, square - off**2, 2 * (1 - off) ** 2 + off**2),
    ]
    return {one.name: one for one in told}


def _figure(name: str, share: float, span: float, deviation: float) -> Measure:
    value, half = share * span, deviation * span
    least = 0.0 if name == "mae" else -span
    return Measure(
        name=name,
        value=value,
        ends_fn=lambda z: (max(least, value - z * half), min(span, value + z * half)),
    )


NUMBERS = GroupKind(statistics_fn=_statistics, measures_fn=_measures)


__all__ = ["NUMBERS", "RESIDUALS", "residual_rows"]
