"""False alarms and power of ``confide drift`` on sounds.

Needs the program espeak-ng. A model is trained on the words of ``spoken_words.py``. Then each word
is spoken anew, 20 times in each accent, and the same recordings are made louder, noisier, or spoken
by voices that nobody had. In each draw 400 recordings are the reference and 200 others those of
now. Prints a table in Markdown: the share of draws with an alarm, with its 95 % interval (Clopper
and Pearson), and the median distance (MMD) of what the model sees::

    python benchmarks/drift_sounds.py [FOLDER]
"""

import io
import sys
import tempfile
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import espeak
import numpy
import torch
from espeak import ACCENTS, Levels
from scipy.stats import binomtest
from spoken_words import RUNS, WORDS, job, speak, spoken_word

from confide import simulate
from confide.client.drift.findings import Report, compare
from confide.client.drift.looking import Looked, answers, profile_of, with_answers
from confide.client.drift.profile import Profile
from confide.client.records.sources.reading import READ_AS_TEXT
from confide.client.records.whole import read_whole
from confide.config.drift import DriftConfig
from confide.inference.inputs import read_inputs
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import Compute
from confide.tasks.schema import read_targets

DRAWS, MOVED_DRAWS = 100, 10
TIMES, REFERENCE, NOW = 20, 400, 200
CONFIG = DriftConfig()
OTHER_VOICES = ("m2", "m6", "m8", "f3", "f5")
Alter = Callable[[Levels, numpy.random.Generator], Levels]
ALTERED: dict[str, Alter] = {
    "twice as loud": lambda levels, rng: 2 * levels,
    "a tenth as loud": lambda levels, rng: 0.1 * levels,
    "noise of 0.02 more": lambda levels, rng: levels + rng.normal(0, 0.02, len(levels)),
}


def altered(source: Path, folder: Path, alter_fn: Alter) -> Path:
    """Write all recordings of a folder anew, changed."""
    generator = numpy.random.default_rng(1)
    for path in sorted(source.rglob("*.wav")):
        with wave.open(str(path)) as file:
            params = file.getparams()
            levels = numpy.frombuffer(file.readframes(params.nframes), "<i2") / 2.0**15
        samples = (alter_fn(levels, generator).clip(-1, 1) * 32767).astype("<i2")
        written = io.BytesIO()
        with wave.open(written, "wb") as file:
            file.setparams(params)
            file.writeframes(samples.tobytes())
        place = folder / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(written.getvalue())
    return folder


def spoken_anew(folder: Path, seed: int) -> Path:
    """Write WORD/ACCENT-NUMBER.wav, spoken by what ``espeak.VOICES`` names."""
    generator = numpy.random.default_rng(seed)
    for word in WORDS:
        (folder / word).mkdir(parents=True)
        for accent in ACCENTS:
            for number in range(TIMES):
                place = folder / word / f"{accent}-{number}.wav"
                place.write_bytes(spoken_word(accent, word, generator))
    return folder


class Bench:
    """A model, and recordings that it may be asked about.

    Args:
        predictor: of words.
        folder: CLASS/FILE.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self._predictor, task = predictor, predictor.plan.task
        needed = [*predictor.task.content_columns(), *task.target_columns]
        reading = replace(READ_AS_TEXT, files=task.files)
        whole = read_whole(str(folder), query=None, needed=needed, keep=[], reading=reading)
        self._records = read_inputs(predictor, whole.records).records
        self._examples = predictor.prepare(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def profile(self, rows: list[int], like: Profile | None = None) -> Profile:
        """Make a profile of some recordings, as the command does."""
        looked = Looked(source="", scored_records=CONFIG.scored_records, like=like)
        records, task = self._records.select(rows), self._predictor.plan.task
        examples = self._examples.select(torch.tensor(rows))
        known = torch.from_numpy(read_targets(records, task).known)
        found = answers(self._predictor, examples, known)
        rng = numpy.random.default_rng(looked.seed)
        made = profile_of(task, records, looked)
        return with_answers(made, found, rng, looked.forms("predictions"))


def drawn(reference: Bench, now: Bench, seed: int) -> Report:
    """Compare recordings with others: no recording is on both sides, altered or not."""
    order = numpy.random.default_rng(seed).permutation(len(reference)).tolist()
    before = reference.profile(order[:REFERENCE])
    return compare(before, now.profile(order[REFERENCE : REFERENCE + NOW], before), CONFIG)


def told(name: str, reports: list[Report]) -> str:
    """Return a row of the table."""
    hits = sum(bool(it.alarms) for it in reports)
    ends = binomtest(hits, len(reports)).proportion_ci(method="exact")
    far = [it.effect for one in reports for it in one.findings if it.kind == "features"]
    alarms = f"{100 * hits / len(reports):.0f} % ({100 * ends.low:.0f} to {100 * ends.high:.0f})"
    return f"| {name} | {alarms} | {numpy.median(far):.2f} |"


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(made)
        run = folder / "RUN"
        if not (run / "model").is_dir():
            words = speak(folder / "words")
            simulate([*job(words), *RUNS["without privacy"]], run_dir=run)
        if not (folder / "new").is_dir():
            spoken_anew(folder / "new", seed=1)
            for name, alter_fn in ALTERED.items():
                altered(folder / "new", folder / name, alter_fn)
            espeak.VOICES = OTHER_VOICES
            spoken_anew(folder / "other voices", seed=2)
        predictor = load_predictor(run, compute=Compute())
        reference = Bench(predictor, folder / "new")
        print("| drift | alarms | median MMD |\n|---|---|---|", flush=True)
        for name in ("new", *ALTERED, "other voices"):
            now = Bench(predictor, folder / name)
            draws = DRAWS if name == "new" else MOVED_DRAWS
            reports = [drawn(reference, now, seed) for seed in range(draws)]
            print(told("none" if name == "new" else name, reports), flush=True)


if __name__ == "__main__":
    main()
