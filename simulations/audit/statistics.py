"""Lower bounds on epsilon from counts, and the largest that a number of trials can give.

* **Free bound** (Nasr et al., "Adversary Instantiation", S&P 2021, arXiv 2101.04535): a test of
  "with the canary" against "without" has a true and a false positive rate, which (epsilon, delta)
  limits by TPR <= e^epsilon FPR + delta and 1 - FPR <= e^epsilon (1 - TPR) + delta. With
  Clopper-Pearson limits of both rates it assumes nothing of the mechanism.
* **Shape bound** (Nasr et al., "Tight Auditing", USENIX Security 2023, arXiv 2302.07956): the
  mechanism is taken for a Poisson-subsampled Gaussian with the plan's q and steps, and some sigma.
  Rates that a sigma makes impossible rule out all larger ones: epsilon of the largest sigma that is
  left is a lower bound. With q = 1 this is Gaussian DP's mu. It is much tighter, since it reads the
  whole privacy curve and not one delta, and means nothing for a mechanism of another shape.
* **One-run bound** (Steinke, Nasr and Jagielski, NeurIPS 2023, arXiv 2305.08846, Theorem 5.2): of r
  guesses at m coins v are right.

Every function takes ``level``, the probability that a bound exceeds the truth.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy
from dp_accounting import (
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from numpy.typing import NDArray
from scipy import stats

from confide.privacy.accounting import Schedule, epsilon

Values = NDArray[numpy.float64]

# Epsilons at which a privacy curve is compared with measured rates.
_CURVE = numpy.concatenate([numpy.linspace(0.0, 2.0, 41), numpy.linspace(2.25, 30.0, 112)])
_MOST_SIGMA = 1e3
_SIGMA_TOLERANCE = 0.005
_CURVE_INTERVAL = 1e-3


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a test got right and wrong.

    Attributes:
        true_positives: trials with the canary that it called "with".
        positives: number of trials with the canary.
        false_positives: trials without that it called "with".
        negatives: number of trials without.
    """

    true_positives: int
    positives: int
    false_positives: int
    negatives: int

    def limits(self, level: float) -> tuple[float, float]:
        """Return a lower limit of the TPR and an upper one of the FPR (Clopper-Pearson).

        Both hold together but with probability ``level``.
        """
        return (
            lower_limit(self.true_positives, self.positives, level / 2),
            upper_limit(self.false_positives, self.negatives, level / 2),
        )


def lower_limit(successes: int, trials: int, level: float) -> float:
    """Return the one-sided Clopper-Pearson lower limit of a proportion."""
    return 0.0 if not successes else float(stats.beta.ppf(level, successes, trials - successes + 1))


def upper_limit(successes: int, trials: int, level: float) -> float:
    """Return the one-sided Clopper-Pearson upper limit of a proportion."""
    return 1.0 - lower_limit(trials - successes, trials, level)


def free_bound(rates: Rates, *, delta: float, level: float) -> float:
    """Return a lower bound on epsilon that assumes nothing of the mechanism.

    Args:
        rates: of a threshold that was fixed before.
        delta: in [0, 1).
        level: probability that the bound exceeds the truth.

    Returns:
        At least 0.

    >>> rates = Rates(true_positives=990, positives=1000, false_positives=20, negatives=1000)
    >>> round(free_bound(rates, delta=1e-5, level=0.05), 2)
    3.82
    """
    found, wrong = rates.limits(level)
    ratios = [(found, wrong), (1 - wrong, 1 - found)]
    return max(
        0.0,
        *(math.log((above - delta) / below) for above, below in ratios if above > delta and below),
    )


def shape_bound(rates: Rates, schedule: Schedule, *, delta: float, level: float) -> float:
    """Return a lower bound on epsilon for a mechanism of the plan's shape.

    Args:
        rates: of a threshold that was fixed before.
        schedule: the plan's q and steps; its sigma is where the search begins, no more.
        delta: at which epsilon is told.
        level: probability that the bound exceeds the truth.

    Returns:
        At least 0.
    """
    found, wrong = rates.limits(level)

    def is_possible(sigma: float) -> bool:
        curve = _deltas(sigma, schedule.sampling_rate, schedule.steps)
        with numpy.errstate(over="ignore"):
            odds = numpy.exp(_CURVE)
            return bool(
                numpy.all(found <= odds * wrong + curve)
                and numpy.all(1 - wrong <= odds * (1 - found) + curve)
            )

    # From the plan's own sigma: privacy curves of little noise cost memory and time.
    least = most = schedule.noise_multiplier
    while is_possible(most):
        least, most = most, 2 * most
        if most > _MOST_SIGMA:
            return 0.0
    while not is_possible(least):
        least, most = least / 2, least
    while most / least > 1 + _SIGMA_TOLERANCE:
        middle = math.sqrt(least * most)
        least, most = (middle, most) if is_possible(middle) else (least, middle)
    known = Schedule(
        noise_multiplier=most, sampling_rate=schedule.sampling_rate, steps=schedule.steps
    )
    return epsilon(known, delta=delta)


@functools.lru_cache(maxsize=512)
def _deltas(sigma: float, rate: float, steps: int) -> Values:
    """Return delta at each epsilon of ``_CURVE``: an upper bound."""
    if rate == 1.0:  # one Gaussian, exactly (Balle and Wang 2018, arXiv 1805.06530, Theorem 8)
        mu = math.sqrt(steps) / sigma
        falling = stats.norm.cdf(-_CURVE / mu + mu / 2)
        with numpy.errstate(over="ignore"):
            exact: Values = falling - numpy.exp(_CURVE + stats.norm.logcdf(-_CURVE / mu - mu / 2))
        return exact
    accountant = PLDAccountant(
        NeighboringRelation.REPLACE_SPECIAL, value_discretization_interval=_CURVE_INTERVAL
    )
    sampled = PoissonSampledDpEvent(rate, GaussianDpEvent(sigma))
    accountant.compose(SelfComposedDpEvent(sampled, steps))
    return numpy.array([accountant.get_delta(value) for value in _CURVE])


def choose_threshold(inside: Values, outside: Values, quality: Callable[[Rates], float]) -> float:
    """Return the threshold of the best quality; to be used on other trials than these.

    Args:
        inside: statistic of trials with the canary.
        outside: statistic of trials without.
        quality: what rates are worth, such as a bound.
    """
    inside, outside = numpy.sort(inside), numpy.sort(outside)
    everything = numpy.sort(numpy.concatenate([inside, outside]))
    middles = (everything[1:] + everything[:-1]) / 2
    candidates = middles[:: max(1, len(middles) // 400)]
    return float(
        max(candidates, key=lambda threshold: quality(count(inside, outside, float(threshold))))
    )


def count(inside: Values, outside: Values, threshold: float) -> Rates:
    """Count what a threshold gets right and wrong."""
    return Rates(
        true_positives=int((inside > threshold).sum()),
        positives=len(inside),
        false_positives=int((outside > threshold).sum()),
        negatives=len(outside),
    )


def perfect(positives: int, negatives: int) -> Rates:
    """Return the rates of a test that is never wrong: what the cap of a bound follows from."""
    return Rates(
        true_positives=positives, positives=positives, false_positives=0, negatives=negatives
    )


def one_run_bound(*, canaries: int, guesses: int, right: int, delta: float, level: float) -> float:
    """Return the lower bound on epsilon that guesses at coins give (Theorem 5.2, algorithm of D).

    Args:
        canaries: m, each in the records by a fair coin of its own.
        guesses: r <= m, the number of coins that were guessed.
        right: v <= r, the number guessed right.
        delta: in [0, 1).
        level: probability that the bound exceeds the truth.

    Returns:
        At least 0.

    >>> round(one_run_bound(canaries=24, guesses=24, right=24, delta=1e-5, level=0.05), 2)
    2.02
    """

    def is_ruled_out(value: float) -> bool:
        return _one_run_probability(canaries, guesses, right, value, delta) < level

    if not is_ruled_out(0.0):
        return 0.0
    least, most = 0.0, 1.0
    while is_ruled_out(most):
        least, most = most, 2 * most
    for _ in range(40):
        middle = (least + most) / 2
        least, most = (middle, most) if is_ruled_out(middle) else (least, middle)
    return least


def _one_run_probability(
    canaries: int, guesses: int, right: int, value: float, delta: float
) -> float:
    """Bound the probability of so many right guesses under (epsilon, delta)."""
    chance = 1 / (1 + math.exp(-value))
    beyond = float(stats.binom.sf(right - 1, guesses, chance))
    if not right:
        return 1.0
    # The largest mean of the i outcomes below `right`: how delta can be used best.
    below = stats.binom.pmf(right - numpy.arange(1, right + 1), guesses, chance).cumsum()
    most = float((below / numpy.arange(1, right + 1)).max())
    return min(1.0, beyond + most * delta * 2 * canaries)


def one_run_cap(canaries: int, *, delta: float, level: float) -> float:
    """Return the one-run bound of a guesser who is never wrong."""
    return one_run_bound(
        canaries=canaries, guesses=canaries, right=canaries, delta=delta, level=level
    )


__all__ = [
    "Rates",
    "Values",
    "choose_threshold",
    "count",
    "free_bound",
    "lower_limit",
    "one_run_bound",
    "one_run_cap",
    "perfect",
    "shape_bound",
    "upper_limit",
]
