"""Keys and seeds that derive from one secret, the same in a simulation and in a deployment.

In a simulation with a seed the secret follows from the seed. An institution takes it from a plan's
seed only if its own policy says ``allow_reproducible_noise``; anyone who knows the seed can then
remove the noise, so that the guarantee is void. What a mechanism is named by, the request or on
public records the round alone, is for :class:`confide.client.reservation.Randomness` to say.
"""

from confide.privacy.randomness import derive_key, seed_from


def seeded_secret(seed: int) -> bytes:
    """Return the secret of a seed, 0 to 2^63 - 1."""
    return derive_key(seed.to_bytes(8, "little"), "simulation")


def mechanism_key(secret: bytes, institution: str, job: str, mechanism: str) -> bytes:
    """Return the key that the noise and the sampling masks of one mechanism derive from."""
    return derive_key(secret, "mechanism", institution, job, mechanism)


def split_key(secret: bytes, institution: str) -> bytes:
    """Return the key that decides which split each unit of an institution is in."""
    return derive_key(secret, "split", institution)


def initial_seed(secret: bytes) -> int:
    """Return the seed of tensors that start at random."""
    return seed_from(secret, "initial")


def server_secret(secret: bytes, job: str) -> bytes:
    """Return the secret that the selection of clients derives from."""
    return derive_key(secret, "server", job)


__all__ = ["initial_seed", "mechanism_key", "seeded_secret", "server_secret", "split_key"]
