"""WAV files made by arithmetic."""

import io
import struct
import wave
from pathlib import Path

import numpy
from numpy.typing import NDArray

from confide.config.models.cnn import CnnConfig
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.workload import Workload, build_workload

RATE = 16_000
Levels = NDArray[numpy.float64]


def tone(hertz: float, seconds: float = 0.5, *, rate: int = RATE, loud: float = 0.5) -> Levels:
    """Make a sine wave [s]."""
    return loud * numpy.sin(2 * numpy.pi * hertz * numpy.arange(round(rate * seconds)) / rate)


def wav(levels: Levels, *, rate: int = RATE, bits: int = 16) -> bytes:
    """Write samples [s] or [s, channels] from -1 to 1 as PCM."""
    whole = numpy.round(levels * (2 ** (bits - 1) - 1)).astype(numpy.int64)
    whole = whole[:, None] if whole.ndim == 1 else whole
    width = bits // 8
    raw = (whole + (128 if width == 1 else 0)).astype("<i8")
    packed = raw[:, :, None].view(numpy.uint8)[..., :width].tobytes()
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((whole.shape[1], width, rate, len(whole), "NONE", "not compressed"))
        file.writeframes(packed)
    return written.getvalue()


def float_wav(levels: Levels, *, rate: int = RATE) -> bytes:
    """Write samples as floats, which the standard library does not read."""
    data = levels.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, rate, 4 * rate, 4, 32)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def write_tones(
    folder: Path, *, count: int = 12, wards: tuple[str, ...] = ("east", "west")
) -> Path:
    """Write INSTITUTION/CLASS/FILE: low tones and high ones, of unlike pitch and length."""
    generator = numpy.random.default_rng(3)
    for ward in wards:
        for name, pitch in (("low", 300.0), ("high", 2400.0)):
            place = folder / ward / name
            place.mkdir(parents=True)
            for number in range(count):
                hertz = pitch * generator.uniform(0.8, 1.25)
                levels = tone(hertz, generator.uniform(0.1, 0.4))
                noisy = levels + generator.normal(0, 0.02, len(levels))
                (place / f"{number}.wav").write_bytes(wav(noisy))
    return folder


PITCHES = {"a": 400.0, "b": 1200.0, "c": 2400.0, " ": None}
"""Character -> the tone that says it; None: silence."""


def spelled(text: str, generator: numpy.random.Generator, *, rate: int = RATE) -> Levels:
    """Say a text: a tone a character, of 60 ms or so, each with a little silence behind it."""
    parts = []
    for one in text:
        hertz, seconds = PITCHES[one], generator.uniform(0.05, 0.07)
        said = tone(hertz or 0.0, seconds, rate=rate)
        parts += [said, numpy.zeros(round(0.02 * rate))]
    levels = numpy.concatenate(parts)
    return levels + generator.normal(0, 0.01, len(levels))


def write_spelled(
    folder: Path, *, count: int = 24, wards: tuple[str, ...] = ("east", "west")
) -> Path:
    """Write INSTITUTION/NAME.wav and NAME.txt beside each: two short words."""
    generator = numpy.random.default_rng(5)
    for ward in wards:
        (folder / ward).mkdir(parents=True)
        for number in range(count):
            sizes = generator.integers(1, 4, size=2)
            text = " ".join("".join(generator.choice(list("abc"), size)) for size in sizes)
            place = folder / ward / f"{number:02}.wav"
            place.write_bytes(wav(spelled(text, generator)))
            place.with_suffix(".txt").write_text(f"{text.upper()}\n")
    return folder


def spelling_job(folder: Path) -> list[str]:
    """Return the overrides of a private run of two wards on spelled texts."""
    return [
        *("task=speech_recognition", "task.seconds=0.7", "task.bands=16", "task.step_ms=10"),
        *("task.outcome.characters=' abc'", "task.outcome.max_characters=16"),
        *(f"data.path={folder}", "data.public=true", "data.test=0.3", "data.validation=0.1"),
        *("backbone=ctc", "backbone.width=16", "backbone.depth=1", "backbone.kernel=5"),
        *("tuning=full", "simulation.baselines=[]", "privacy.epsilon=8"),
        *("server.num_rounds=3", "client.local_steps=2"),
    ]


def job(folder: Path) -> list[str]:
    """Return the overrides of a private run of two wards."""
    return [
        *("task=audio", "task.labels=[low,high]", "task.seconds=0.3", "task.bands=16"),
        *(f"data.path={folder}", "data.public=true", "data.test=0.3", "data.validation=0.1"),
        *("backbone=cnn", "backbone.widths=[4,8]", "tuning=full", "simulation.baselines=[]"),
        *("privacy.epsilon=8", "server.num_rounds=3", "client.local_steps=2"),
    ]


def sound_workload() -> Workload:
    """Build a small network of short sounds."""
    return build_workload(
        AudioClassificationConfig(labels=["low", "high"], seconds=0.3, bands=16),
        CnnConfig(widths=[4, 8]),
        TuningConfig(kind="full"),
        compute=Compute(),
        seed=0,
    )
