"""Client-level mechanisms against jax-privacy's banded factors and pfl's adaptive clipping.

Figures that these gave stand here, so that every run checks against them; where the packages are
installed (``requirements/oracles.txt``) they are asked again, and for more.
"""

import math

import numpy
import pytest
import torch

from confide.strategies.mechanisms.banded import BandedMechanism, coefficients, sensitivity
from confide.strategies.mechanisms.clipping import AdaptiveClipping, FixedClipping
from confide.strategies.mechanisms.gaussian import GaussianMechanism
from confide.strategies.mechanisms.mechanism import CLIP_NORM, RoundSum, drawn_noise
from confide.strategies.mechanisms.rule import ClippedSum, ClippedUpdates, sum_of
from confide.strategies.strategy import Bounds, ClientUpdate

# Of jax-privacy 2.0.0, matrix_factorization.toeplitz, on jax 0.10.2 in float64:
# (bands, rounds, participations) -> sensitivity at a separation of as many rounds as bands, and
# root mean square error of prefix sums under noise of standard deviation one
FACTORS = {
    (1, 100, 4): (2.0, 7.106335201775948),
    (2, 8, 4): (2.23606797749979, 1.5654293828953227),
    (4, 10, 3): (2.0558605254248157, 1.3806289075853992),
    (28, 112, 4): (2.914871078030901, 1.7405389050690523),
    (28, 100, 4): (2.8837881160571666, 1.6907849446142047),
}
CUT_SHORT = {(28, 100, 4), (4, 10, 3)}
"""Where the last rounds of a client leave no room for all bands: the sensitivity is below ours."""

# Of pfl 0.6.0, privacy.adaptive_clipping, from 0.1 with quantile 0.5 and step 0.2, noise 1e-6 and
# 1e-3: the clipping norm after each round of five clients, and the sum of their clipped updates
NORMS = [[0.03 * client * server_round for client in range(1, 6)] for server_round in (1, 2, 3)]
CLIPPED = [
    (0.09802090302342387, 0.380000158),
    (0.1040832767545483, 0.452083777),
    (0.11052059509173223, 0.506333282),
]
# The same package: noise on updates in clipping norms, for z = 1.2 and noise on bits of +-1
MULTIPLIERS = {12.0: 1.2060453783110545, 5.0: 1.2361284651454936}


@pytest.mark.parametrize("case", FACTORS)
def test_a_banded_factor_has_the_sensitivity_and_error_that_jax_privacy_found(
    case: tuple[int, int, int],
) -> None:
    bands, rounds, participations = case
    found, error = FACTORS[case]
    ours = sensitivity(bands, participations)
    if case in CUT_SHORT:
        assert found < ours < found * 1.05
    else:
        assert ours == pytest.approx(found, rel=1e-12)
    assert _error(bands, rounds) == pytest.approx(error, rel=1e-12)


def _error(bands: int, rounds: int) -> float:
    c = [*coefficients(bands), *[0.0] * rounds]
    factor = numpy.array(
        [[c[row - col] if row >= col else 0.0 for col in range(rounds)] for row in range(rounds)]
    )
    left = numpy.tril(numpy.ones((rounds, rounds))) @ numpy.linalg.inv(factor)
    return math.sqrt((left**2).sum() / rounds)


def test_clipping_norms_and_clipped_sums_are_those_that_pfl_found() -> None:
    assert _adaptive(NORMS) == [pytest.approx(wanted, rel=1e-3) for wanted in CLIPPED]


@pytest.mark.parametrize("bit_noise", MULTIPLIERS)
def test_bits_are_paid_for_as_pfl_has_them_paid(bit_noise: float) -> None:
    # Ours are +-1/2
    clipping = AdaptiveClipping(
        clip_norm=1.0, quantile=0.5, learning_rate=0.2, bit_noise=bit_noise / 2
    )
    assert clipping.multiplier(1.2, 100) == pytest.approx(MULTIPLIERS[bit_noise], rel=1e-9)


def _adaptive(norms: list[list[float]]) -> list[tuple[float, float]]:
    """Run rounds of clients with such norms; the clipping norm after each, and the clipped sum."""
    clipping = AdaptiveClipping(clip_norm=0.1, quantile=0.5, learning_rate=0.2, bit_noise=5e-4)
    mechanism = GaussianMechanism(noise_multiplier=1e-6, clipping=clipping)
    state, told = mechanism.first_state({"w": torch.zeros(2)}), []
    for server_round, lengths in enumerate(norms, start=1):
        rule = ClippedSum(clip_norm=float(state[CLIP_NORM][0]), counts=True)
        summed = rule.start({"w": (2,)}, Bounds(max_value=1024.0, max_total_weight=100))
        assert isinstance(summed, ClippedUpdates)
        for client, length in enumerate(lengths):
            update = {"w": torch.tensor([length, 0.0])}
            summed.add(ClientUpdate(client=str(client), tensors=update, num_examples=1))
        given = RoundSum(
            total=sum_of(summed),
            within=summed.within,
            expected=float(len(lengths)),
            participations=len(norms),
            server_round=server_round,
            secret=bytes(32),
            state=state,
        )
        state = mechanism.release(given).state
        told.append((float(state[CLIP_NORM][0]), float(sum_of(summed)["w"][0])))
    return told


def _jax_privacy() -> None:
    pytest.importorskip("jax_privacy", reason="jax-privacy: requirements/oracles.txt")
    import jax

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("bands", [1, 2, 3, 7])
@pytest.mark.parametrize("spare", [0, 2])
def test_jax_privacy_finds_no_larger_sensitivity(bands: int, spare: int) -> None:
    """With rounds of a client further apart than need be as well."""
    _jax_privacy()
    from jax_privacy.matrix_factorization import toeplitz

    coef = toeplitz.optimal_max_error_strategy_coefs(bands)
    assert numpy.allclose(coef, coefficients(bands), rtol=1e-12)
    for rounds in range(1, 40, 6):
        apart = bands + spare
        most = -(-rounds // apart)
        found = toeplitz.minsep_sensitivity_squared(coef, apart, max_participations=most, n=rounds)
        ours = sensitivity(bands, most)
        assert math.sqrt(float(found)) <= ours * (1 + 1e-12)
        if rounds >= (most - 1) * apart + bands:
            assert math.sqrt(float(found)) == pytest.approx(ours, rel=1e-12)


@pytest.mark.parametrize("case", FACTORS)
def test_jax_privacy_still_finds_these_figures(case: tuple[int, int, int]) -> None:
    _jax_privacy()
    from jax_privacy.matrix_factorization import toeplitz

    bands, rounds, participations = case
    coef = toeplitz.optimal_max_error_strategy_coefs(bands)
    squared = toeplitz.minsep_sensitivity_squared(
        coef, bands, max_participations=participations, n=rounds
    )
    error = float(toeplitz.per_query_error(strategy_coef=coef, n=rounds).mean())
    found = math.sqrt(float(squared)), math.sqrt(error)
    assert found == pytest.approx(FACTORS[case], rel=1e-12)


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_jax_privacy_makes_the_same_noise_of_the_same_draws(bands: int) -> None:
    _jax_privacy()
    import jax.numpy
    from jax_privacy.matrix_factorization import toeplitz

    mechanism = BandedMechanism(
        noise_multiplier=0.5, bands=bands, clipping=FixedClipping(clip_norm=2.0)
    )
    state, drawn, told = mechanism.first_state({"w": torch.zeros(4)}), [], []
    for server_round in range(1, 13):
        given = RoundSum(
            total={"w": torch.zeros(4, dtype=torch.float64)},
            within=0.0,
            expected=1.0,
            participations=2,
            server_round=server_round,
            secret=bytes(32),
            state=state,
        )
        drawn.append(drawn_noise(given)["w"])
        released = mechanism.release(given)
        told.append(released.update["w"])
        state = released.state
    coef = toeplitz.optimal_max_error_strategy_coefs(bands)
    streamed = toeplitz.inverse_as_streaming_matrix(coef) @ jax.numpy.asarray(
        torch.stack(drawn).numpy()
    )
    std = 0.5 * 2.0 * sensitivity(bands, 2)
    assert numpy.allclose(torch.stack(told).numpy(), std * numpy.asarray(streamed), rtol=1e-6)


def test_pfl_clips_and_follows_the_quantile_alike() -> None:
    """Lognormal norms of 40 clients over 60 rounds, and the figures that stand here."""
    pytest.importorskip("pfl", reason="pfl: requirements/oracles.txt")
    assert _pfl(NORMS) == [pytest.approx(wanted, rel=1e-6) for wanted in CLIPPED]
    chooser = numpy.random.default_rng(3)
    norms = numpy.exp(chooser.normal(-0.5, 0.8, (60, 40))).tolist()
    assert _adaptive(norms) == [pytest.approx(wanted, rel=2e-3) for wanted in _pfl(norms)]


@pytest.mark.parametrize("bit_noise", MULTIPLIERS)
def test_pfl_still_has_bits_paid_for_so(bit_noise: float) -> None:
    pytest.importorskip("pfl", reason="pfl: requirements/oracles.txt")
    from pfl.privacy.adaptive_clipping import AdaptiveClippingGaussianMechanism
    from pfl.privacy.gaussian_mechanism import GaussianMechanism as Theirs

    theirs = AdaptiveClippingGaussianMechanism(
        lambda bound: Theirs(bound, 1.2), 1.0, bit_noise, 0.5
    )
    multiplier = 1.2 * theirs._get_overall_clipping_bound()
    assert multiplier == pytest.approx(MULTIPLIERS[bit_noise], rel=1e-12)


def _pfl(norms: list[list[float]]) -> list[tuple[float, float]]:
    from pfl.context import CentralContext, UserContext
    from pfl.internal.ops import numpy_ops
    from pfl.internal.ops.selector import set_framework_module
    from pfl.metrics import Metrics
    from pfl.privacy.adaptive_clipping import AdaptiveClippingGaussianMechanism
    from pfl.privacy.gaussian_mechanism import GaussianMechanism as Theirs
    from pfl.stats import MappedVectorStatistics

    set_framework_module(numpy_ops)
    theirs = AdaptiveClippingGaussianMechanism(
        lambda bound: Theirs(bound, 1e-6), 0.1, 1e-3, 0.5, 0.2
    )
    told = []
    for lengths in norms:
        total = None
        for length in lengths:
            update = MappedVectorStatistics({"w": numpy.array([length, 0.0])}, weight=1)
            sent, _ = theirs.postprocess_one_user(
                stats=update, user_context=UserContext(num_datapoints=1, seed=None)
            )
            total = sent if total is None else total + sent
        context = CentralContext(
            current_central_iteration=0,
            do_evaluation=False,
            cohort_size=len(lengths),
            population=None,
            algorithm_params=None,
            model_train_params=None,
            seed=1,
        )
        summed, _ = theirs.postprocess_server(
            stats=total, central_context=context, aggregate_metrics=Metrics()
        )
        told.append((theirs.mutable_clipping_bound.value(), float(summed["w"][0])))
    return told
