"""Room in memory for encoded pictures and sounds, within a bound.

A plan chooses their size, and all records of an institution are encoded together: without a bound
a coordinator could ask for more than any machine has.
"""

import math

import torch
from torch import Tensor

from confide.errors import DataError

MOST_BYTES = 2**33


def room(count: int, shape: tuple[int, ...], dtype: torch.dtype, *, fix: str) -> Tensor:
    """Return an uninitialised tensor [count, *shape].

    Args:
        count: records.
        shape: of one.
        dtype: of its values.
        fix: the end of the sentence that says what to do.

    Raises:
        DataError: if it would be larger than ``MOST_BYTES``.
    """
    size = count * math.prod(shape) * dtype.itemsize
    if size > MOST_BYTES:
        raise DataError(
            f"Encoded, {count:,} records of {' x '.join(map(str, shape))} values would take"
            f" {size:,} bytes, expected at most {MOST_BYTES:,}; {fix}."
        )
    return torch.empty((count, *shape), dtype=dtype)


__all__ = ["MOST_BYTES", "room"]
