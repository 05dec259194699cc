"""Whether probabilities are what they say: predicted and observed shares, group by group.

Groups are neighbouring bins of about a tenth of the records each, and with noise as many as stand
out from it. The error is the mean distance of both shares, weighted by records (Naeini et al.,
"Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015); a perfect model has
one too, by chance, so that both are told.
"""

import math
from dataclasses import dataclass

import numpy

from confide.metrics.grids import Floats
from confide.metrics.intervals import share_interval
from confide.metrics.score_table import ScoreTable, divide, spread

_GROUPS = 10
_STAND_OUT = 4.0
"""Standard deviations of its noise that a group's number of records is at least."""
_SEED, _DRAWS = 0, 200


@dataclass(frozen=True, kw_only=True)
class Group:
    """Records of similar scores.

    Attributes:
        records: their number, as far as counts tell.
        predicted: mean probability of the class.
        observed: share of the class.
        interval: 95 % interval of ``observed``; None where nothing is sure.
    """

    records: float
    predicted: float
    observed: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well one class's probabilities are calibrated.

    Attributes:
        groups: in the order of scores.
        predicted: mean probability over all records.
        observed: share of the class.
        interval: 95 % interval of ``observed``.
        error: mean distance of predicted and observed shares.
        deviation: standard deviation of the error, over records and noise.
        by_chance: error that a perfectly calibrated model would show.
    """

    groups: tuple[Group, ...]
    predicted: float
    observed: float
    interval: tuple[float, float] | None
    error: float
    deviation: float
    by_chance: float


def calibration(table: ScoreTable) -> Calibration:
    """Compare predicted with observed shares."""
    starts = _starts(table)
    counts, variances = table.counts, numpy.add.reduceat(table.variances, starts)
    records = counts.sum(axis=1)
    summed = numpy.add.reduceat(counts, starts, axis=0)
    predicted = numpy.add.reduceat(records * table.middles, starts)
    groups = []
    for (rest, found), mean, noise in zip(summed, predicted, variances, strict=True):
        size = float(rest + found)
        if size < 1:
            continue
        share = min(max(float(found) / size, 0.0), 1.0)
        groups.append(
            Group(
                records=size,
                predicted=min(max(float(mean) / size, 0.0), 1.0),
                observed=share,
                interval=share_interval(
                    share * size, (1 - share) * size, (float(noise), float(noise))
                ),
            )
        )
    rest, found = (max(0.0, float(it)) for it in summed.sum(axis=0))
    total, noise = max(rest + found, 1.0), float(table.variances.sum())
    return Calibration(
        groups=tuple(groups),
        predicted=min(max(float(predicted.sum()) / total, 0.0), 1.0),
        observed=found / total,
        interval=share_interval(found, rest, (noise, noise)),
        error=float(_error(counts, table.middles, starts)),
        deviation=spread(_error(_drawn(table, table.likely), table.middles, starts)),
        by_chance=float(_error(_drawn(table, _perfect(table)), table.middles, starts).mean()),
    )


def _starts(table: ScoreTable) -> list[int]:
    """Return the first bin of each group."""
    records = table.counts.sum(axis=1)
    share = float(records.sum()) / _GROUPS
    starts, size, noise = [0], 0.0, 0.0
    for place in range(len(records) - 1):
        size, noise = size + float(records[place]), noise + 2 * float(table.variances[place])
        if size >= max(share * (1 - 1e-9), _STAND_OUT * math.sqrt(noise), 1.0):
            starts.append(place + 1)
            size = noise = 0.0
    rest = float(records[starts[-1] :].sum())
    left = _STAND_OUT * math.sqrt(2 * float(table.variances[starts[-1] :].sum()))
    if len(starts) > 1 and rest < max(share / 2, left):
        starts.pop()
    return starts


def _error(counts: Floats, middles: Floats, starts: list[int]) -> Floats:
    """Return the mean distance over groups: [..., b, 2] -> [...]."""
    records = counts.sum(axis=-1)
    far = numpy.add.reduceat(counts[..., 1] - records * middles, starts, axis=-1)
    return divide(numpy.abs(far).sum(axis=-1), records.sum(axis=-1), otherwise=0.0)


def _perfect(table: ScoreTable) -> Floats:
    """Return the counts that probabilities which are right would lead to."""
    records = table.likely.sum(axis=1)
    return numpy.stack([records * (1 - table.middles), records * table.middles], axis=1)


def _drawn(table: ScoreTable, means: Floats) -> Floats:
    """Draw records with these means, and noise: shape [d, b, 2]."""
    rng = numpy.random.default_rng(_SEED)
    drawn = rng.poisson(means, size=(_DRAWS, *means.shape)).astype(float)
    if not table.is_noisy:
        return drawn
    drawn += rng.normal(size=drawn.shape) * numpy.sqrt(table.variances)[:, None]
    return drawn


__all__ = ["Calibration", "Group", "calibration"]
