"""Integers modulo 2^64 in sums of words that may be narrower.

A word of 64 bits holds one. Of words of 32 bits each integer takes four, with 16 bits in each: the
upper half of a word takes the carries of a sum, and no word of it wraps around.
"""

import numpy
from numpy.typing import NDArray

Integers = NDArray[numpy.int64]

MOST_SUMMED = 2**15
"""Institutions whose words of 16 bits add up to less than 2^31."""
_LIMB_BITS = 16
_LIMBS = 4
_SHIFTS = numpy.arange(_LIMBS, dtype=numpy.uint64) * numpy.uint64(_LIMB_BITS)


def wide_length(count: int, bits: int) -> int:
    """Return how many words so many integers take.

    Args:
        count: m, number of integers.
        bits: of each word, 64 or 32.

    >>> wide_length(3, 32)
    12
    """
    return count if bits == 64 else _LIMBS * count


def to_words(values: Integers, bits: int) -> Integers:
    """Write integers as what is added up.

    Args:
        values: int64, shape [m].
        bits: of each word, 64 or 32.

    Returns:
        int64, shape [``wide_length(m, bits)``]; with 32 bits each is 0 to 2^16 - 1.
    """
    if bits == 64:
        return values
    limbs = (values.view(numpy.uint64)[:, None] >> _SHIFTS) & numpy.uint64(2**_LIMB_BITS - 1)
    return limbs.reshape(-1).view(numpy.int64)


def from_words(summed: Integers, bits: int) -> Integers:
    """Read the sums of integers off the sums of their words.

    Args:
        summed: int64, shape [``wide_length(m, bits)``]: sums over at most ``MOST_SUMMED``
            institutions.
        bits: of each word, 64 or 32.

    Returns:
        Sums modulo 2^64: int64, shape [m].
    """
    if bits == 64:
        return summed
    limbs = summed.view(numpy.uint64).reshape(-1, _LIMBS) << _SHIFTS
    values: Integers = limbs.sum(axis=1, dtype=numpy.uint64).view(numpy.int64)
    return values


__all__ = ["MOST_SUMMED", "from_words", "to_words", "wide_length"]
