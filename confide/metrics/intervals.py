"""95 % intervals of what is measured on records that were drawn, with noise that was added."""

import math
from collections.abc import Mapping

import numpy

from confide.metrics.grids import Floats
from confide.metrics.metric import Metric
from confide.metrics.score_table import ScoreTable, average_precision, divide, spread
from confide.metrics.thresholds import at_edges

Z = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""
_DRAWS, _SEED = 200, 0
_MOST = 700.0
"""Exponent from which on its exponential is as good as infinite."""


def wilson(share: float, n: float, *, z: float = Z) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson, JASA 1927).

    Args:
        share: proportion, in [0, 1].
        n: number of records that it was measured on, >= 1.
        z: quantile of the standard normal distribution, for another level than 95 %.

    Returns:
        Lower and upper end of the interval, in [0, 1].

    Raises:
        ValueError: if an argument is out of range.

    >>> [round(end, 3) for end in wilson(0.5, 100)]
    [0.404, 0.596]
    """
    if not 0 <= share <= 1 or n < 1:
        raise ValueError(f"Expected 0 <= share={share} <= 1 and n={n} >= 1.")
    z2 = z * z / n
    centre = (share + z2 / 2) / (1 + z2)
    half = z * math.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


def share_interval(
    part: float, rest: float, noise: tuple[float, float], *, z: float = Z
) -> tuple[float, float] | None:
    """Return the interval of part / (part + rest); None where there is less than one record.

    Args:
        part: number of records, >= 0.
        rest: number of the others, >= 0.
        noise: variances of the noise in either number.
        z: quantile of the standard normal distribution, for another level than 95 %.
    """
    total = part + rest
    if total < 1:
        return None
    share = part / total
    low, high = wilson(share, total, z=z)
    if not any(noise):
        return low, high
    # From a ratio's first derivatives, beside what the records alone leave open
    added = z * math.sqrt((1 - share) ** 2 * noise[0] + share**2 * noise[1]) / total
    return (
        max(0.0, share - math.hypot(share - low, added)),
        min(1.0, share + math.hypot(high - share, added)),
    )


def interval_around(
    metric: Metric, value: float, *, noise: float, sampling: float, z: float = Z
) -> tuple[float, float]:
    """Return the interval of a metric in its range.

    Args:
        metric: what was measured.
        value: of it.
        noise: standard deviation of the noise that was added; 0 for none.
        sampling: standard deviation over draws of as many records.
        z: quantile of the standard normal distribution, for another level than 95 %.
    """
    deviation = math.hypot(noise, sampling)
    if (metric.least, metric.largest) == (0.0, 1.0) and 0 < value < 1 and noise == 0:
        # On the scale of log odds, where the interval of an area near 1 is not cut off
        centre, half = math.log(value / (1 - value)), z * deviation / (value * (1 - value))
        # Very near 0 or 1 half is larger than any exponent: the end is 0 then
        low, high = (math.exp(min(_MOST, end - centre)) for end in (half, -half))
        return 1 / (1 + low), 1 / (1 + high)
    return (
        max(metric.least, value - z * deviation),
        min(metric.largest, value + z * deviation),
    )


def auc_deviation(table: ScoreTable) -> float:
    """Return the standard deviation of an area under the ROC curve over draws of records.

    DeLong et al., "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves", Biometrics 1988, for scores that are known by their bin.
    """
    rest, found = table.likely[:, 0], table.likely[:, 1]
    if rest.sum() < 2 or found.sum() < 2:
        return 0.5  # of any area at all
    below = (rest.cumsum() - rest / 2) / rest.sum()
    above = (found[::-1].cumsum()[::-1] - found / 2) / found.sum()
    return math.sqrt(_variance(below, found) + _variance(above, rest))


def _variance(values: Floats, counts: Floats) -> float:
    """Return the variance of a mean of values that occur so often."""
    total = float(counts.sum())
    mean = float(counts @ values) / total
    return float(counts @ (values - mean) ** 2) / (total - 1) / total


def deviations(
    tables: list[ScoreTable], outcomes: Floats | None, confusion: Floats | None = None
) -> Mapping[str, float]:
    """Return the standard deviations of metrics over draws of records, by name.

    Of a metric that is a mean over classes: at most this much, since errors of classes go together.

    Args:
        tables: of the second of two classes, or of every class.
        outcomes: records that were right, missed and wrongly taken, by class, shape [3, c]; None
            where nobody tells.
        confusion: records by label and likeliest class, shape [c, c]; None where only ``outcomes``
            is known, if that.
    """
    found: dict[str, float] = {}
    if tables:
        exact = [_sampled(table) for table in tables]
        found["auc"] = _mean([auc_deviation(table) for table in tables])
        drawn = [spread(average_precision(table.draws.counts)) for table in exact]
        found["average_precision"] = _mean(drawn)
        found["log_loss"], found["brier"] = _loss_deviation(tables), _brier_deviation(tables)
        if len(tables) == 1:
            found["macro_f1"] = spread(_binary_f1(exact[0].draws.counts, exact[0].draws.edges))
    if len(tables) != 1:
        f1 = _f1_deviation(outcomes, confusion)
        found |= {} if f1 is None else {"macro_f1": f1}
    return found


def _f1_deviation(outcomes: Floats | None, confusion: Floats | None) -> float | None:
    """Return the standard deviation of the mean of F1 over several classes."""
    rng = numpy.random.default_rng(_SEED)
    if confusion is not None:
        drawn = rng.poisson(confusion, size=(_DRAWS, *confusion.shape)).astype(float)
        right = numpy.diagonal(drawn, axis1=1, axis2=2)
        missed, wrong = drawn.sum(axis=2) - right, drawn.sum(axis=1) - right
        return spread(_f1(right, missed, wrong).mean(axis=1))
    if outcomes is None:
        return None
    right, missed, wrong = numpy.moveaxis(
        rng.poisson(outcomes, size=(_DRAWS, *outcomes.shape)), 1, 0
    )
    return _mean([spread(one) for one in _f1(right, missed, wrong).T])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _sampled(table: ScoreTable) -> ScoreTable:
    """Return a table whose draws are of records alone."""
    nothing = numpy.zeros_like(table.variances)
    return ScoreTable(counts=table.likely, edges=table.edges, variances=nothing)


def _loss_deviation(tables: list[ScoreTable]) -> float:
    losses = [-numpy.log(table.middles) for table in tables]
    counts = [table.likely[:, 1] for table in tables]
    if len(tables) == 1:
        losses.append(-numpy.log(1 - tables[0].middles))
        counts.append(tables[0].likely[:, 0])
    return _mean_deviation(numpy.concatenate(losses), numpy.concatenate(counts))


def _brier_deviation(tables: list[ScoreTable]) -> float:
    each = [
        _mean_deviation(
            numpy.concatenate([table.middles**2, (1 - table.middles) ** 2]),
            table.likely.T.ravel(),
        )
        for table in tables
    ]
    return each[0] if len(each) == 1 else sum(each) / 2


def _mean_deviation(values: Floats, counts: Floats) -> float:
    total = float(counts.sum())
    return math.sqrt(_variance(values, counts)) if total > 1 else float(numpy.ptp(values))


def _binary_f1(counts: Floats, edges: Floats) -> Floats:
    """Return the mean of F1 over two classes, at the edge nearest to 1/2."""
    if not len(edges):
        return numpy.zeros(len(counts))
    right, wrong, missed, others = at_edges(counts)[:, :, int(numpy.abs(edges).argmin())]
    return (_f1(right, missed, wrong) + _f1(others, wrong, missed)) / 2


def _f1(right: Floats, missed: Floats, wrong: Floats) -> Floats:
    return divide(2 * right, 2 * right + missed + wrong, otherwise=0.0)


__all__ = [
    "Z",
    "auc_deviation",
    "deviations",
    "interval_around",
    "share_interval",
    "wilson",
]
