"""Small budgets and many steps: calibrated close to the least noise, or refused; never over."""

import itertools
import math

import mpmath
import pytest
from scipy import optimize, stats

from confide.errors import PrivacyError
from confide.privacy.accounting import (
    Schedule,
    _coarsely,
    _halved,
    _interpolated,
    calibrate,
    epsilon,
)
from confide.privacy.large_orders import _divergence, epsilon_at_large_orders
from confide.privacy.loss_distribution import INTERVAL, interval_of

CLOSE = 1.01
STEPS = (1, 100, 10_000, 1_000_000)


def least_noise(target: float, steps: int, delta: float) -> float:
    """Return the least sigma of unsampled steps (Balle and Wang 2018, arXiv 1805.06530, Thm 8)."""

    def excess(logarithm: float) -> float:
        mu = math.sqrt(steps) / math.exp(logarithm)
        inside = stats.norm.cdf(mu / 2 - target / mu)
        beyond = target + stats.norm.logcdf(-mu / 2 - target / mu)
        return float(inside - math.exp(beyond) - delta)

    return math.exp(optimize.brentq(excess, -3, 20))


@pytest.mark.parametrize("delta", [1e-5, 1e-9])
@pytest.mark.parametrize("target", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("steps", STEPS)
def test_unsampled_steps_get_the_least_noise_or_are_refused(
    target: float, steps: int, delta: float
) -> None:
    least = least_noise(target, steps, delta)
    wanted = {"target_epsilon": target, "delta": delta, "sampling_rate": 1.0, "steps": steps}
    if least > 10_000:
        with pytest.raises(PrivacyError, match="No noise multiplier up to 10000"):
            calibrate(**wanted)  # type: ignore[arg-type]
    else:
        sigma = calibrate(**wanted)  # type: ignore[arg-type]
        assert least <= sigma <= CLOSE * least


GRID = list(
    itertools.product((0.02, 0.1, 2.0, 50.0), (1e-3, 0.05), (1, 1000, 10_000), (1e-5, 1e-8))
)


@pytest.mark.parametrize(
    ("target", "rate", "steps", "delta"),
    # Little noise has long tails, and takes seconds
    [pytest.param(*row, marks=[pytest.mark.slow] if row[0] > 1 else []) for row in GRID[::3]],
)
def test_sampled_steps_are_calibrated_within_their_budget(
    target: float, rate: float, steps: int, delta: float
) -> None:
    sigma = calibrate(target_epsilon=target, delta=delta, sampling_rate=rate, steps=steps)
    spent = epsilon(Schedule(noise_multiplier=sigma, sampling_rate=rate, steps=steps), delta=delta)
    assert spent <= target
    # Nothing is wasted: sampling cannot need more noise than nobody's being left out
    assert sigma <= CLOSE * max(0.1, least_noise(target, steps, delta))


@pytest.mark.slow
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_a_million_sampled_steps_need_little_more_noise_than_in_the_limit(delta: float) -> None:
    """Many small losses add up to a Gaussian one, of q sqrt(steps) / sigma."""
    rate, steps = 0.01, 1_000_000
    sigma = calibrate(target_epsilon=0.1, delta=delta, sampling_rate=rate, steps=steps)
    limit = rate * least_noise(0.1, steps, delta)
    assert limit <= sigma <= 1.1 * limit


def test_much_noise_of_large_samples_keeps_the_usual_interval() -> None:
    assert interval_of(1.0, 1e-5) == interval_of(10.0, 0.1) == INTERVAL


@pytest.mark.parametrize(
    ("sigma", "rate", "order"), [(1.0, 0.01, 64), (50.0, 0.1, 1024), (500.0, 1e-3, 5000)]
)
def test_large_orders_are_not_below_the_sum_with_fifty_digits(
    sigma: float, rate: float, order: int
) -> None:
    with mpmath.workdps(50):
        s, q = mpmath.mpf(sigma), mpmath.mpf(rate)
        total = mpmath.fsum(
            mpmath.binomial(order, k)
            * q**k
            * (1 - q) ** (order - k)
            * mpmath.exp(k * (k - 1) / (2 * s * s))
            for k in range(order + 1)
        )
        exact = float(mpmath.log(total) / (order - 1))
    assert exact <= _divergence(sigma, rate, order) <= exact * (1 + 1e-6)


def test_large_orders_bound_what_the_gaussian_mechanism_costs() -> None:
    for steps, delta in itertools.product(STEPS, (1e-5, 1e-9)):
        sigma = least_noise(0.1, steps, delta)
        found = epsilon_at_large_orders(
            noise_multiplier=sigma, sampling_rate=1.0, steps=steps, delta=delta
        )
        assert 0.1 <= found <= 0.12


@pytest.mark.parametrize("target", [0.011, 0.6, 2.0, 7.7, 31.0, 99.0])
@pytest.mark.parametrize("power", [1.0, 1.9, 3.5])
def test_interpolation_finds_what_halving_finds_in_fewer_steps(target: float, power: float) -> None:
    calls = 0

    def spent(sigma: float) -> float:
        nonlocal calls
        calls += 1
        # Beyond a power: a bend, as where losses change from tails to a bell
        return 3.0 * sigma**-power + math.exp(-5.0 * sigma)

    within = (0.01, 0.01)
    while spent(within[1]) > target:
        within = (within[1], 2 * within[1])
    for narrow in (_halved, _interpolated):
        calls = 0
        sigma = narrow(spent, target, within)
        assert spent(sigma) <= target < spent(sigma / (1 + 2e-4))
    assert calls <= 12


@pytest.mark.parametrize("jump", [0.0, math.inf])
def test_interpolation_of_a_jump_takes_at_most_twice_the_steps_of_halving(jump: float) -> None:
    calls = 0

    def spent(sigma: float) -> float:
        nonlocal calls
        calls += 1
        return 1.0 if sigma >= 1.37 else 50.0 + jump

    sigma = _interpolated(spent, 2.0, (1.0, 2.0))
    assert 1.37 <= sigma <= 1.37 * (1 + 2e-4)
    assert calls <= 2 * 14 + 2


@pytest.mark.parametrize(
    ("sigma", "rate", "steps"),
    [(0.22, 1e-6, 1_000_000), (0.378, 1e-3, 100_000), (1.0, 0.1, 10_000), (0.15, 1.0, 1000)],
)
def test_prv_is_refused_before_its_memory_is_taken(sigma: float, rate: float, steps: int) -> None:
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
    with pytest.raises(PrivacyError, match="prv takes too much memory"):
        epsilon(schedule, delta=1e-5, accountant="prv")


def test_prv_is_asked_a_few_times_only_where_pld_allows_much_less_noise() -> None:
    """Each call takes seconds where a plan is extreme."""
    calls = 0

    def spent(sigma: float) -> float:
        nonlocal calls
        calls += 1
        return 1.9 / sigma

    assert spent(_coarsely(spent, 1.0, 1.0)) <= 1.0
    assert calls <= 14
