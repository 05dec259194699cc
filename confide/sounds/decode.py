"""Bytes of a WAV file -> samples, with everything told that was found on the way.

Read by the standard library: PCM of 8, 16, 24 and 32 bits. A file that ends before its samples do
is told, which libraries read without a word.
"""

import io
import wave
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from confide.config.tasks.media.sounds import SoundReading
from confide.held import UnusableError
from confide.sounds.findings import RATE

Samples = NDArray[numpy.float32]
"""Shape [s], from -1 to 1."""

_UNKNOWN_LENGTH = 0x7FFF_0000
"""Bytes from which on a header's length stands for one that its writer did not know, of a pipe."""
_HIGHEST_RATE = 1_000_000
"""Samples a second: a filter that resamples grows with both rates, and a header may say 2^32."""
_LOUD = 0.99
_MANY = 0.01


class Sound(NamedTuple):
    """A sound, decoded.

    Attributes:
        samples: mean over the channels.
        rate: samples a second.
        findings: names of what its owner should know.
    """

    samples: Samples
    rate: int
    findings: tuple[str, ...]


def decode_wav(data: bytes, reading: SoundReading) -> Sound:
    """Decode the bytes of a file.

    Args:
        data: a WAV file.
        reading: what the schema says.

    Raises:
        UnusableError: if it cannot be used.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            declared = file.getnframes()
            raw = file.readframes(declared)
    except wave.Error as error:
        known = ("unknown format", "unknown extended format", "bad sample width")
        raise UnusableError(
            "not_pcm" if any(word in str(error) for word in known) else "no_sound"
        ) from None
    except (EOFError, ValueError, RuntimeError, ArithmeticError, MemoryError):
        raise UnusableError("no_sound") from None  # headers that may say anything
    if width not in (1, 2, 3, 4):
        raise UnusableError("not_pcm")
    if rate <= 0:
        raise UnusableError("no_sound")
    if rate > _HIGHEST_RATE:
        raise UnusableError("rate")
    size = channels * width
    if len(raw) < declared * size < _UNKNOWN_LENGTH:
        raise UnusableError("truncated")
    levels = _levels(raw[: len(raw) // size * size], width).reshape(-1, channels)
    if not len(levels):
        raise UnusableError("empty")
    return Sound(
        levels.mean(axis=1, dtype=numpy.float64).astype(numpy.float32),
        rate,
        tuple(_findings(levels, rate, reading)),
    )


def _levels(raw: bytes, width: int) -> NDArray[numpy.float32]:
    """Return samples from -1 to 1, of all channels in turn."""
    if width == 1:  # the only width without a sign
        return ((numpy.frombuffer(raw, numpy.uint8) - 128.0) / 128).astype(numpy.float32)
    if width == 3:
        # As the upper three bytes of four, the sign is where it belongs
        wide = numpy.zeros((len(raw) // 3, 4), numpy.uint8)
        wide[:, 1:] = numpy.frombuffer(raw, numpy.uint8).reshape(-1, 3)
        raw, width = wide.tobytes(), 4
    whole = numpy.frombuffer(raw, f"<i{width}")
    levels: NDArray[numpy.float32] = (whole / 2.0 ** (8 * width - 1)).astype(numpy.float32)
    return levels


def _findings(levels: NDArray[numpy.float32], rate: int, reading: SoundReading) -> list[str]:
    found = {
        "channels": levels.shape[1] > 1,
        "clipped": (numpy.abs(levels) >= _LOUD).mean() > _MANY,
        "cut": len(levels) > round(rate * reading.seconds),
        "silent": levels.max() == levels.min(),
    }
    return [*(name for name, holds in found.items() if holds), f"{RATE}{rate}"]


__all__ = ["Samples", "Sound", "decode_wav"]
