"""Bounds and caps, against closed forms and other people's figures."""

import math

import numpy
import pytest
from scipy import stats

from confide.privacy.accounting import Schedule, calibrate
from confide.simulations.audit.statistics import (
    Rates,
    choose_threshold,
    count,
    free_bound,
    lower_limit,
    one_run_bound,
    one_run_cap,
    perfect,
    shape_bound,
    upper_limit,
)

DELTA = 1e-5
ONCE = Schedule(noise_multiplier=1.0, sampling_rate=1.0, steps=1)


@pytest.mark.parametrize(
    ("canaries", "cap"),
    [(24, 2.02), (98, 3.47), (243, 4.38), (735, 5.48), (920, 5.70)],
)
def test_a_perfect_guesser_reaches_the_known_caps(canaries: int, cap: float) -> None:
    assert one_run_cap(canaries, delta=DELTA, level=0.05) == pytest.approx(cap, abs=0.005)


@pytest.mark.parametrize(("epsilon", "canaries"), [(1, 10), (3, 62)])
def test_so_many_canaries_are_needed_for_an_epsilon(epsilon: float, canaries: int) -> None:
    assert one_run_cap(canaries, delta=DELTA, level=0.05) >= epsilon
    assert one_run_cap(canaries - 1, delta=DELTA, level=0.05) < epsilon


def test_without_delta_the_one_run_bound_is_a_binomial_test() -> None:
    bound = one_run_bound(canaries=100, guesses=60, right=50, delta=0.0, level=0.05)
    chance = 1 / (1 + math.exp(-bound))
    assert stats.binom.sf(49, 60, chance) == pytest.approx(0.05, rel=1e-6)


def test_guessing_by_coins_gives_no_one_run_bound() -> None:
    assert one_run_bound(canaries=100, guesses=100, right=52, delta=DELTA, level=0.05) == 0.0


def test_delta_lowers_the_one_run_bound() -> None:
    bounds = [
        one_run_bound(canaries=500, guesses=100, right=95, delta=delta, level=0.05)
        for delta in (0.0, 1e-5, 1e-3)
    ]
    assert bounds[0] > bounds[1] > bounds[2]


def test_limits_are_those_of_clopper_and_pearson() -> None:
    interval = stats.binomtest(37, 50).proportion_ci(0.95, method="exact")
    assert lower_limit(37, 50, 0.025) == pytest.approx(interval.low)
    assert upper_limit(37, 50, 0.025) == pytest.approx(interval.high)
    assert lower_limit(0, 50, 0.025) == 0.0
    assert upper_limit(50, 50, 0.025) == 1.0


def test_the_free_bound_reads_both_directions() -> None:
    often = Rates(true_positives=400, positives=400, false_positives=200, negatives=400)
    seldom = Rates(true_positives=200, positives=400, false_positives=0, negatives=400)
    assert free_bound(often, delta=0.0, level=0.05) == pytest.approx(
        free_bound(seldom, delta=0.0, level=0.05)
    )
    found, wrong = seldom.limits(0.05)
    assert free_bound(seldom, delta=0.0, level=0.05) == pytest.approx(math.log(found / wrong))


def test_the_shape_bound_of_one_gaussian_is_its_mu() -> None:
    rates = Rates(true_positives=9000, positives=10_000, false_positives=1000, negatives=10_000)
    found, wrong = rates.limits(0.05)
    mu = float(stats.norm.ppf(found) - stats.norm.ppf(wrong))
    bound = shape_bound(rates, ONCE, delta=DELTA, level=0.05)
    # delta(epsilon) of a Gaussian with this mu (Balle and Wang 2018)
    delta = stats.norm.cdf(mu / 2 - bound / mu) - math.exp(bound) * stats.norm.cdf(
        -mu / 2 - bound / mu
    )
    assert delta == pytest.approx(DELTA, rel=0.15)


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
@pytest.mark.parametrize(("rate", "steps"), [(1.0, 1), (0.2, 20)])
def test_bounds_stay_below_a_sound_mechanism(epsilon: float, rate: float, steps: int) -> None:
    sigma = calibrate(target_epsilon=epsilon, delta=DELTA, sampling_rate=rate, steps=steps)
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
    generator = numpy.random.default_rng(0)
    above = 0
    for _ in range(20):
        noise = generator.normal(size=(2, 500)) * sigma * steps**0.5
        inside = noise[0] + generator.binomial(steps, rate, 500)
        rates = count(inside, noise[1], rate * steps / 2)
        above += shape_bound(rates, schedule, delta=DELTA, level=0.01) > epsilon
        above += free_bound(rates, delta=DELTA, level=0.01) > epsilon
    assert above == 0


def test_a_cap_is_the_bound_of_a_test_that_is_never_wrong() -> None:
    # (0.025)^(1/n) both ways: nothing that is counted gives more.
    n = 1500
    least = 0.025 ** (1 / n)
    assert free_bound(perfect(n, n), delta=0.0, level=0.05) == pytest.approx(
        math.log(least / (1 - least))
    )


def test_a_threshold_is_chosen_between_values() -> None:
    inside, outside = numpy.array([3.0, 4.0, 5.0]), numpy.array([0.0, 1.0, 2.0])
    threshold = choose_threshold(
        inside, outside, lambda rates: rates.true_positives - rates.false_positives
    )
    assert count(inside, outside, threshold) == perfect(3, 3)
