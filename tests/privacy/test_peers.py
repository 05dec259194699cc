"""Noise of peers: by hand, by an independent accountant, and where it does not count."""

import functools
import math

import dp_accounting
import numpy
import pytest
from dp_accounting.pld import PLDAccountant
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from confide.config.strategies.peers import COUNTEREXAMPLE
from confide.privacy.accounting import Schedule, epsilon
from confide.privacy.peers import (
    PeerNoise,
    grid_units,
    honest_in_each,
    multiplier_with_peers,
    weakest,
)

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


def test_uniform_weights_by_hand() -> None:
    """q n is 20 and 100: 20 * sqrt((2 / 20)^2 + (5 / 100)^2)."""
    assert multiplier_with_peers((2.0, 20.0), [(5.0, 100.0)], honest=2) == pytest.approx(
        math.sqrt(5)
    )


def test_several_sums_are_as_good_as_the_weakest() -> None:
    strong, weak = (
        PeerNoise(honest=honest, noise_multiplier=sigma) for honest, sigma in ((5, 3.0), (3, 2.0))
    )
    assert weakest([strong, weak]) == PeerNoise(honest=5, noise_multiplier=2.0)
    assert weakest([]) is None


def test_units_of_the_grid_by_hand() -> None:
    """A rate of 0.1 and C = 2: 0.2 * 3 / 0.25 * 2^4."""
    assert grid_units((3.0, 0.25), step=0.2, scale_bits=4) == pytest.approx(38.4)


# --- against an accountant that shares no code with ours: PLD of the sampled Gaussian

RATE, ROUNDS, DELTA = 0.25, 40, 1e-5
KEPT = {
    1: (6.14, {1: 1.00, 2: 0.67, 3: 0.54, 5: 0.40, 10: 0.28, 20: 0.19}),
    3: (2.46, {1: 3.00, 2: 1.94, 3: 1.52, 5: 1.13, 10: 0.76, 20: 0.52}),
    8: (1.24, {1: 7.99, 2: 4.77, 3: 3.61, 5: 2.59, 10: 1.69, 20: 1.13}),
}
"""Epsilon alone -> its sigma, and epsilon with so many honest institutions, to two digits."""
SPENT = {
    1: {2: (4.34, 1.5), 3: (3.55, 1.9), 5: (2.75, 2.6), 10: (1.94, 4.1), 20: (1.37, 6.8)},
    3: {2: (1.74, 4.8), 3: (1.42, 6.4), 5: (1.10, 9.6), 10: (0.78, 17.5), 20: (0.55, 33.8)},
}
"""Epsilon with peers -> sigma of each, and epsilon alone, by number of honest institutions."""


def independent(sigma: float) -> float:
    accountant = PLDAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_SPECIAL,
        value_discretization_interval=1e-3,
    )
    step = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(sigma))
    accountant.compose(step, ROUNDS)
    return float(accountant.get_epsilon(DELTA))


@functools.cache
def sigma_for(target: float) -> float:
    low, high = 0.3, 60.0
    while high / low > 1.005:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if independent(middle) > target else (low, middle)
    return high


def ours(sigma: float) -> float:
    schedule = Schedule(noise_multiplier=sigma, sampling_rate=RATE, steps=ROUNDS)
    return epsilon(schedule, delta=DELTA)


@pytest.mark.parametrize("alone", KEPT)
def test_epsilon_with_peers_is_what_an_independent_accountant_finds(alone: int) -> None:
    sigma, told = sigma_for(alone), KEPT[alone][1]
    assert round(sigma, 2) == KEPT[alone][0]
    for honest, value in told.items():
        effective = multiplier_with_peers((sigma, RATE), [(sigma, RATE)] * 19, honest=honest)
        assert round(ours(effective), 2) == value
        assert ours(effective) == pytest.approx(independent(sigma * math.sqrt(honest)), rel=1e-3)


@pytest.mark.parametrize("target", SPENT)
def test_noise_that_counts_on_others_costs_this_much_alone(target: int) -> None:
    for honest, (sigma, alone) in SPENT[target].items():
        part = sigma_for(target) / math.sqrt(honest)
        assert (round(part, 2), round(ours(part), 1)) == (sigma, alone)


# --- where it counts, and where not


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
    # If the peers' noise counted, it could not be larger
    assert (round(bound(2), 3), two) == (0.101, pytest.approx(0.313, abs=0.01))
    assert all(figure in COUNTEREXAMPLE for figure in ("0.313", "0.101", "20 institutions"))


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
