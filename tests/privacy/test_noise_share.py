"""Shares of noise against numbers worked out by hand, exact sums and exact probabilities."""

import math

import numpy
import pytest
import torch
from scipy.stats import norm

from confide.config.noise_share import NoiseShare
from confide.privacy.noise_share import clipping_factor, noised
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.mechanisms.rule import sum_of
from confide.strategies.strategy import Bounds, ClientUpdate

SHARE = NoiseShare(clip_norm=0.5, noise_multiplier=2.0, honest=4)


def key(number: int) -> bytes:
    return number.to_bytes(32, "little")


def test_a_share_by_hand() -> None:
    """z S / sqrt(h) = 2 * 0.5 / 2; nine of them and the norm; 2^-k with 8 * 2^k = 2^23 at most."""
    assert (SHARE.std, SHARE.largest, SHARE.grid_bits) == (0.5, 5.0, 20)
    assert not list(SHARE.problems())


def test_an_update_is_clipped_as_a_whole_before_noise() -> None:
    still = NoiseShare(clip_norm=0.5, noise_multiplier=0.0, honest=1)
    told = noised(torch.tensor([3.0, 4.0]), still, key=key(0))
    assert told.tolist() == pytest.approx([0.3, 0.4], abs=1e-6)
    within = noised(torch.tensor([0.25, -0.125]), still, key=key(0))
    assert within.tolist() == [0.25, -0.125]


def test_values_are_multiples_of_the_grid_within_the_bound() -> None:
    told = noised(torch.randn(100_000) * 100, SHARE, key=key(1))
    whole = told.double() * 2.0**SHARE.grid_bits
    assert torch.equal(whole, whole.round())
    assert float(told.abs().max()) <= SHARE.largest


def test_a_share_has_its_standard_deviation_and_its_sum_z_times_the_norm() -> None:
    """Chi-square with 100,000 degrees of freedom: within 1 % with probability above 0.99999."""
    shares = [noised(torch.zeros(100_000), SHARE, key=key(i)).double() for i in range(4)]
    for share in shares:
        assert float(share.square().mean().sqrt()) == pytest.approx(0.5, rel=0.01)
    total = torch.stack(shares).sum(dim=0)
    assert float(total.square().mean().sqrt()) == pytest.approx(2.0 * 0.5, rel=0.01)


def test_keys_have_noise_of_their_own_and_repeat_it() -> None:
    one, again, other = (noised(torch.zeros(3), SHARE, key=key(i)) for i in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("cohort", [3, 100])
def test_nothing_is_rounded_once_more_when_shares_are_added_up(bits: int, cohort: int) -> None:
    """Of the largest cohort, with values up to the bound, in sums of either width."""
    bounds = Bounds(max_value=SHARE.largest, max_total_weight=cohort, sum_bits=bits)
    summed = FixedPointMean(shapes={"w": (50,)}, bounds=bounds, weighting="uniform")
    wanted = torch.zeros(50).double()
    generator = torch.Generator().manual_seed(0)
    for i in range(cohort):
        told = noised(torch.randn(50, generator=generator), SHARE, key=key(i))
        if i == 0:
            told[0] = SHARE.largest
        summed.add(ClientUpdate(client=str(i), tensors={"w": told}, num_examples=7))
        wanted += told.double()
    assert torch.equal(sum_of(summed)["w"], wanted)
    assert int(summed.total.abs().max()) < 2 ** (bits - 1)


@pytest.mark.parametrize("steps", [2.0, 8.0])
@pytest.mark.parametrize("shares", [1, 3])
def test_rounded_gaussians_tell_no_more_than_gaussians(steps: float, shares: int) -> None:
    """The hockey stick of sums of rounded shares, from exact probabilities, at epsilon 1.

    ``steps`` is the noise of one share in steps of the grid, of which 1024 are asked for; one
    client moves its own by the noise of the sum, from a centre between two points.
    """
    std = steps * math.sqrt(shares)
    reach = int(12 * steps) + int(std) + 2
    grid = numpy.arange(-reach, reach + 1)

    def probabilities(centre: float) -> numpy.ndarray:
        return numpy.diff(norm.cdf(numpy.append(grid, reach + 1) - 0.5, centre, steps))

    def summed(centre: float) -> numpy.ndarray:
        told = probabilities(centre)
        for _ in range(shares - 1):
            told = numpy.convolve(told, probabilities(0.25))
        return told

    with_it, without = summed(std + 0.3), summed(0.3)
    rounded = float(numpy.maximum(with_it - math.e * without, 0).sum())
    exact = float(norm.cdf(-0.5) - math.e * norm.cdf(-1.5))
    assert rounded <= exact * (1 + 1e-6)
    assert rounded > exact * 0.9


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"clip_norm": 0.0}, "expected a norm above 0"),
        ({"noise_multiplier": -1.0}, "expected a norm above 0"),
        ({"noise_multiplier": math.inf}, "expected a norm above 0"),
        ({"honest": 0}, "expected honest=1 to 100"),
        ({"honest": 101}, "expected honest=1 to 100"),
        ({"noise_multiplier": 1e-4}, "less than 1024 steps"),
        ({"noise_multiplier": 0.0}, "less than 1024 steps"),
    ],
)
def test_shares_out_of_range_are_named(changed: dict[str, float], said: str) -> None:
    share = NoiseShare(**{"clip_norm": 0.5, "noise_multiplier": 2.0, "honest": 4} | changed)  # type: ignore[arg-type]
    assert any(said in problem for problem in share.problems())


def test_room_for_rounding_is_taken_off_the_norm() -> None:
    """A vector of norm 1, of which rounding may make 0.1 more, is shortened to 0.9."""
    values = torch.tensor([0.6, 0.8])
    assert clipping_factor(values, 1.0, rounding=0.1)[0] == pytest.approx(0.9, rel=1e-6)
    assert clipping_factor(values, 1.0)[0] == pytest.approx(1 - 1e-6, rel=1e-7)
    assert clipping_factor(values, 2.0)[0] == 1.0
