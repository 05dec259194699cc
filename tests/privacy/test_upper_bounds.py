"""No accountant reports less than the truth, at any delta that a config allows.

The truth is the Gaussian mechanism's in closed form (Balle and Wang 2018, arXiv 1805.06530, Theorem
8), with 50 digits: unsampled, T steps of noise sigma are one of mu = sqrt(T) / sigma.
"""

import dataclasses
import math

import mpmath
import numpy as np
import pytest
from dp_accounting.pld import pld_pmf, privacy_loss_distribution
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss

from confide.errors import PrivacyError
from confide.privacy.accounting import Schedule, calibrate, epsilon, renyi
from confide.privacy.loss_distribution import (
    INTERVAL,
    Steps,
    bounded_epsilon,
    composition_error,
    divergences,
    interval_of,
)

LEAST_DELTA = 1e-12
DELTAS = [1e-2, 1e-5, 1e-8, 1e-10, LEAST_DELTA]
# (sigma, steps): epsilons from 0.01 to above 100 over these deltas, over 1 to 100,000 steps.
UNSAMPLED = [
    (500.0, 100),
    (100.0, 10),
    (100.0, 1000),
    (10.0, 10),
    (4.0, 4),
    (1.0, 1),
    (3.0, 10),
    (300.0, 100_000),
    (20.0, 1000),
    (50.0, 10_000),
    (1.0, 5),
    (2.0, 20),
    (5.0, 500),
    (2.0, 200),
]
ULP = 2.0**-53


def exact_delta(spent: mpmath.mpf, mu: mpmath.mpf) -> mpmath.mpf:
    with mpmath.workdps(50):
        above = mpmath.ncdf(-spent / mu + mu / 2)
        return above - mpmath.exp(spent) * mpmath.ncdf(-spent / mu - mu / 2)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize(("sigma", "steps"), UNSAMPLED)
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_no_epsilon_is_below_that_of_the_exact_gaussian(
    accountant: str, sigma: float, steps: int, delta: float
) -> None:
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=1.0, steps=steps)
    spent = epsilon(schedule, delta=delta, accountant=accountant)
    # An epsilon is enough if the true delta at it is no larger
    assert exact_delta(mpmath.mpf(spent), mpmath.sqrt(steps) / sigma) <= delta


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize(("sigma", "steps"), UNSAMPLED[1:9])
def test_prv_is_not_below_the_exact_gaussian_or_refuses(
    sigma: float, steps: int, delta: float
) -> None:
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=1.0, steps=steps)
    if 5e-13 * steps > delta / 2:
        with pytest.raises(PrivacyError, match="use pld or rdp"):
            epsilon(schedule, delta=delta, accountant="prv")
        return
    spent = epsilon(schedule, delta=delta, accountant="prv")
    assert exact_delta(mpmath.mpf(spent), mpmath.sqrt(steps) / sigma) <= delta


@pytest.mark.parametrize(("sigma", "steps"), [(3.0, 10), (20.0, 1000), (5.0, 500)])
def test_bound_is_tight_where_delta_is_usual(sigma: float, steps: int) -> None:
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=1.0, steps=steps)
    spent = epsilon(schedule, delta=1e-5)
    assert exact_delta(mpmath.mpf(spent - 1e-3), mpmath.sqrt(steps) / sigma) > 1e-5


def exact_divergence(loss: GaussianPrivacyLoss, spent: float) -> mpmath.mpf:
    """Return the hockey-stick divergence of one sampled step, with 50 digits."""
    with mpmath.workdps(50):
        q, sigma = mpmath.mpf(loss.sampling_prob), mpmath.mpf(loss.standard_deviation)
        removed = loss.adjacency_type == AdjacencyType.REMOVE
        share, e = 1 - q, mpmath.exp(spent)
        # The mixture's loss is log(share + q exp(z)), z linear in where it is observed
        inside = ((e if removed else 1 / e) - share) / q
        if inside <= 0:
            return 1 - e if removed else mpmath.mpf(0)
        cut = mpmath.log(inside) * sigma**2 + mpmath.mpf(1) / 2
        beyond = lambda mean: mpmath.ncdf((mean - cut) / sigma)  # noqa: E731 - above the cut
        mixed = share * beyond(0) + q * beyond(1)
        return mixed - e * beyond(0) if removed else (1 - beyond(0)) - e * (1 - mixed)


@pytest.mark.parametrize("direction", [AdjacencyType.REMOVE, AdjacencyType.ADD])
@pytest.mark.parametrize(
    ("sigma", "rate"),
    [
        *[(0.5, 0.01), (0.8, 0.001), (1.2, 120 / 3383), (3.0, 0.9), (20.0, 1.0)],
        *[(2.0, 1e-4), (30.0, 0.01), (400.0, 1e-3)],  # in finer intervals
    ],
)
def test_divergences_of_a_step_are_not_below_the_true_ones(
    sigma: float, rate: float, direction: AdjacencyType
) -> None:
    loss, interval = (
        GaussianPrivacyLoss(sigma, sampling_prob=rate, adjacency_type=direction),
        interval_of(sigma, rate),
    )
    lowest, curve = divergences(loss, interval)
    for index in np.linspace(0, len(curve) - 1, 150).astype(int):
        spent = float(lowest + index) * interval
        exact = exact_divergence(loss, spent)
        assert exact <= curve[index] <= exact + 1e-10  # loose where losses are very negative
        # What the module's docstring says of the library's own error
        assert abs(loss.get_delta_for_epsilon(spent) - exact) <= 16 * ULP


@pytest.mark.parametrize("steps", [2, 16])
@pytest.mark.parametrize(("sigma", "rate"), [(1.0, 0.05), (0.8, 0.001), (2.0, 1.0)])
def test_composition_is_wrong_by_no_more_than_its_bound(
    sigma: float, rate: float, steps: int
) -> None:
    lowest, curve = divergences(GaussianPrivacyLoss(sigma, sampling_prob=rate))
    pmf = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(
        INTERVAL, lowest, lowest + len(curve) - 1, curve
    ).to_dense_pmf()
    exact = probs = pmf._probs
    for _ in range(int(math.log2(steps))):  # sums of positive products: right in every digit
        exact = np.convolve(exact, exact)
    composed = pmf.self_compose(steps)
    first = composed._lower_loss - steps * lowest
    shared = exact[first : first + composed.size]
    # Every divergence is a sum of these with weights from 0 to 1 that rise once
    tails = np.cumsum((composed._probs[: len(shared)] - shared)[::-1])
    assert np.abs(tails).max() <= composition_error(probs, steps, composed.size)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize(
    ("sigma", "rate", "steps"), [(1.0, 0.05, 200), (0.8, 0.001, 5000), (1.2, 120 / 3383, 100)]
)
def test_sampled_steps_lie_between_a_finer_bound_and_rdp(
    sigma: float, rate: float, steps: int, delta: float
) -> None:
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
    finer = privacy_loss_distribution.from_gaussian_mechanism(
        sigma, sampling_prob=rate, value_discretization_interval=2e-4
    )
    spent = epsilon(schedule, delta=delta)
    assert finer.self_compose(steps).get_epsilon_for_delta(delta) <= spent
    assert spent < epsilon(schedule, delta=delta, accountant="rdp")


@pytest.mark.parametrize("delta", [1e-9, LEAST_DELTA])
@pytest.mark.parametrize(("sigma", "rate", "steps"), [(1.0, 0.05, 200), (2.0, 0.01, 10_000)])
def test_smallest_deltas_cost_the_smaller_of_both_bounds(
    sigma: float, rate: float, steps: int, delta: float
) -> None:
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
    by_losses = bounded_epsilon([Steps(sigma, rate, steps)], delta=delta)
    assert epsilon(schedule, delta=delta) == min(
        by_losses, epsilon(schedule, delta=delta, accountant="rdp")
    )
    assert epsilon(schedule, delta=delta) < math.inf


def test_usual_noise_is_what_it_was_before_rounding_was_bounded() -> None:
    usual = calibrate(target_epsilon=8, delta=1e-5, sampling_rate=120 / 3383, steps=100)
    assert usual == pytest.approx(0.6227704778872533, rel=1e-9)
    heart = calibrate(target_epsilon=3, delta=1e-5, sampling_rate=0.1, steps=110)
    assert heart == pytest.approx(1.7319033219901678, rel=1e-9)


@pytest.mark.parametrize("target", [0.05, 0.1])
def test_budget_that_rdp_never_allows_is_calibrated_by_losses(target: float) -> None:
    sigma = calibrate(target_epsilon=target, delta=1e-5, sampling_rate=0.1, steps=200)
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=0.1, steps=200)
    assert 0.9 * target < epsilon(schedule, delta=1e-5) <= target
    assert epsilon(schedule, delta=1e-5, accountant="rdp") > target


@pytest.mark.timeout(60)
@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_million_steps_are_calibrated_in_seconds(rate: float) -> None:
    sigma = calibrate(target_epsilon=8, delta=1e-5, sampling_rate=rate, steps=1_000_000)
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=rate, steps=1_000_000)
    assert 7.9 < epsilon(schedule, delta=1e-5) <= 8


def test_prv_is_refused_where_its_own_error_is_the_whole_budget() -> None:
    with pytest.raises(PrivacyError, match=r"accountant=prv is too coarse for epsilon=0\.009"):
        calibrate(target_epsilon=0.009, delta=1e-5, sampling_rate=0.1, steps=1, accountant="prv")


@pytest.mark.parametrize("delta", [1e-5, 1e-9])
@pytest.mark.parametrize(("first", "steps", "second"), [(4.0, 20, 12.0), (1.5, 3, 0.9)])
def test_two_gaussians_together_cost_what_the_exact_formula_says(
    first: float, steps: int, second: float, delta: float
) -> None:
    """Unsampled, they are one Gaussian: their mu squared adds up (Dong, Roth and Su 2022)."""
    beside = Schedule(noise_multiplier=second, sampling_rate=1.0, steps=1)
    both = Schedule(noise_multiplier=first, sampling_rate=1.0, steps=steps, before=beside)
    one = Schedule(
        noise_multiplier=(steps / first**2 + 1 / second**2) ** -0.5, sampling_rate=1.0, steps=1
    )
    exact = epsilon(one, delta=delta)
    assert exact * (1 - 1e-6) <= epsilon(both, delta=delta) <= exact * 1.001
    assert epsilon(both, delta=delta) < epsilon(both, delta=delta, accountant="rdp")


def test_a_release_beside_sampled_steps_costs_less_than_both_apart() -> None:
    steps = Schedule(noise_multiplier=2.0, sampling_rate=0.2, steps=150)
    release = Schedule(noise_multiplier=11.24, sampling_rate=1.0, steps=1)
    both = dataclasses.replace(steps, before=release)
    apart = epsilon(steps, delta=1e-5)
    together = epsilon(both, delta=1e-5)
    assert apart < together < apart + epsilon(release, delta=1e-5)
    assert together == pytest.approx(epsilon(both, delta=1e-5, accountant="prv"), rel=0.01)


def test_noise_leaves_room_for_a_release() -> None:
    release = Schedule(noise_multiplier=11.24, sampling_rate=1.0, steps=1)
    asked = {"target_epsilon": 1.0, "delta": 1e-5, "sampling_rate": 0.2, "steps": 50}
    sigma = calibrate(**asked, before=release)
    spent = Schedule(noise_multiplier=sigma, sampling_rate=0.2, steps=50, before=release)
    assert calibrate(**asked) < sigma < 1.2 * calibrate(**asked)
    assert 0.995 < epsilon(spent, delta=1e-5) <= 1.0
    with pytest.raises(PrivacyError, match="No noise multiplier"):
        calibrate(**{**asked, "target_epsilon": 0.2}, before=release)


@pytest.mark.parametrize("accountant", ["pld", "rdp", "prv"])
@pytest.mark.parametrize("sigma", [2.0, 64.0, 1024.0, 8192.0])
def test_steps_of_any_noise_cost_no_less_than_the_release_beside_them(
    sigma: float, accountant: str
) -> None:
    release = Schedule(noise_multiplier=11.24, sampling_rate=1.0, steps=1)
    both = Schedule(noise_multiplier=sigma, sampling_rate=0.2, steps=50, before=release)
    spent = epsilon(both, delta=1e-5, accountant=accountant)
    # On a finer grid of losses the bound is a little closer to the truth.
    assert spent >= epsilon(release, delta=1e-5) * (1 - 1e-5)
    apart = dataclasses.replace(both, before=None)
    assert renyi(both, order=8.0) == renyi(apart, order=8.0) + renyi(release, order=8.0)


def test_a_plan_cannot_fill_memory_with_a_grid() -> None:
    # Little noise beside a million steps of much: 571 million cells on the grid of the latter
    release = Schedule(noise_multiplier=0.6, sampling_rate=1.0, steps=1)
    steps = Steps(2.0, 1e-6, 1000), Steps(0.6, 1.0, 1)
    alone = bounded_epsilon(steps[1:], delta=1e-5)
    assert alone <= bounded_epsilon(steps, delta=1e-5) < 1.1 * alone
    target = 1.00001 * epsilon(release, delta=1e-5, accountant="pld")
    with pytest.raises(PrivacyError, match="No noise multiplier"):
        calibrate(
            target_epsilon=target, delta=1e-5, sampling_rate=1e-6, steps=10**6, before=release
        )
