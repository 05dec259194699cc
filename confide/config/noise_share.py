"""What each client does to its update where the noise on a sum is split over clients."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.config.aggregation import MOST_INSTITUTIONS
from confide.config.fields import STRICT

_LARGEST_NORMAL = 9.0
"""No Gaussian is larger: Box-Muller of uniforms above 2^-54 ends at 8.66."""
_GRID_BITS = 30 - math.ceil(math.log2(MOST_INSTITUTIONS))
"""Bits of the largest value on the grid: it is a float32, and so many of them fit into a sum of 32
bits, two of which stay free."""
_LEAST_STEPS = 2**10


@dataclass(frozen=True, kw_only=True)
class NoiseShare:
    """Clipping and noise of one client, by what :mod:`confide.privacy.noise_share` promises.

    Attributes:
        clip_norm: S, > 0.
        noise_multiplier: z of the sum over h honest clients, > 0.
        honest: h, >= 1.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    clip_norm: float
    noise_multiplier: float
    honest: int

    @property
    def std(self) -> float:
        """Standard deviation of one client's noise."""
        return self.noise_multiplier * self.clip_norm / math.sqrt(self.honest)

    @property
    def largest(self) -> float:
        """Largest absolute value that a clipped update with noise can have."""
        return self.clip_norm + _LARGEST_NORMAL * self.std

    @property
    def grid_bits(self) -> int:
        """k: values are multiples of 2^-k, as every sum of so bounded values holds them."""
        return _GRID_BITS - math.ceil(math.log2(self.largest))

    def problems(self) -> Iterator[str]:
        """Yield what is out of range, or too little noise for the grid."""
        figures = (
            f"clip_norm={self.clip_norm:g}, noise_multiplier={self.noise_multiplier:g},"
            f" honest={self.honest}"
        )
        if not 0 < self.clip_norm < math.inf or not 0 <= self.noise_multiplier < math.inf:
            yield f"{figures}: expected a norm above 0 and a multiplier of 0 or more."
        elif not 1 <= self.honest <= MOST_INSTITUTIONS:
            yield f"{figures}: expected honest=1 to {MOST_INSTITUTIONS}."
        elif self.std * 2.0**self.grid_bits < _LEAST_STEPS:
            yield (
                f"{figures}: shares have noise of {self.std:.3g}, less than {_LEAST_STEPS} steps of"
                f" the grid that sums have; raise noise_multiplier."
            )


__all__ = ["NoiseShare"]
