"""Metrics that leave an institution with noise: sums over its records, and what follows from them.

Protected: one unit of the split that is scored. Neighbouring relation: zero-out, so that a unit
that is zeroed out adds nothing to any sum. What leaves is a function of the sums below after
Gaussian noise was added to them, and of nothing else: metrics, the number of records they were
measured on and the standard deviations of their noise are post-processing.

**Sensitivity.** Each record has one row a statistic. A row's entries are not negative, its L2 norm
is at most 1, and it depends on that record's scores and target alone: what a model gives is made
usable first, record by record, and scores that are not finite become a wrong answer given with
certainty. A unit adds the mean of its records' rows, whose norm is at most 1 too. With k statistics
side by side a unit moves the sums by at most sqrt(k) (:func:`sensitivity`), however many records it
has.

**Arithmetic.** Rows are rounded down to multiples of 2^-30 and added as 64-bit integers, a unit's
mean is divided and rounded down as integers: an entry only shrinks, sums are exact in any order,
and the bound holds to the last bit. (A row's norm is computed in float64: 2^-50 is to be added.)

Trusted: the process that adds the noise. Voided by scores of a record that depend on other
records, and by anything else computed from these records that leaves.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from confide.metrics.floor import Floor
from confide.metrics.metric import Metric, Statistic, noise_name
from confide.metrics.tally import ScoreTally

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]
_UNIT = 2**30
_DRAWS, _SEED = 200, 0


def statistics_of(names: Sequence[str], metrics: Mapping[str, Metric]) -> list[Statistic]:
    """Return the statistics that metrics need, each once; a metric without one needs none."""
    needed = (metrics[name].statistic for name in names)
    return list({one.name: one for one in needed if one is not None}.values())


def sensitivity(statistics: Sequence[Statistic]) -> float:
    """Return how far one unit moves the sums of these statistics: their L2 distance.

    >>> sensitivity([])
    0.0
    """
    return math.sqrt(len(statistics))


def unit_sums(
    statistics: Sequence[Statistic],
    scores: Floats,
    targets: NDArray[Any],
    groups: Integers | None = None,
) -> Integers:
    """Add up the rows of all units.

    Args:
        statistics: whose rows stand side by side, at least one.
        scores: as a model gives them, shape [n, ...]; they may be anything.
        targets: shape [n, ...], of classes their indices.
        groups: whose each record is, int64 of shape [n]; None if each is a unit of its own.

    Returns:
        Sums in units of 2^-30: int64, shape [w].
    """
    # One statistic after the other: rows of all side by side would be as many times as large
    return numpy.concatenate([_added(one, scores, targets, groups) for one in statistics])


def _added(
    statistic: Statistic, scores: Floats, targets: NDArray[Any], groups: Integers | None
) -> Integers:
    """Add up one statistic's rows of all units, in units of 2^-30."""
    rows = statistic.rows_fn(*statistic.usable_fn(scores, targets))
    parts = numpy.floor(rows * _UNIT).astype(numpy.int64)
    if groups is None:
        return numpy.asarray(parts.sum(axis=0))
    owners, member = numpy.unique(groups, return_inverse=True)
    totals = numpy.zeros((len(owners), parts.shape[1]), dtype=numpy.int64)
    numpy.add.at(totals, member, parts)
    return numpy.asarray((totals // numpy.bincount(member)[:, None]).sum(axis=0))


def exact_sums(
    statistics: Sequence[Statistic], scores: Floats, targets: NDArray[Any], floor: Floor
) -> dict[str, list[int]]:
    """Return counts in place of each statistic's sums, unprotected.

    Args:
        statistics: those without a form of their own for exact counts are left out.
        scores: as a model gives them, shape [n, ...].
        targets: shape [n, ...], of classes their indices.
        floor: smallest number of units that a count may be chosen from.
    """
    found = {}
    for one in statistics:
        if one.exact_fn is not None:
            counts = one.exact_fn(*one.usable_fn(scores, targets), floor)
            if counts is not None:
                found[one.name] = [int(it) for it in counts.ravel()]
    return found


def named_sums(
    noisy: Floats, statistics: Sequence[Statistic], classes: int
) -> dict[str, list[float]]:
    """Return sums that lie side by side by the names of their statistics."""
    parts = _parts(statistics, classes)
    return {name: [float(it) for it in noisy[part]] for name, part in parts.items()}


def add_noise(sums: Integers, noise: Floats) -> Floats:
    """Return sums in units of one record, with noise, float64 of shape [w].

    Args:
        sums: as of :func:`unit_sums`.
        noise: Gaussian, in units of one record, shape [w].
    """
    # Rounded afterwards: the low bits of a float64 Gaussian would tell what it was added to.
    return numpy.round((sums / _UNIT + noise) * 2**20) / 2**20


def estimates(
    noisy: Floats,
    names: Sequence[str],
    metrics: Mapping[str, Metric],
    *,
    classes: int,
    std: float,
) -> dict[str, float]:
    """Work out metrics, and how much noise is in each, from noisy sums and nothing else.

    Args:
        noisy: sums of ``statistics_of(names, metrics)``, side by side, shape [w].
        names: metrics wanted; those without a statistic are left out.
        metrics: the task's table.
        classes: numbers in one record's scores: of classes, how many there are.
        std: standard deviation of the noise in each sum.

    Returns:
        Name -> value in the metric's range, name_noise -> standard deviation of what noise adds to
        it, and ``num_examples``, the number of units as far as the sums tell, >= 1. A metric that
        is undefined is left out.
    """
    parts = _parts(statistics_of(names, metrics), classes)
    found: dict[str, float] = {}
    for name in names:
        metric = metrics[name]
        if metric.statistic is None or metric.estimate_fn is None:
            continue
        sums = noisy[parts[metric.statistic.name]]
        value = metric.estimate_fn(sums)
        if value is not None:
            found[name] = min(max(value, metric.least), metric.largest)
            found[noise_name(name)] = _spread(metric, sums, std)
    return {**found, "num_examples": max(1, round(_support(noisy, names, metrics, classes)))}


def from_sums(metric: Metric, tallies: Sequence[ScoreTally]) -> dict[str, float]:
    """Work out a metric of all records from the sums of institutions.

    Args:
        metric: what is wanted.
        tallies: at least one.

    Returns:
        Its value, and where sums hold noise the standard deviation of what that adds to it; {}
        where an institution does not tell its sums, or nothing follows from them.
    """
    if metric.sums_fn is None or metric.estimate_fn is None:
        return {}
    parts = [metric.sums_fn(tally) for tally in tallies]
    told = [part for part in parts if part is not None]
    if len(told) < len(parts):
        return {}
    sums = numpy.asarray(numpy.sum(told, axis=0))
    value = metric.estimate_fn(sums)
    if value is None:
        return {}
    found = {metric.name: min(max(value, metric.least), metric.largest)}
    std = math.hypot(*(tally.std for tally in tallies))
    return found | ({noise_name(metric.name): _spread(metric, sums, std)} if std else {})


def _parts(statistics: Sequence[Statistic], classes: int) -> dict[str, slice]:
    """Return which of the sums, laid side by side, are a statistic's."""
    parts, start = {}, 0
    for one in statistics:
        width = len(one.counts_fn(classes))
        parts[one.name] = slice(start, start + width)
        start += width
    return parts


def _support(
    noisy: Floats, names: Sequence[str], metrics: Mapping[str, Metric], classes: int
) -> float:
    """Return the number of units: the mean of what each statistic says, the surer the heavier."""
    statistics = statistics_of(names, metrics)
    parts = _parts(statistics, classes)
    said = weight = 0.0
    for one in statistics:
        counts = one.counts_fn(classes)
        precision = 1 / float(counts @ counts)
        said += precision * float(counts @ noisy[parts[one.name]])
        weight += precision
    return said / weight


def _spread(metric: Metric, sums: Floats, std: float) -> float:
    """Return the standard deviation that noise gives a metric, by drawing more of the same noise.

    Half the distance of the 16th and the 84th percentile: where little is counted, ratios of noisy
    sums have no variance.
    """
    if metric.estimate_fn is None or std == 0:
        return 0.0
    # Public randomness: this says how sure a figure is and hides nothing.
    drawn = sums + numpy.random.default_rng(_SEED).normal(0, std, size=(_DRAWS, len(sums)))
    values = [value for value in map(metric.estimate_fn, drawn) if value is not None]
    low, high = numpy.percentile(values, [15.87, 84.13]) if values else (0.0, 1.0)
    return float(high - low) / 2


__all__ = [
    "Floats",
    "add_noise",
    "estimates",
    "exact_sums",
    "from_sums",
    "named_sums",
    "sensitivity",
    "statistics_of",
    "unit_sums",
]
