"""What espeak-ng says, somewhere in noise: recordings of benchmarks, by voices that are drawn."""

import io
import subprocess
import wave
from collections.abc import Callable

import numpy
from numpy.typing import NDArray

ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp")
VOICES = ("m1", "m3", "m5", "m7", "f1", "f2", "f4", "croak")
Levels = NDArray[numpy.float64]


def spoken(
    said: str,
    accent: str,
    generator: numpy.random.Generator,
    *,
    speeds: tuple[int, int],
    noise: tuple[float, float],
    place_fn: Callable[[Levels, int], tuple[Levels, int]],
) -> bytes:
    """Return a WAV file of something said.

    Args:
        said: words.
        accent: of espeak-ng.
        generator: draws voice, speed, pitch, noise and where in it the words are.
        speeds: words a minute, the least and less than what.
        noise: its standard deviation, as powers of ten, the least and the most.
        place_fn: (what was said, samples a second) -> what of it is heard, and the number of
            samples in all.
    """
    voice, speed = generator.choice(VOICES), str(generator.integers(*speeds))
    pitch = str(generator.integers(15, 85))
    command = ["espeak-ng", "-v", f"{accent}+{voice}", "-s", speed, "-p", pitch, "--stdout", said]
    told = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(told)) as file:
        rate = file.getframerate()
        levels = numpy.frombuffer(file.readframes(file.getnframes()), "<i2") / 2.0**15
    levels, count = place_fn(levels, rate)
    samples = generator.normal(0, 10 ** generator.uniform(*noise), count)
    start = generator.integers(0, count - len(levels) + 1)
    samples[start : start + len(levels)] += levels
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, rate, count, "NONE", "not compressed"))
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return written.getvalue()
