"""The keyed stream: repeatable, well distributed, and never shared."""

import os

import pytest
import torch
from scipy import stats

from confide.errors import PrivacyError
from confide.privacy.randomness import (
    KEY_BYTES,
    KeyedGenerator,
    KeyedGenerators,
    derive_key,
    seed_from,
)

KEY, OTHER = bytes(32), bytes(31) + b"\1"
SIGMA = 1.7
DRAWS = 40_001  # odd: Box-Muller makes pairs
OVER_A_CHUNK = 2**18 + 5
ALMOST_CERTAIN = 1 - 1e-6
REFUSED, ANSWERED, BROKEN = 17, 18, 19


def test_same_key_gives_the_same_stream() -> None:
    assert KeyedGenerator(KEY).normal(99).equal(KeyedGenerator(KEY).normal(99))


@pytest.mark.parametrize("other", [OTHER, b"\1" + bytes(31)])  # the last bit and the first
def test_other_key_gives_another_stream(other: bytes) -> None:
    assert not set(KeyedGenerator(KEY).uniform(99).tolist()) & set(
        KeyedGenerator(other).uniform(99).tolist()
    )


def test_stream_goes_on_and_does_not_repeat() -> None:
    stream = KeyedGenerator(KEY)
    assert torch.cat([stream.uniform(40), stream.uniform(59)]).equal(
        KeyedGenerator(KEY).uniform(99)
    )
    assert len(set(stream.uniform(1000).tolist())) == 1000


def test_stream_is_aes_256_in_counter_mode() -> None:
    # FIPS 197: AES-256 of the zero block under the zero key begins dc95c078a2408989.
    top = int.from_bytes(bytes.fromhex("dc95c078a2408989"), "little") >> 11
    assert KeyedGenerator(KEY).uniform(1).item() == (top + 0.5) / 2**53


def test_uniforms_lie_within_0_and_1_and_fill_it() -> None:
    drawn = KeyedGenerator(KEY).uniform(DRAWS)
    assert drawn.dtype == torch.float64
    assert 0 < drawn.min() < 1e-3
    assert 1 - 1e-3 < drawn.max() < 1
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3


def test_normals_pass_kolmogorov_smirnov() -> None:
    drawn = KeyedGenerator(KEY).normal(DRAWS, std=SIGMA)
    assert drawn.shape == (DRAWS,)
    assert stats.kstest(drawn.numpy(), "norm", args=(0, SIGMA)).pvalue > 1e-3


@pytest.mark.parametrize("wrong", [2 / 3, 3 / 2])
def test_kolmogorov_smirnov_rejects_a_wrong_standard_deviation(wrong: float) -> None:
    drawn = KeyedGenerator(KEY).normal(DRAWS, std=SIGMA)
    assert stats.kstest(drawn.numpy(), "norm", args=(0, wrong * SIGMA)).pvalue < 1e-9


@pytest.mark.parametrize("count", [DRAWS, OVER_A_CHUNK])
def test_variance_and_mean_are_right(count: int) -> None:
    drawn = KeyedGenerator(KEY).normal(count, std=SIGMA)
    assert drawn.var().item() == pytest.approx(SIGMA**2, rel=0.03)
    assert abs(drawn.mean().item()) < 5 * SIGMA / count**0.5


@pytest.mark.parametrize(
    "lag", [1, (DRAWS + 1) // 2, 2**18]
)  # neighbours, Box-Muller partners, chunks
def test_normals_are_uncorrelated(lag: int) -> None:
    count = DRAWS if lag < DRAWS else 2 * lag
    drawn = KeyedGenerator(KEY).normal(count)
    first, second = drawn[:-lag], drawn[lag:]
    assert abs((first * second).mean().item()) < 5 / len(first) ** 0.5
    assert abs((first**2 * second**2).mean().item() - 1) < 5 * 8**0.5 / len(first) ** 0.5


def test_noise_added_in_place_is_what_normal_draws_for_all_at_once() -> None:
    targets = [torch.full((count,), 0.5) for count in (7, 0, 2**18 - 9, 1, 2**18)]
    KeyedGenerator(KEY).add_normal(targets, std=SIGMA)
    whole = torch.cat(targets)
    assert whole.equal(0.5 + KeyedGenerator(KEY).normal(len(whole), std=SIGMA).float())


def test_tails_are_there() -> None:
    beyond = int((KeyedGenerator(KEY).normal(OVER_A_CHUNK).abs() > 4).sum())
    low, high = stats.binom.interval(ALMOST_CERTAIN, OVER_A_CHUNK, 2 * stats.norm.sf(4))
    assert low <= beyond <= high


@pytest.mark.parametrize("rate", [0.03, 0.5])
def test_poisson_sample_includes_at_its_rate(rate: float) -> None:
    low, high = stats.binom.interval(ALMOST_CERTAIN, DRAWS, rate)
    assert low <= len(KeyedGenerator(KEY).poisson_sample(DRAWS, rate)) <= high


def test_poisson_samples_vary_in_size_as_a_binomial() -> None:
    stream = KeyedGenerator(KEY)
    sizes = torch.tensor([len(stream.poisson_sample(50, 0.2)) for _ in range(2000)]).double()
    assert sizes.var().item() == pytest.approx(50 * 0.2 * 0.8, rel=0.15)


def test_poisson_sample_of_everything_and_of_nothing() -> None:
    stream = KeyedGenerator(KEY)
    assert stream.poisson_sample(7, 1.0).tolist() == list(range(7))
    assert stream.poisson_sample(7, 1e-12).tolist() == []
    assert stream.poisson_sample(0, 0.5).tolist() == []
    assert stream.normal(0).shape == (0,)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_use_after_a_fork_is_refused() -> None:
    stream = KeyedGenerator(KEY)
    child = os.fork()
    if child == 0:
        os._exit(_try(stream))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == REFUSED
    assert _try(stream) == ANSWERED


def _try(stream: KeyedGenerator) -> int:
    try:
        stream.normal(1)
    except PrivacyError as error:
        return REFUSED if "over a fork; derive a new key" in str(error) else BROKEN
    except BaseException:
        return BROKEN
    return ANSWERED


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"Expected a key of 32 bytes; got {length}"):
        KeyedGenerator(bytes(length))


def test_contexts_are_kept_apart() -> None:
    contexts = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc",),
        ("abc", ""),
        (),
        ("a", "b", "c"),
        ("a", 1),
        ("a", 11),
        ("a1",),
    ]
    keys = {derive_key(KEY, *context) for context in contexts}
    assert len(keys) == len(contexts)
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_secrets_are_kept_apart() -> None:
    assert derive_key(KEY, "noise") != derive_key(OTHER, "noise")
    assert derive_key(KEY, "noise") == derive_key(KEY, "noise")


def test_seeds_fit_torch_and_use_their_width() -> None:
    seeds = [seed_from(KEY, "order", i) for i in range(200)]
    assert len(set(seeds)) == 200
    assert 2**62 < max(seeds) < 2**63


KEYS = [derive_key(KEY, number) for number in range(5)]


def test_streams_side_by_side_are_the_streams_alone() -> None:
    alone, together = [KeyedGenerator(key) for key in KEYS], KeyedGenerators(KEYS)
    for counts in ([3, 0, 8, 5, 1], [2, 2, 2, 2, 2], [0, 0, 0, 0, 7]):
        expected = [one.uniform(count) for one, count in zip(alone, counts, strict=True)]
        assert together.uniform(counts).equal(torch.cat(expected))


@pytest.mark.parametrize("count", [1, 7, 8, 738, 2**18 + 3])
def test_gaussians_side_by_side_are_those_alone(count: int) -> None:
    std = torch.tensor([0.0, 1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    alone, together = [KeyedGenerator(key) for key in KEYS], KeyedGenerators(KEYS)
    for _ in range(2):
        rows = [one.normal(count, std=float(by)) for one, by in zip(alone, std, strict=True)]
        assert torch.allclose(together.normal(count, std=std), torch.stack(rows), rtol=1e-14)


@pytest.mark.parametrize("count", [1, 7, 738, 2**16, 2**18 + 3])
def test_gaussians_drawn_for_several_times_are_those_of_each_time(count: int) -> None:
    std = torch.tensor([0.0, 1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    each, several = KeyedGenerators(KEYS), KeyedGenerators(KEYS)
    times = 5 if count < 2**18 else 2
    for drawn in several.normals(times, count, std=std):
        assert drawn.equal(each.normal(count, std=std))
        times -= 1
    assert times == 0
