"""Client-level mechanisms against numbers worked out by hand, dense matrices and their papers."""

import itertools
import math

import numpy
import pytest
import torch
from torch import Tensor

from confide.errors import ConfigError
from confide.privacy.accounting import Schedule, epsilon
from confide.strategies.mechanisms import mechanism as mechanism_module
from confide.strategies.mechanisms.banded import BandedMechanism, coefficients, sensitivity
from confide.strategies.mechanisms.clipping import AdaptiveClipping, FixedClipping
from confide.strategies.mechanisms.gaussian import GaussianMechanism
from confide.strategies.mechanisms.mechanism import CLIP_NORM, Mechanism, RoundSum, drawn_noise

SECRET = bytes(32)
ZEROS = {"w": torch.zeros(3)}


def run(
    mechanism: Mechanism, rounds: int, *, expected: float = 1.0, participations: int = 1
) -> list[Tensor]:
    """Release so many rounds in which nobody took part."""
    state, told = mechanism.first_state(ZEROS), []
    for server_round in range(1, rounds + 1):
        released = mechanism.release(
            given(state, server_round, expected=expected, participations=participations)
        )
        told.append(released.update["w"])
        state = released.state
    return told


def given(
    state: dict[str, Tensor],
    server_round: int = 1,
    *,
    expected: float = 1.0,
    within: float = 0.0,
    participations: int = 1,
    total: Tensor | None = None,
) -> RoundSum:
    return RoundSum(
        total={"w": torch.zeros(3, dtype=torch.float64) if total is None else total},
        within=within,
        participations=participations,
        expected=expected,
        server_round=server_round,
        secret=SECRET,
        state=state,
    )


def test_the_tutorials_epsilon() -> None:
    """TensorFlow Federated's tutorial: z 1.2, 120 of 3,383 expected, 100 rounds, delta 1e-5."""
    schedule = Schedule(noise_multiplier=1.2, sampling_rate=120 / 3383, steps=100)
    assert epsilon(schedule, delta=1e-5, accountant="rdp") == pytest.approx(1.986, abs=1e-3)
    assert epsilon(schedule, delta=1e-5) == pytest.approx(1.707, abs=2e-3)


def test_without_noise_the_mean_over_the_expected_number_is_left() -> None:
    mechanism = GaussianMechanism(noise_multiplier=0.0, clipping=FixedClipping(clip_norm=1.0))
    total = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    told = mechanism.release(given(mechanism.first_state(ZEROS), expected=4.0, total=total))
    assert told.update["w"].tolist() == [0.25, 0.5, 0.75]


def test_noise_is_z_times_the_clipping_norm_on_the_sum() -> None:
    mechanism = GaussianMechanism(noise_multiplier=2.0, clipping=FixedClipping(clip_norm=0.5))
    about = given(mechanism.first_state(ZEROS), 3, expected=4.0)
    noise = drawn_noise(about)["w"]
    told = mechanism.release(about)
    assert torch.equal(told.update["w"], (noise / 4).float())


def test_noise_is_of_its_round_and_repeats_with_the_secret() -> None:
    mechanism = GaussianMechanism(noise_multiplier=1.0, clipping=FixedClipping(clip_norm=1.0))
    first, second = run(mechanism, 2)
    again, _ = run(mechanism, 2)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_the_noise_has_its_standard_deviation() -> None:
    mechanism = GaussianMechanism(noise_multiplier=1.5, clipping=FixedClipping(clip_norm=2.0))
    wide = torch.zeros(100_000, dtype=torch.float64)
    told = mechanism.release(given(mechanism.first_state({"w": wide}), total=wide))
    # Chi-square with 100,000 degrees of freedom: within 1 % with probability above 0.99999
    assert float(told.update["w"].double().square().mean().sqrt()) == pytest.approx(3.0, rel=0.01)


def test_adaptive_clipping_reaches_the_quantile() -> None:
    """Andrew et al. 2021: from 0.1 to the median of lognormal norms, with 120 clients a round."""
    chooser = numpy.random.default_rng(1)
    norms = numpy.exp(chooser.normal(0, 0.8, 3383))
    clipping = AdaptiveClipping(clip_norm=0.1, quantile=0.5, learning_rate=0.2)
    mechanism = GaussianMechanism(noise_multiplier=1.2, clipping=clipping)
    state = mechanism.first_state(ZEROS)
    for server_round in range(1, 101):
        drawn = norms[chooser.random(3383) < 120 / 3383]
        clip_norm = float(state[CLIP_NORM][0])
        within = float((drawn <= clip_norm).sum() - 0.5 * len(drawn))
        told = mechanism.release(given(state, server_round, expected=120.0, within=within))
        state = told.state
    share = (norms <= float(state[CLIP_NORM][0])).mean()
    assert share == pytest.approx(0.5, abs=0.06)


def test_one_step_of_adaptive_clipping_by_hand() -> None:
    """A share of 0.8 within S: S * exp(-0.2 * (0.8 - 0.5)), with hardly any noise on the bits."""
    clipping = AdaptiveClipping(clip_norm=2.0, quantile=0.5, learning_rate=0.2, bit_noise=1e-9)
    moved = clipping.next_norm(2.0, given({}, expected=10.0, within=8 * 0.5 - 2 * 0.5))
    assert moved == pytest.approx(2.0 * math.exp(-0.2 * 0.3), rel=1e-6)


@pytest.mark.parametrize(("expected", "multiplier"), [(120, 1.2060), (50, 1.2361)])
def test_bits_are_paid_for_by_noise_on_the_updates(expected: int, multiplier: float) -> None:
    clipping = AdaptiveClipping(clip_norm=1.0, quantile=0.5, learning_rate=0.2)
    assert clipping.multiplier(1.2, expected) == pytest.approx(multiplier, abs=1e-4)


def test_too_few_clients_for_bits_are_refused_with_the_fix() -> None:
    clipping = AdaptiveClipping(clip_norm=1.0, quantile=0.5, learning_rate=0.2)
    with pytest.raises(ConfigError, match=r"of an expected 10 clients a round.*at least 13"):
        clipping.multiplier(1.2, 10)


def test_coefficients_of_the_square_root_by_hand() -> None:
    assert coefficients(4) == [1.0, 0.5, 0.375, 0.3125]
    root = _toeplitz(6, 6)
    assert numpy.allclose(root @ root, numpy.tril(numpy.ones((6, 6))))


def _toeplitz(rounds: int, bands: int) -> numpy.ndarray:
    c = coefficients(bands) + [0.0] * rounds
    return numpy.array(
        [
            [c[row - column] if row >= column else 0.0 for column in range(rounds)]
            for row in range(rounds)
        ]
    )


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_correlated_noise_is_what_the_dense_inverse_gives(bands: int) -> None:
    rounds, participations = 7, 2
    mechanism = BandedMechanism(
        noise_multiplier=0.5,
        bands=bands,
        clipping=FixedClipping(clip_norm=2.0),
    )
    state, drawn, told = mechanism.first_state(ZEROS), [], []
    for server_round in range(1, rounds + 1):
        about = given(state, server_round, participations=participations)
        drawn.append(drawn_noise(about)["w"])
        released = mechanism.release(about)
        told.append(released.update["w"])
        state = released.state
    wanted = numpy.linalg.inv(_toeplitz(rounds, bands)) @ torch.stack(drawn).numpy()
    std = 0.5 * 2.0 * sensitivity(bands, participations)
    assert numpy.allclose(torch.stack(told).numpy(), std * wanted, rtol=1e-6, atol=1e-7)


def test_one_band_is_independent_noise_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    clipping = FixedClipping(clip_norm=1.0)
    banded = BandedMechanism(noise_multiplier=0.7, bands=1, clipping=clipping)
    plain = GaussianMechanism(noise_multiplier=0.7, clipping=clipping)
    # The state, which is part of the noise's key, says how often a client takes part, or nothing
    monkeypatch.setattr(mechanism_module, "sha256", lambda tensors: "")
    for one, other in zip(run(banded, 5, expected=3.0), run(plain, 5, expected=3.0), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["gaussian", "banded"])
def test_a_round_done_again_with_another_sum_has_other_noise(kind: str) -> None:
    """Equal noise on two sums would tell their difference, one client's update."""
    clipping = FixedClipping(clip_norm=1.0)
    mechanism: Mechanism = (
        GaussianMechanism(noise_multiplier=20.0, clipping=clipping)
        if kind == "gaussian"
        else BandedMechanism(noise_multiplier=20.0, bands=2, clipping=clipping)
    )
    state = mechanism.first_state(ZEROS)
    total = torch.tensor([0.3, -0.7, 0.1], dtype=torch.float64)
    one, again, other = (
        mechanism.release(given(state, total=sum_)).update["w"]
        for sum_ in (total, total.clone(), torch.zeros_like(total))
    )
    assert torch.equal(one, again)
    assert float((one - other).abs().max()) > 1


@pytest.mark.parametrize(("rounds", "bands"), [(6, 1), (8, 2), (9, 4)])
def test_no_allowed_pattern_moves_the_sum_further_than_the_sensitivity(
    rounds: int, bands: int
) -> None:
    """Every way for one client to take part, at least ``bands`` rounds apart."""
    matrix, largest, most = _toeplitz(rounds, bands), 0.0, 0
    for pattern in itertools.product([0, 1], repeat=rounds):
        rounds_of = numpy.flatnonzero(pattern)
        if len(rounds_of) and (numpy.diff(rounds_of) >= bands).all():
            most = max(most, len(rounds_of))
            # Unit vectors that point the same way are the worst for coefficients above zero
            largest = max(largest, float(numpy.linalg.norm(matrix @ numpy.array(pattern))))
    assert largest <= sensitivity(bands, most) + 1e-12
    assert largest == pytest.approx(sensitivity(bands, most), rel=0.2)


def test_bands_err_less_on_the_model_than_independent_noise() -> None:
    """Root mean square error of prefix sums, 100 rounds and 4 participations: 4.9 against 14.2."""
    sums = numpy.tril(numpy.ones((100, 100)))

    def error(bands: int) -> float:
        factor = sums @ numpy.linalg.inv(_toeplitz(100, bands))
        return math.sqrt((factor**2).sum() / 100) * sensitivity(bands, 4)

    assert error(28) == pytest.approx(4.93, abs=0.01)
    assert error(1) == pytest.approx(14.2, abs=0.05)


def test_a_resumed_run_has_the_same_noise() -> None:
    clipping = FixedClipping(clip_norm=1.0)
    mechanism = BandedMechanism(noise_multiplier=1.0, bands=3, clipping=clipping)
    whole = run(mechanism, 6)
    state = mechanism.first_state(ZEROS)
    for server_round in range(1, 4):
        state = mechanism.release(given(state, server_round)).state
    kept = {name: value.clone() for name, value in state.items()}
    assert torch.equal(mechanism.release(given(kept, 4)).update["w"], whole[3])


def test_a_run_that_is_made_longer_is_refused() -> None:
    clipping = FixedClipping(clip_norm=1.0)
    mechanism = BandedMechanism(noise_multiplier=1.0, bands=2, clipping=clipping)
    state = mechanism.release(given(mechanism.first_state(ZEROS), 1, participations=2)).state
    with pytest.raises(ConfigError, match="allows a client 3 rounds, and the noise"):
        mechanism.release(given(state, 2, participations=3))
