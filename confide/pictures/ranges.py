"""Values of more than 8 bits, mapped to grey by a range."""

import numpy
from numpy.typing import NDArray

from confide.config.tasks.media.pictures import PictureReading
from confide.held import UnusableError
from confide.pictures.findings import Seen

_MANY = 0.1
"""Share of pixels outside the range from which on it is told."""


def windowed(
    values: NDArray[numpy.float64], reading: PictureReading, seen: Seen
) -> NDArray[numpy.uint8]:
    """Map values of more than 8 bits to 0 to 255 by the public range.

    Raises:
        UnusableError: if there is none, or values are no numbers.
    """
    if reading.minimum is None or reading.maximum is None:
        raise UnusableError("deep")
    return stretched(values, reading.minimum, reading.maximum, seen)


def stretched(
    values: NDArray[numpy.float64], low: float, high: float, seen: Seen
) -> NDArray[numpy.uint8]:
    """Map low to 0 and high to 255, what lies outside to the nearest of them.

    Raises:
        UnusableError: if values are no numbers.
    """
    if not numpy.isfinite(values).all():
        raise UnusableError("not_finite")
    if ((values < low) | (values > high)).mean() > _MANY:
        seen.note("clipped")
    share = (values.clip(low, high) - low) / (high - low)
    return numpy.rint(share * 255).astype(numpy.uint8)


__all__ = ["stretched", "windowed"]
