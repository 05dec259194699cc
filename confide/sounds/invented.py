"""Invented sounds, for checks that need no real ones."""

import io
import wave
from collections.abc import Mapping, Sequence

import numpy

from confide.config.tasks.media.sound_task import SoundTaskConfig
from confide.held import BYTES, embedded
from confide.sounds.opening import Sounds

_RATES = (8_000, 16_000, 22_050, 44_100)


def sounds(
    config: SoundTaskConfig, count: int, generator: numpy.random.Generator
) -> Mapping[str, Sequence[object]]:
    """Invent files of unlike rates and lengths, now and then in stereo: a tone in noise.

    Args:
        config: the schema.
        count: how many.
        generator: draws them.
    """
    opened = Sounds(config.files)
    files = [_file(config.seconds, generator) for _ in range(count)]
    return {config.audio_column: [opened.look(BYTES, embedded(file)).text for file in files]}


def _file(seconds: float, generator: numpy.random.Generator) -> bytes:
    rate, channels = int(generator.choice(_RATES)), int(generator.integers(1, 3))
    count = max(1, round(rate * seconds * generator.uniform(0.3, 1.3)))
    tone = numpy.sin(2 * numpy.pi * generator.uniform(100, 3000) / rate * numpy.arange(count))
    levels = 0.4 * tone[:, None] + generator.normal(0, 0.05, (count, channels))
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((channels, 2, rate, count, "NONE", "not compressed"))
        file.writeframes((levels.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return written.getvalue()


__all__ = ["sounds"]
