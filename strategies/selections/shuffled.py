"""Numbers 0 to n - 1 in a pseudorandom order, each found by its place without a list of them.

Of a large population a few places alone are looked at. A permutation of so many bits is a balanced
Feistel network (Luby and Rackoff 1988), and one of fewer numbers follows by walking along it until
a number is small enough (Black and Rogaway 2002, section 4, "cycle-walking").
"""

import hashlib
import random
from collections.abc import Callable
from functools import lru_cache

_FEW = 4096
"""Numbers up to which they are shuffled as a list: of few bits a network is not a fair shuffle."""
_STEPS = 8


@lru_cache(maxsize=8)
def shuffled(n: int, seed: int) -> Callable[[int], int]:
    """Return a function from a place to the number that stands there.

    Args:
        n: how many numbers there are, >= 0.
        seed: the order follows from it, >= 0 and below 2^64.
    """
    if n <= _FEW:
        numbers = list(range(n))
        random.Random(seed).shuffle(numbers)
        return numbers.__getitem__
    half = ((n - 1).bit_length() + 1) // 2
    keys = [seed.to_bytes(8, "little") + bytes([step]) for step in range(_STEPS)]

    def number(place: int) -> int:
        found = _mixed(place, half, keys)
        while found >= n:  # fewer than four times on average: the network is of at most 4n numbers
            found = _mixed(found, half, keys)
        return found

    return number


def _mixed(value: int, half: int, keys: list[bytes]) -> int:
    """Send a number of ``2 * half`` bits through the network."""
    mask = (1 << half) - 1
    left, right = value >> half, value & mask
    for key in keys:
        digest = hashlib.blake2b(right.to_bytes(8, "little"), digest_size=8, key=key).digest()
        left, right = right, left ^ (int.from_bytes(digest, "little") & mask)
    return left << half | right


__all__ = ["shuffled"]
