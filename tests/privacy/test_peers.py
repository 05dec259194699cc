"""Noise of peers: by hand, by an independent accountant, and where it does not count."""

import math

import dp_accounting
import numpy
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from confide.privacy.accounting import Schedule, epsilon
from confide.privacy.peers import honest_in_each, multiplier_with_peers

NOISES = st.tuples(st.floats(0.1, 10), st.floats(0.01, 1))


def test_equal_institutions_gain_the_root_of_their_number() -> None:
    assert multiplier_with_peers((1.24, 0.25), [(1.24, 0.25)] * 4, honest=5) == pytest.approx(
        1.24 * math.sqrt(5)
    )


def test_unequal_institutions_by_hand() -> None:
    """Own 2 / 0.5 = 4; others 3 and 6, of which the smaller counts: 0.5 * sqrt(16 + 9)."""
    others = [(3.0, 0.5), (1.5, 0.5)]
    assert multiplier_with_peers((2.0, 0.5), others, honest=2) == pytest.approx(2.5)


@given(own=NOISES, others=st.lists(NOISES, max_size=6))
def test_alone_it_is_the_institutions_own_noise(
    own: tuple[float, float], others: list[tuple[float, float]]
) -> None:
    alone = multiplier_with_peers(own, others, honest=1)
    assert alone == pytest.approx(own[0])
    told = [multiplier_with_peers(own, others, honest=h) for h in range(1, len(others) + 2)]
    assert told == sorted(told)


@pytest.mark.parametrize("honest", [0, 4])
def test_more_honest_institutions_than_there_are(honest: int) -> None:
    with pytest.raises(ValueError, match="Expected 1 to 3 honest institutions"):
        multiplier_with_peers((1.0, 1.0), [(1.0, 1.0)] * 2, honest=honest)


def test_honest_institutions_of_a_sum() -> None:
    assert (honest_in_each(7, 3), honest_in_each(2, 3)) == (4, 1)


@pytest.mark.parametrize(("honest", "told"), [(1, 3.0), (3, 1.52), (5, 1.13), (10, 0.76)])
def test_epsilon_is_what_an_independent_accountant_finds(honest: int, told: float) -> None:
    """40 rounds of one step, q 0.25, sigma 2.46, delta 1e-5."""
    sigma = multiplier_with_peers((2.46, 0.25), [(2.46, 0.25)] * 9, honest=honest)
    ours = epsilon(Schedule(noise_multiplier=sigma, sampling_rate=0.25, steps=40), delta=1e-5)
    accountant = PLDAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_SPECIAL,
        value_discretization_interval=1e-3,
    )
    step = dp_accounting.PoissonSampledDpEvent(
        0.25, dp_accounting.GaussianDpEvent(2.46 * math.sqrt(honest))
    )
    accountant.compose(step, 40)
    assert ours == pytest.approx(accountant.get_epsilon(1e-5), rel=0.01)
    assert ours == pytest.approx(told, abs=0.02)


def _total_variation(steps: int, *, honest: int, sigma: float) -> float:
    """Estimate how far one record moves a sum of 20 institutions' updates.

    One institution's first gradient is +-1/2 by the record. In its second step 50 other records
    have gradient +1 or -1, by the sign of the state after the first.
    """
    chooser, draws = numpy.random.default_rng(0), 500_000

    def released(mean: float) -> numpy.ndarray:
        first = mean + sigma * chooser.standard_normal(draws)
        update = first
        if steps == 2:
            update = first + 50 * numpy.sign(first) + sigma * chooser.standard_normal(draws)
        others = math.sqrt(steps * (honest - 1)) * sigma * chooser.standard_normal(draws)
        return update + others

    edges = numpy.linspace(-120, 120, 601)
    one, other = (numpy.histogram(released(mean), edges)[0] for mean in (0.5, -0.5))
    return float(numpy.abs(one - other).sum()) / 2 / draws


def test_noise_of_peers_counts_for_one_local_step_and_not_for_two() -> None:
    sigma, honest = 1.24, 20

    def bound(steps: int) -> float:
        return float(2 * norm.cdf(math.sqrt(steps / honest) / (2 * sigma)) - 1)

    one, two = (_total_variation(steps, honest=honest, sigma=sigma) for steps in (1, 2))
    assert one == pytest.approx(bound(1), abs=0.02)
    assert two > 2.5 * bound(2)  # if the peers' noise counted, it could not be larger


@pytest.mark.parametrize("honest", [1, 3])
@pytest.mark.parametrize("centre", [0.0, 0.13, 0.5])
def test_rounding_to_a_grid_costs_next_to_nothing(centre: float, honest: int) -> None:
    """Hockey-stick divergences of rounded Gaussians, exact, beside the Gaussian's own."""
    grid, reach = 8, 8 * 14
    units = numpy.arange(-reach, reach + 1)

    def rounded(mean: float) -> numpy.ndarray:
        return norm.cdf((units + 0.5 - mean) / grid) - norm.cdf((units - 0.5 - mean) / grid)

    def summed(mean: float) -> numpy.ndarray:
        out = rounded(mean)
        for peer in (0.21, 0.48)[: honest - 1]:
            out = numpy.convolve(out, rounded(peer))
        return out

    one, other, ratio = summed(centre + grid), summed(centre), 1 / math.sqrt(honest)
    for eps in (0.1, 0.5, 1.0):
        exact = norm.cdf(ratio / 2 - eps / ratio) - math.exp(eps) * norm.cdf(
            -ratio / 2 - eps / ratio
        )
        told = max(
            numpy.maximum(one - math.exp(eps) * other, 0).sum(),
            numpy.maximum(other - math.exp(eps) * one, 0).sum(),
        )
        assert told <= exact * (1 + 1e-9)
