"""Two-sample tests, and how large a difference is.

Every p-value holds for finite samples: by permutations, by draws of tables with the same margins,
or by a law that is exact or errs towards 1. The population stability index is an effect size, not a
test (Yurdakul and Naranjo, "Statistical Properties of the Population Stability Index", Journal of
Risk Model Validation 2020); the maximum mean discrepancy is that of Gretton et al., "A Kernel
Two-Sample Test", JMLR 2012, with a Gaussian kernel of median width.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy
from numpy.typing import NDArray
from scipy import stats

from confide.client.drift.kept import MISSING, ODD, UNSEEN, Categories, Floats, Numbers
from confide.pages.wording import in_digits

Counts = NDArray[numpy.int64]
_BINS = 10
_RARE = 5.0
"""Expected records of a cell below which the law of chi square is not trusted."""
_PART = 256
"""Permutations computed at once."""
_MOST_IN_KERNEL = 500
"""Records of each side that a kernel compares: its cost grows with their square."""


class Compared(NamedTuple):
    """Outcome of one test.

    Attributes:
        statistic: what was computed.
        p_value: probability of as much by chance, > 0.
        effect: how large the difference is, in the test's own measure.
    """

    statistic: float
    p_value: float
    effect: float


class Bins(NamedTuple):
    """Two sides of a variable, counted in the same bins.

    Attributes:
        names: of the bins.
        reference: records of each, shape [b].
        now: the same now.
    """

    names: tuple[str, ...]
    reference: Floats
    now: Floats


def psi(reference: Floats, now: Floats) -> float:
    """Return the population stability index of counts in the same bins, shape [b], at least 0.

    Half a record is added to each bin, so that an empty one does not make it infinite.

    >>> round(psi(numpy.array([50.0, 50.0]), numpy.array([50.0, 50.0])), 6)
    0.0
    """
    first = (reference + 0.5) / (reference + 0.5).sum()
    second = (now + 0.5) / (now + 0.5).sum()
    return float(((second - first) * numpy.log(second / first)).sum())


def number_bins(reference: Numbers, now: Numbers, *, whole: bool = True) -> Bins:
    """Count numbers between the deciles of the reference.

    Args:
        reference: numbers of the reference.
        now: numbers now.
        whole: whether those without a value, and those that are no number, have bins too.
    """
    inner = numpy.unique(numpy.quantile(reference.values, numpy.arange(1, _BINS) / _BINS))
    low = min(reference.values[0], now.values[0]) if now.values.size else reference.values[0]
    high = max(reference.values[-1], now.values[-1]) if now.values.size else reference.values[-1]
    # A decile that is the smallest value of all would leave an empty bin below it
    inner = inner[inner > low]
    ends = [low, *inner, high]
    names = [f"{in_digits(one)} to {in_digits(other)}" for one, other in itertools.pairwise(ends)]
    counted = []
    for side in (reference, now):
        places = numpy.searchsorted(inner, side.values, side="right")
        found = numpy.bincount(places, minlength=len(inner) + 1).astype(numpy.float64)
        # Of a sample, as many as it stands for
        scale = side.present / max(len(side.values), 1)
        rest = [float(side.missing), float(side.odd)] if whole else []
        counted.append(numpy.array([*(found * scale), *rest]))
    return _there(Bins((*names, *((MISSING, ODD) if whole else ())), counted[0], counted[1]))


def category_bins(reference: Categories, now: Categories) -> Bins:
    """Count categories; those that the reference has none of are unseen, together."""
    known = [name for name, count in reference.counts.items() if count and name != UNSEEN]
    names = (*known, UNSEEN) if MISSING in known else (*known, MISSING, UNSEEN)
    counted = []
    for side in (reference, now):
        found = {name: side.counts.get(name, 0) for name in names[:-1]}
        found[UNSEEN] = side.records - sum(found.values())
        counted.append(numpy.array([found[name] for name in names], dtype=numpy.float64))
    return _there(Bins(names, counted[0], counted[1]))


def _there(bins: Bins) -> Bins:
    """Leave out what neither side has."""
    kept = (bins.reference + bins.now) > 0
    names = tuple(name for name, it in zip(bins.names, kept.tolist(), strict=True) if it)
    return Bins(names, bins.reference[kept], bins.now[kept])


def kolmogorov_smirnov(reference: Numbers, now: Numbers) -> Compared:
    """Compare numbers, those without a value left out; the effect is their stability index."""
    # The exact law is not found for every pair of sizes; this one errs little from 50 values on
    found = stats.ks_2samp(reference.values, now.values, method="asymp")
    bins = number_bins(reference, now, whole=False)
    return Compared(float(found.statistic), float(found.pvalue), psi(bins.reference, bins.now))


def chi_square(bins: Bins, draws: int, rng: numpy.random.Generator) -> Compared:
    """Compare counts of records in the same bins; the effect is their stability index.

    Args:
        bins: counts, of at least one record a side.
        draws: tables drawn where a cell expects few records.
        rng: draws them.
    """
    table = numpy.stack([bins.reference, bins.now]).round().astype(numpy.int64)
    effect = psi(bins.reference, bins.now)
    if table.shape[1] < 2:
        return Compared(0.0, 1.0, effect)
    totals, sizes = table.sum(axis=0), table.sum(axis=1)
    expected = numpy.outer(sizes, totals) / sizes.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    if expected.min() >= _RARE:
        return Compared(statistic, float(stats.chi2.sf(statistic, table.shape[1] - 1)), effect)
    drawn = rng.multivariate_hypergeometric(totals, int(sizes[1]), size=draws, method="marginals")
    other = totals - drawn
    spread = (drawn - expected[1]) ** 2 / expected[1] + (other - expected[0]) ** 2 / expected[0]
    return Compared(statistic, _p_value(spread.sum(axis=1), statistic), effect)


def missing_shares(reference: Numbers, now: Numbers) -> Compared:
    """Compare shares of records without a value, by Fisher's exact test."""
    sides = [(it.missing + it.odd, it.present) for it in (reference, now)]
    found = stats.fisher_exact([list(side) for side in sides])
    first, second = (numpy.array(side, dtype=numpy.float64) for side in sides)
    return Compared(float(found.statistic), float(found.pvalue), psi(first, second))


def mean_discrepancy(
    reference: Floats, now: Floats, draws: int, rng: numpy.random.Generator
) -> Compared:
    """Compare features [n, d] and [m, d] by their maximum mean discrepancy.

    Args:
        reference: features of the reference.
        now: features now.
        draws: permutations.
        rng: draws them, and samples of more than 500 records a side.

    Returns:
        The unbiased estimate of its square, its p-value, and its root, 0 where that is negative.
    """
    first, second = (_sampled(side, _MOST_IN_KERNEL, rng) for side in (reference, now))
    points = numpy.concatenate([first, second]).astype(numpy.float64)
    squares = (points**2).sum(axis=1)
    distances = (squares[:, None] + squares[None, :] - 2 * points @ points.T).clip(min=0)
    apart = distances[numpy.triu_indices(len(points), 1)]
    width = float(numpy.median(apart[apart > 0])) if (apart > 0).any() else 1.0
    kernel = numpy.exp(-distances / width)
    numpy.fill_diagonal(
        kernel, 0.0
    )  # the unbiased estimate leaves pairs of a point with itself out
    size, total = len(first), float(kernel.sum())
    rows = kernel.sum(axis=1)

    def estimate(chosen: Floats) -> Floats:
        # chosen [r, n]: 1 where a record is of the first side
        inside = ((chosen @ kernel) * chosen).sum(axis=1)
        across = chosen @ rows - inside
        outside = total - inside - 2 * across
        rest = len(points) - size
        within = inside / (size * (size - 1)) + outside / (rest * (rest - 1))
        made: Floats = within - 2 * across / (size * rest)
        return made

    observed, p_value = permuted(estimate, size, len(points), draws, rng)
    return Compared(observed, p_value, float(numpy.sqrt(max(observed, 0.0))))


def higher_mean(
    reference: Floats, now: Floats, draws: int, rng: numpy.random.Generator
) -> Compared:
    """Say whether numbers [m] have a higher mean than those of the reference [n].

    Returns:
        The difference, its p-value, and it in standard deviations of both together.
    """
    pooled = numpy.concatenate([reference, now])
    size = len(reference)

    def difference(chosen: Floats) -> Floats:
        first = chosen @ pooled
        rise: Floats = (pooled.sum() - first) / len(now) - first / size
        return rise

    observed, p_value = permuted(difference, size, len(pooled), draws, rng)
    spread = float(numpy.sqrt((reference.var() * size + now.var() * len(now)) / len(pooled)))
    return Compared(observed, p_value, observed / spread if spread else 0.0)


def calibration_change(
    reference: tuple[Floats, Floats],
    now: tuple[Floats, Floats],
    draws: int,
    rng: numpy.random.Generator,
) -> Compared:
    """Compare how far observed shares lie from stated probabilities, tenth by tenth.

    Args:
        reference: stated probabilities [n, k], and whether what they stand for came true.
        now: the same now.
        draws: permutations of records.
        rng: draws them.

    Returns:
        Mean distance of the two curves over records; the effect is the same.
    """
    stated = numpy.concatenate([reference[0], now[0]])
    gaps = numpy.concatenate([reference[1], now[1]]) - stated
    edges = numpy.unique(numpy.quantile(stated, numpy.arange(1, _BINS) / _BINS))
    places = numpy.searchsorted(edges, stated, side="right")
    # A record's gaps, summed in each tenth of all probabilities: [n + m, b]
    rows = numpy.stack([(gaps * (places == at)).sum(axis=1) for at in range(len(edges) + 1)], 1)
    size, total, width = len(reference[0]), rows.sum(axis=0), stated.shape[1]

    def distance(chosen: Floats) -> Floats:
        first = chosen @ rows
        rest = (total - first) / (len(rows) - size)
        far: Floats = numpy.abs(rest - first / size).sum(axis=1) / width
        return far

    observed, p_value = permuted(distance, size, len(rows), draws, rng)
    return Compared(observed, p_value, observed)


def expected_error(stated: Floats, came_true: Floats) -> float:
    """Return the expected calibration error, of tenths of the probabilities [n, k]."""
    edges = numpy.unique(numpy.quantile(stated, numpy.arange(1, _BINS) / _BINS))
    places = numpy.searchsorted(edges, stated, side="right")
    gaps = came_true - stated
    return float(
        sum(abs(gaps[places == at].sum()) for at in range(len(edges) + 1)) / max(stated.size, 1)
    )


def brier(stated: Floats, came_true: Floats) -> float:
    """Return the mean squared distance of probabilities [n, k] from what came true."""
    return float(((stated - came_true) ** 2).mean())


def permuted(
    statistic_fn: Callable[[Floats], Floats],
    size: int,
    records: int,
    draws: int,
    rng: numpy.random.Generator,
) -> tuple[float, float]:
    """Compute a statistic, and its p-value over random splits of the records of both sides.

    Args:
        statistic_fn: rows of zeros and ones [r, n], 1 where a record is of the first side -> [r].
        size: records of the first side, which come first.
        records: n.
        draws: splits.
        rng: draws them.
    """
    own = numpy.zeros((1, records))
    own[0, :size] = 1.0
    observed = float(statistic_fn(own)[0])
    found = []
    for start in range(0, draws, _PART):
        rows = numpy.broadcast_to(own, (min(_PART, draws - start), records)).copy()
        found.append(statistic_fn(rng.permuted(rows, axis=1, out=rows)))
    return observed, _p_value(numpy.concatenate(found), observed)


def holm(p_values: list[float]) -> list[float]:
    """Return p-values that hold for all together (Holm, Scandinavian Journal of Statistics 1979).

    >>> [round(it, 3) for it in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = numpy.argsort(p_values, kind="stable")
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order.tolist()):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def _p_value(drawn: Floats, observed: float) -> float:
    # Equal up to rounding is equal: with few values many splits give the very same
    reached = (drawn >= observed - 1e-12 * max(1.0, abs(observed))).sum()
    return float((1 + reached) / (1 + len(drawn)))


def _sampled(rows: Floats, most: int, rng: numpy.random.Generator) -> Floats:
    if len(rows) <= most:
        return rows
    return rows[rng.choice(len(rows), most, replace=False)]


__all__ = [
    "Bins",
    "Compared",
    "brier",
    "calibration_change",
    "category_bins",
    "chi_square",
    "expected_error",
    "higher_mean",
    "holm",
    "kolmogorov_smirnov",
    "mean_discrepancy",
    "missing_shares",
    "number_bins",
    "permuted",
    "psi",
]
