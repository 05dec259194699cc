"""Ten words, spoken by espeak-ng in four accents of English: an institution each.

Needs the program espeak-ng. Each word is spoken 36 times by each institution, by voices, at speeds
and pitches that are drawn, somewhere within a second of noise that is drawn too::

    python benchmarks/spoken_words.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import numpy
from espeak import ACCENTS, Levels, spoken

from confide import simulate

WORDS = ("yes", "no", "stop", "go", "left", "right", "card", "balance", "doctor", "help")
TIMES = 36
SECONDS = 1.0


def speak(folder: Path, times: int = TIMES) -> Path:
    """Write ACCENT/WORD/NUMBER.wav.

    Args:
        folder: to write into.
        times: how often each word is spoken in each accent.
    """
    generator = numpy.random.default_rng(0)
    for accent in ACCENTS:
        for word in WORDS:
            place = folder / accent / word
            place.mkdir(parents=True)
            for number in range(times):
                (place / f"{number}.wav").write_bytes(spoken_word(accent, word, generator))
    return folder


def spoken_word(accent: str, word: str, generator: numpy.random.Generator) -> bytes:
    """Return a WAV file of a word, somewhere within a second of noise."""
    return spoken(word, accent, generator, speeds=(110, 240), noise=(-3, -1.3), place_fn=_placed)


def _placed(levels: Levels, rate: int) -> tuple[Levels, int]:
    count = round(rate * SECONDS)
    return levels[:count], count


def job(folder: Path) -> list[str]:
    """Return the overrides of a run on spoken words."""
    return [
        *("task=audio", f"task.labels=[{','.join(WORDS)}]", f"data.path={folder}"),
        *("data.public=true", "data.validation=0.05", "data.test=0.2"),
        *("backbone=cnn", "backbone.widths=[12,24,24]", "tuning=full", "simulation.baselines=[]"),
    ]


RUNS = {
    "without privacy": (
        *("privacy=none", "client.optimizer.kind=adam", "client.optimizer.learning_rate=0.003"),
        *("client.local_steps=6", "client.sampling_rate=0.15"),
    ),
    "epsilon 8": (
        *("privacy.epsilon=8", "server.num_rounds=10", "client.local_steps=6"),
        *("client.sampling_rate=0.25", "client.optimizer.learning_rate=0.5"),
    ),
}


def main() -> None:
    """Print the accuracy on pooled test records of each run."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(made) / "words"
        if not folder.is_dir():
            speak(folder)
        for name, overrides in RUNS.items():
            scores = simulate([*job(folder), *overrides]).summary["federated"]
            print(f"{name}: accuracy {scores['accuracy']:.3f}")


if __name__ == "__main__":
    main()
