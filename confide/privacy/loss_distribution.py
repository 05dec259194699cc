"""Epsilon by composition of privacy loss distributions, never below the true one.

Protected, neighbours and mechanism are those of :mod:`confide.privacy.accounting`. The loss of one
step is discretised by connecting the dots (Doroshenko et al., PoPETs 2022, arXiv 2207.04380): at
multiples of an interval the discrete hockey-stick divergence equals the true one, and between them
it is above. That order survives composition (Koskela et al. 2020, arXiv 1906.03049), so that the
method gives an upper bound in exact arithmetic. Floating point is wrong by 1e-14 and more, which a
small delta leaves no room for. So its errors are bounded, and what they could hide is added:

* **One step.** A divergence is wrong by at most ``_CURVE_ULPS`` units of rounding, and turning
  divergences into probabilities moves that at epsilon by at most ``_MASS_ULPS`` units times the sum
  of those beyond. The divergences are raised by both; mass that is still missing has infinite loss.
* **Composition** by a fast Fourier transform: :func:`composition_error` is taken off delta.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from dp_accounting.pld.pld_pmf import DensePLDPmf
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss
from numpy.typing import NDArray
from scipy import fft

# Losses are rounded up to multiples of this: at 1e-3 the bound is at most 5e-5 above that of 1e-4,
# and ten times cheaper.
INTERVAL = 1e-3
# Losses of much noise and small samples are that small themselves, and over many steps rounding
# would be most of epsilon: there, as many intervals to the standard deviation of a loss. With less
# noise tails are long, and fine intervals slow.
_MUCH_NOISE = 2.0
_INTERVALS = 8
_MOST_CELLS = 1 << 19
_MOST_KEPT_CELLS = 1 << 15
"""Of a step that is kept: 256 KiB."""
# Half the distance from 1 to the next larger float64: the relative error of one operation.
_UNIT = 2.0**-53
# Held against 50 digits by the tests, which find less than a quarter of it.
_CURVE_ULPS = 16
# A probability is (b - a e^h) / (e^h - 1), for neighbouring differences a, b of divergences: four
# roundings of terms of their size, each summed by parts over all larger losses.
_MASS_ULPS = 8
# One butterfly of radix 2 costs at most (1 + sqrt(5) + 1) units (Brent, Percival and Zimmermann
# 2007), and those of radix 3 to 11 no more for each factor of two.
_BUTTERFLY_ULPS = 5
# exp(steps * log(x)): an angle of up to pi and a logarithm, each with a few units of error.
_POWER_ULPS = 16
# Sums over the cells, and losses counted down by repeated subtraction, in up to 1e6 operations.
_SUMMING = 1e-9

Floats = NDArray[np.float64]


class Steps(NamedTuple):
    """Equal steps of a sampled Gaussian mechanism.

    Attributes:
        noise_multiplier: sigma > 0.
        sampling_rate: Poisson rate q of one step, in (0, 1].
        steps: number of steps, >= 1.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int


def bounded_epsilon(mechanisms: Sequence[Steps], *, delta: float) -> float:
    """Return an epsilon that mechanisms do not exceed together, each on the same records.

    Args:
        mechanisms: at least one.
        delta: in (0, 1).

    Returns:
        Epsilon >= 0; infinity where rounding alone could be as large as delta.
    """
    # Zero-out neighbours have the loss of one unit more, and of one less; both are the same where
    # every unit is in every step.
    mechanisms = _fewest(mechanisms)
    # Losses add up on one grid: the finest that one of them takes
    finest = min(interval_of(one.noise_multiplier, one.sampling_rate) for one in mechanisms)
    interval = max(finest, *map(_least_interval, mechanisms))
    sampled = any(one.sampling_rate < 1 for one in mechanisms)
    directions = [AdjacencyType.REMOVE] + [AdjacencyType.ADD] * sampled
    return max(_one_direction(mechanisms, direction, delta, interval) for direction in directions)


def _fewest(mechanisms: Sequence[Steps]) -> list[Steps]:
    """Put unsampled steps together: they have the loss of one step with less noise."""
    sampled = [one for one in mechanisms if one.sampling_rate < 1]
    rest = [one for one in mechanisms if one.sampling_rate == 1]
    if not rest:
        return sampled
    # Exact but for the rounding of these few operations, and without that of a composition
    squared = math.fsum(one.steps / one.noise_multiplier**2 for one in rest)
    noise = (1 - 8 * _UNIT) / math.sqrt(squared)
    return [*sampled, Steps(noise, 1.0, 1)]


def interval_of(noise_multiplier: float, sampling_rate: float) -> float:
    """Return the multiples that losses of one step are rounded up to, at most INTERVAL."""
    intervals = sampling_rate / noise_multiplier / INTERVAL
    if noise_multiplier < _MUCH_NOISE or intervals >= _INTERVALS:
        return INTERVAL
    # Powers of two: a search for the noise meets few jumps
    return INTERVAL * 2.0 ** math.floor(math.log2(intervals / _INTERVALS))


def _least_interval(mechanism: Steps) -> float:
    """Return the interval at which the losses of one step take at most ``_MOST_CELLS``."""
    # A plan may ask for a release with little noise beside a million steps of much: on the grid of
    # the one, the other would fill an institution's memory. Rounding up more only over-counts.
    bounds = _loss_of(mechanism, AdjacencyType.REMOVE).connect_dots_bounds()
    needed = (bounds.epsilon_upper - bounds.epsilon_lower) / _MOST_CELLS
    return INTERVAL * 2.0 ** math.ceil(math.log2(needed / INTERVAL))


def _loss_of(mechanism: Steps, direction: AdjacencyType) -> GaussianPrivacyLoss:
    return GaussianPrivacyLoss(
        mechanism.noise_multiplier,
        sampling_prob=mechanism.sampling_rate,
        adjacency_type=direction,
    )


def _one_direction(
    mechanisms: Sequence[Steps], direction: AdjacencyType, delta: float, interval: float
) -> float:
    together, wrong = _composed(mechanisms[0], direction, interval)
    for one in mechanisms[1:]:
        other, more = _composed(one, direction, interval)
        # What is wrong with either is carried over, never enlarged: the other's probabilities add
        # up to at most 1.
        wrong += more + _joining_error(together, other)
        together = together.compose(other)
    left = delta * (1 - _SUMMING) - wrong
    if left <= 0:
        return math.inf
    return float(together.get_epsilon_for_delta(left)) * (1 + _SUMMING)


def _composed(
    mechanism: Steps, direction: AdjacencyType, interval: float
) -> tuple[DensePLDPmf, float]:
    """Compose equal steps; return their losses, and by how much a divergence may be too small."""
    loss = _loss_of(mechanism, direction)
    bounds = loss.connect_dots_bounds()
    is_small = bounds.epsilon_upper - bounds.epsilon_lower <= _MOST_KEPT_CELLS * interval
    one_step = _kept_step if is_small else _one_step
    one = one_step(mechanism.noise_multiplier, mechanism.sampling_rate, direction, interval)
    composed = one.self_compose(mechanism.steps)
    return composed, composition_error(one._probs, mechanism.steps, composed.size)


def _one_step(
    noise_multiplier: float, sampling_rate: float, direction: AdjacencyType, interval: float
) -> DensePLDPmf:
    """Return the losses of one step."""
    loss = _loss_of(Steps(noise_multiplier, sampling_rate, 1), direction)
    lowest, curve = divergences(loss, interval)
    probs = _probabilities(curve, interval)
    missing = max(0.0, 1 - math.fsum([*probs, curve[-1]])) + _UNIT
    probs.flags.writeable = False
    return DensePLDPmf(interval, lowest, probs, float(curve[-1]) + missing, True)


# A run asks for the epsilon of each of its rounds: other numbers of the same step, which takes half
# of the time.
_kept_step = functools.lru_cache(maxsize=512)(_one_step)


def _joining_error(one: DensePLDPmf, other: DensePLDPmf) -> float:
    """Bound the rounding error of joining two distributions, as :func:`composition_error` does."""
    size = one.size + other.size
    length = fft.next_fast_len(size)
    # The longer transform of either, with the error of the other, is at most twice that of one
    # distribution with itself whose spectrum is the larger of both.
    return composition_error(one._probs, 2, length) + composition_error(other._probs, 2, length)


def divergences(loss: GaussianPrivacyLoss, interval: float = INTERVAL) -> tuple[int, Floats]:
    """Return hockey-stick divergences of one step that are not below the true ones.

    Args:
        loss: of the step.
        interval: distance of the epsilons.

    Returns:
        First epsilon, in intervals, and the divergence at it and at the multiples that follow:
        float64, in [0, 1], not increasing.
    """
    bounds = loss.connect_dots_bounds()
    lowest = math.floor(bounds.epsilon_lower / interval)
    highest = math.ceil(bounds.epsilon_upper / interval)
    curve: Floats = loss.get_delta_for_epsilon(np.arange(lowest, highest + 1) * interval)
    beyond = np.cumsum(curve[::-1])[::-1]
    raised = np.minimum(1.0, curve + _UNIT * (_CURVE_ULPS + _MASS_ULPS * beyond))
    # From the right, where a dent would otherwise lower what comes after it
    return lowest, np.maximum.accumulate(raised[::-1])[::-1]


def _probabilities(curve: Floats, interval: float) -> Floats:
    """Return the probabilities of losses at the same multiples, infinite ones left out."""
    slopes = np.diff(curve, append=curve[-1])
    above = (slopes[1:] - math.exp(interval) * slopes[:-1]) / math.expm1(interval)
    first = 1 - curve[0] + slopes[0] / math.expm1(interval)
    # Rounding makes some negative; zero is more, and so pessimistic
    probs: Floats = np.maximum(0.0, np.append(first, above))
    return probs


def composition_error(probs: Floats, steps: int, size: int) -> float:
    """Bound the rounding error of composed divergences, whatever the epsilon.

    With X the transform of the probabilities, of length N, and Y = X^steps: a transform is wrong by
    at most g = 5 u log2(N) times the sum of what it adds up, in each of its values. So Y is wrong
    by at most E_k = steps (g |X_k|^(steps - 1) + 16 u |X_k|^steps), and going back adds g times the
    mean of |Y_k| to a probability. A divergence is a sum of probabilities with weights that rise
    from 0 to 1 and fall back once; their transform, by which E_k counts, is at most N at k = 0 and
    1 / sin(pi k / N) beyond.

    Args:
        probs: probabilities of one step, at neighbouring multiples of the interval.
        steps: number of steps that were composed.
        size: number of probabilities of the result.
    """
    length = fft.next_fast_len(max(size, len(probs)))
    one = _UNIT * _BUTTERFLY_ULPS * (1 + math.log2(length))
    spectrum = np.minimum(1.0, np.abs(fft.rfft(probs, length)) + one)
    wrong = steps * (one + _UNIT * _POWER_ULPS) * spectrum ** (steps - 1)
    angles = np.pi * np.arange(1, len(wrong)) / length
    # Frequencies k and N - k are a pair
    there = wrong[0] + 2 * (wrong[1:] / np.sin(angles)).sum() / length
    back = 2 * one * (spectrum**steps).sum()
    return float(there + back)


__all__ = [
    "INTERVAL",
    "Steps",
    "bounded_epsilon",
    "composition_error",
    "divergences",
    "interval_of",
]
