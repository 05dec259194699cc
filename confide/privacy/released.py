"""Noise of releases that came before a run's steps, as either side knows it from the plan."""

import math
from collections.abc import Sequence

from confide.privacy.accounting import Schedule, calibrate


def releases_noise(epsilons: Sequence[float], *, delta: float) -> float:
    """Return sigma of the one release that costs what some cost together; 0 for none.

    Gaussian mechanisms without sampling compose exactly to one, whose mu = 1 / sigma is the root of
    the sum of their squares (Dong, Roth and Su 2022, corollary 3.3), whatever the order.

    Args:
        epsilons: of each release.
        delta: of the plan.

    Raises:
        PrivacyError: if no noise suffices for one of them.
    """
    sigmas = [release_noise(epsilon, delta=delta) for epsilon in epsilons]
    # One keeps its very bits: noise of runs on edges alone is what it was
    if len(sigmas) < 2:
        return sum(sigmas)
    return 1 / math.hypot(*(1 / sigma for sigma in sigmas))


def release_noise(target_epsilon: float, *, delta: float) -> float:
    """Return sigma of a release, calibrated as the release itself was.

    Args:
        target_epsilon: of the release.
        delta: of the plan.

    Raises:
        PrivacyError: if no noise suffices.
    """
    return calibrate(target_epsilon=target_epsilon, delta=delta, sampling_rate=1.0, steps=1)


def one_release(noise_multiplier: float) -> Schedule | None:
    """Return the schedule of one release without sampling; None without noise, for none."""
    if not noise_multiplier:
        return None
    return Schedule(noise_multiplier=noise_multiplier, sampling_rate=1.0, steps=1)


__all__ = ["one_release", "release_noise", "releases_noise"]
