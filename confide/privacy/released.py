"""Noise of a release that came before a run's steps, as either side knows it from the plan."""

from confide.privacy.accounting import Schedule, calibrate


def release_noise(target_epsilon: float | None, *, delta: float) -> float:
    """Return sigma of a release, calibrated as the release itself was; 0 for none.

    Args:
        target_epsilon: of the release; None if there was none.
        delta: of the plan.

    Raises:
        PrivacyError: if no noise suffices.
    """
    if target_epsilon is None:
        return 0.0
    return calibrate(target_epsilon=target_epsilon, delta=delta, sampling_rate=1.0, steps=1)


def one_release(noise_multiplier: float) -> Schedule | None:
    """Return the schedule of one release without sampling; None without noise, for none."""
    if not noise_multiplier:
        return None
    return Schedule(noise_multiplier=noise_multiplier, sampling_rate=1.0, steps=1)


__all__ = ["one_release", "release_noise"]
