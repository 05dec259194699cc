"""Numbers, spoken digit by digit by espeak-ng in four accents of English: an institution each.

Needs the program espeak-ng. Each institution has 400 recordings of two to four digits, such as
"three seven nine", by voices, at speeds and pitches that are drawn, somewhere within two seconds
and a half of noise that is drawn too; what is said stands beside each, NAME.txt::

    python benchmarks/spoken_numbers.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import numpy
from espeak import ACCENTS, Levels, spoken

from confide import simulate

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
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
    return spoken(said, accent, generator, speeds=(150, 240), noise=(-3.5, -2), place_fn=_placed)


def _placed(levels: Levels, rate: int) -> tuple[Levels, int]:
    return levels, max(round(rate * SECONDS), len(levels))


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
