"""Numbers, spoken digit by digit by espeak-ng in four accents of English: an institution each.

Needs the program espeak-ng. Each institution has 400 recordings of two to four digits, such as
"three seven nine", by voices, at speeds and pitches that are drawn, somewhere within two seconds
and a half of noise that is drawn too; what is said stands beside each, NAME.txt::

    python benchmarks/spoken_numbers.py [FOLDER]
"""

import io
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy

from confide import simulate

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp")
VOICES = ("m1", "m3", "m5", "m7", "f1", "f2", "f4", "croak")
TIMES = 400
SECONDS = 2.5


def speak(folder: Path, times: int = TIMES) -> Path:
    """Write ACCENT/NUMBER.wav, and NUMBER.txt beside it.

    Args:
        folder: to write into.
        times: recordings of each accent.
    """
    generator = numpy.random.default_rng(0)
    for accent in ACCENTS:
        (folder / accent).mkdir(parents=True)
        for number in range(times):
            said = " ".join(generator.choice(DIGITS, generator.integers(2, 5)))
            place = folder / accent / f"{number:04}"
            place.with_suffix(".wav").write_bytes(_spoken(accent, said, generator))
            place.with_suffix(".txt").write_text(f"{said}\n")
    return folder


def _spoken(accent: str, said: str, generator: numpy.random.Generator) -> bytes:
    voice, speed = generator.choice(VOICES), str(generator.integers(150, 240))
    pitch = str(generator.integers(15, 85))
    command = ["espeak-ng", "-v", f"{accent}+{voice}", "-s", speed, "-p", pitch, "--stdout", said]
    told = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(told)) as file:
        rate = file.getframerate()
        levels = numpy.frombuffer(file.readframes(file.getnframes()), "<i2") / 2.0**15
    count = max(round(rate * SECONDS), len(levels))
    samples = generator.normal(0, 10 ** generator.uniform(-3.5, -2), count)
    start = generator.integers(0, count - len(levels) + 1)
    samples[start : start + len(levels)] += levels
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, rate, count, "NONE", "not compressed"))
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return written.getvalue()


def job(folder: Path) -> list[str]:
    """Return the overrides of a run on spoken numbers."""
    return [
        *("task=speech_recognition", "task.rate=8000", f"task.seconds={SECONDS}"),
        *(f"data.path={folder}", "data.public=true", "data.validation=0.05", "data.test=0.2"),
        *("backbone=ctc", "backbone.width=48", "backbone.depth=2", "backbone.kernel=11"),
        *("tuning=full", "simulation.baselines=[]"),
    ]


RUNS = {
    "without privacy": (
        *("privacy=none", "client.optimizer.kind=adam", "client.optimizer.learning_rate=0.005"),
        *("server.num_rounds=40", "client.local_steps=12", "client.sampling_rate=0.15"),
    ),
    "epsilon 8": (
        *("privacy.epsilon=8", "server.num_rounds=20", "client.local_steps=8"),
        *("client.sampling_rate=0.25", "client.optimizer.learning_rate=0.5"),
    ),
}


def main() -> None:
    """Print the error rates on pooled test records of each run."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(made) / "numbers"
        if not folder.is_dir():
            speak(folder)
        for name, overrides in RUNS.items():
            scores = simulate([*job(folder), *overrides]).summary["federated"]
            print(f"{name}: WER {scores['wer']:.3f}, CER {scores['cer']:.3f}")


if __name__ == "__main__":
    main()
