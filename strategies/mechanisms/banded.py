"""Noise that is taken back in later rounds: matrix factorisation with bands, DP-FTRL.

Kairouz et al. 2021 (arXiv 2103.00039) and Choquette-Choo et al. 2023, "(Amplified) Banded Matrix
Factorization" (arXiv 2306.08153): what matters for the model is the sum of all updates so far. With
the lower triangular, banded Toeplitz matrix C, round t releases x_t + (C^-1 xi)_t, where xi is
independent noise. C holds the first b coefficients of the square root of the matrix of prefix sums
(Kalinin and Lampert 2024, arXiv 2405.13763, section 4). The rounds of a run are one Gaussian
mechanism on C x. Where one client takes part at most k times, at least b rounds apart, the columns
of C that it touches do not overlap, so that its sensitivity is sqrt(k) |c| S.

Nothing rests on the draws: who takes part may be known to everybody. One band is independent noise.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from confide.errors import ConfigError
from confide.protocol.tensors import Tensors
from confide.strategies.mechanisms.clipping import FixedClipping
from confide.strategies.mechanisms.mechanism import (
    CLIP_NORM,
    Released,
    RoundSum,
    as_state,
    divided,
    drawn_noise,
)

_PARTICIPATIONS = "participations"
_BEFORE = "noise/"
"""Prefix of the noise of earlier rounds in the state: ``noise/1/NAME`` is the last round's."""


def coefficients(bands: int) -> list[float]:
    """Return c_0 = 1 > c_1 > ...: of (1 - x)^(-1/2), one a band.

    >>> coefficients(3)
    [1.0, 0.5, 0.375]
    """
    found = [1.0]
    for i in range(1, bands):
        found.append(found[-1] * (2 * i - 1) / (2 * i))
    return found


def sensitivity(bands: int, participations: int) -> float:
    """Return by how much one client moves C x, in clipping norms.

    Args:
        bands: b, >= 1.
        participations: k, most rounds of one client, at least b rounds apart.
    """
    return math.sqrt(participations * sum(c * c for c in coefficients(bands)))


@dataclass(frozen=True, kw_only=True)
class BandedMechanism:
    """Correlated noise on rounds of which one client takes part in few, far apart.

    Attributes:
        noise_multiplier: z, noise of the whole run in units of its sensitivity, >= 0.
        bands: b, >= 1.
        clipping: S; it is the same in all rounds, or C x would have no one sensitivity.
    """

    noise_multiplier: float
    bands: int
    clipping: FixedClipping

    adapts = False
    share = None

    def first_state(self, params: Tensors) -> Tensors:
        """Return the clipping norm, and no noise of earlier rounds."""
        # Known with the first round: it depends on how many there are
        unknown = {_PARTICIPATIONS: torch.zeros(1, dtype=torch.int64)}
        zeros = {
            f"{_BEFORE}{age}/{name}": torch.zeros(value.shape, dtype=torch.float64)
            for age in range(1, self.bands)
            for name, value in params.items()
        }
        return as_state(self.clipping.clip_norm) | unknown | zeros

    def release(self, given: RoundSum) -> Released:
        """Return the mean with this round's noise, less what it takes back of earlier ones.

        Raises:
            ConfigError: if one client may take part more often than the noise of earlier rounds
                was made for.
        """
        before = int(given.state[_PARTICIPATIONS][0])
        if before not in (0, given.participations):
            raise ConfigError(
                f"server.num_rounds allows a client {given.participations} rounds, and the noise of"
                f" earlier rounds was made for {before}: one release of the whole run. Go on with"
                " the number of rounds that the run began with."
            )
        clip_norm = float(given.state[CLIP_NORM][0])
        noise = drawn_noise(given)
        # The t-th row of C w = xi, solved for w_t; c_0 is 1
        for age, coefficient in enumerate(coefficients(self.bands)[1:], start=1):
            for name in noise:
                noise[name] = noise[name] - coefficient * given.state[f"{_BEFORE}{age}/{name}"]
        std = self.noise_multiplier * clip_norm * sensitivity(self.bands, given.participations)
        return Released(
            update=divided(given.total, noise, std=std, expected=given.expected),
            state=as_state(clip_norm)
            | {_PARTICIPATIONS: torch.tensor([given.participations])}
            | dict(self._kept(noise, given.state)),
        )

    def _kept(self, noise: dict[str, Tensor], state: Tensors) -> Iterator[tuple[str, Tensor]]:
        for name, drawn in noise.items():
            for age in range(1, self.bands):
                older = drawn if age == 1 else state[f"{_BEFORE}{age - 1}/{name}"]
                yield f"{_BEFORE}{age}/{name}", older


__all__ = ["BandedMechanism", "coefficients", "sensitivity"]
