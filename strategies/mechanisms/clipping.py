"""The norm to which a client's update is clipped: fixed, or one that follows a quantile.

Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping" (arXiv 1905.03871),
algorithm 1: each client tells by one bit whether its norm was within the clipping norm S; of the
noised share b of those, S becomes S * exp(-eta * (b - gamma)). The bit, centred to +-1/2, has
sensitivity 1/2, and its noise is paid for by a little more noise on the updates (theorem 1).
"""

import math
from dataclasses import dataclass

from confide.errors import ConfigError
from confide.privacy.randomness import KeyedGenerator
from confide.strategies.mechanisms.mechanism import RoundSum, noise_key

_LEAST, _LARGEST = 1e-6, 1e6
"""Of a clipping norm: noise alone must not drive it out of float32's range."""


@dataclass(frozen=True, kw_only=True)
class FixedClipping:
    """One norm for all rounds.

    Attributes:
        clip_norm: S, > 0.
    """

    clip_norm: float

    adapts = False

    def multiplier(self, noise_multiplier: float, expected: float) -> float:
        """Return z for the updates: all of it."""
        return noise_multiplier

    def next_norm(self, clip_norm: float, given: RoundSum) -> float:
        """Return S for the next round: the same."""
        return clip_norm


@dataclass(frozen=True, kw_only=True)
class AdaptiveClipping:
    """A norm that follows a quantile of the clients' norms.

    Attributes:
        clip_norm: S before the first round, > 0.
        quantile: gamma, the share of clients that are to be within it, in (0, 1).
        learning_rate: eta, > 0.
        bit_noise: sigma_b, standard deviation of the noise on the sum of bits; None: m / 20.
    """

    clip_norm: float
    quantile: float
    learning_rate: float
    bit_noise: float | None = None

    adapts = True

    def std(self, expected: float) -> float:
        """Return sigma_b for a round of an expected number m of clients."""
        return expected / 20 if self.bit_noise is None else self.bit_noise

    def multiplier(self, noise_multiplier: float, expected: float) -> float:
        """Return z_delta for the updates, with which both releases together cost what z does.

        Raises:
            ConfigError: if the bits alone would cost as much.
        """
        std = self.std(expected)
        if 2 * std <= noise_multiplier:
            raise ConfigError(
                "strategy.mechanism.quantile: of an expected"
                f" {expected:g} clients a round the bits have noise {std:g}, which alone costs more"
                f" than strategy.mechanism.noise_multiplier={noise_multiplier:g} allows; ask at"
                f" least {math.floor(10 * noise_multiplier) + 1} clients a round, raise"
                " strategy.mechanism.bit_noise above half of it, or leave quantile out."
            )
        return 1 / math.sqrt(noise_multiplier**-2 - (2 * std) ** -2)

    def next_norm(self, clip_norm: float, given: RoundSum) -> float:
        """Return S for the next round, from the noised share of clients within it."""
        generator = KeyedGenerator(noise_key(given, "bits"))
        noise = float(generator.normal(1, std=self.std(given.expected))[0])
        share = (given.within + noise) / given.expected + 0.5
        moved = clip_norm * math.exp(-self.learning_rate * (share - self.quantile))
        return min(_LARGEST, max(_LEAST, moved))


Clipping = FixedClipping | AdaptiveClipping

__all__ = ["AdaptiveClipping", "Clipping", "FixedClipping"]
