"""Whether a simulation's noise follows from its seed, and what it then derives from."""

import os

from confide.config.run import Config
from confide.privacy.keys import seeded_secret
from confide.privacy.randomness import KEY_BYTES


def noise_repeats(config: Config) -> bool:
    """Tell whether noise follows from the seed.

    It does where there is a seed and the policy allows it, if only for public records.
    """
    allowed = config.policy.allow_reproducible_noise
    if allowed is None:
        allowed = config.data.is_public
    return config.simulation.seed is not None and allowed


def noise_secret(seed: int | None, *, reproducible: bool) -> bytes:
    """Return what noise and sampling masks derive from, 32 bytes.

    Without a seed it is drawn anew by each process and never written.

    Args:
        seed: of the simulation.
        reproducible: whether noise may follow from the seed.
    """
    if seed is None or not reproducible:
        return os.urandom(KEY_BYTES)
    return seeded_secret(seed)


__all__ = ["noise_repeats", "noise_secret"]
