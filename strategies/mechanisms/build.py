"""From a mechanism's settings to the mechanism."""

from confide.strategies.mechanisms.banded import BandedMechanism
from confide.strategies.mechanisms.clipping import AdaptiveClipping, FixedClipping
from confide.strategies.mechanisms.gaussian import GaussianMechanism


def none() -> None:
    """Build nothing."""


def gaussian(  # noqa: PLR0913 - one word a setting
    *,
    noise_multiplier: float,
    clip_norm: float,
    delta: float,
    quantile: float | None,
    clip_learning_rate: float,
    bit_noise: float | None,
    honest: int | None,
) -> GaussianMechanism:
    """Build independent noise; ``delta`` is for whoever tells what it costs."""
    if quantile is None:
        return GaussianMechanism(
            noise_multiplier=noise_multiplier,
            clipping=FixedClipping(clip_norm=clip_norm),
            honest=honest,
        )
    return GaussianMechanism(
        noise_multiplier=noise_multiplier,
        clipping=AdaptiveClipping(
            clip_norm=clip_norm,
            quantile=quantile,
            learning_rate=clip_learning_rate,
            bit_noise=bit_noise,
        ),
    )


def banded(
    *, noise_multiplier: float, clip_norm: float, delta: float, bands: int
) -> BandedMechanism:
    """Build correlated noise; ``delta`` is for whoever tells what it costs."""
    return BandedMechanism(
        noise_multiplier=noise_multiplier,
        bands=bands,
        clipping=FixedClipping(clip_norm=clip_norm),
    )


__all__ = ["banded", "gaussian", "none"]
