"""WAV files made by arithmetic."""

import io
import struct
import wave
from pathlib import Path

import numpy
from numpy.typing import NDArray

from confide.config.models.cnn import CnnConfig
from confide.config.models.tuning import TuningConfig
from confide.config.tasks.media.audio_classification import AudioClassificationConfig
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
