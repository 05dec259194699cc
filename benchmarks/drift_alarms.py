"""False alarms and power of ``confide drift``: python benchmarks/drift_alarms.py [RUNS] [DATA ...].

RUNS is a folder with a finished run of each kind (heart_disease, lending, tweets), made here if it
is not there. For each of 200 draws the run's records are shuffled; some are the reference, others
those of now, as they are or with one drift planted in them. Prints a table in Markdown: the share
of draws with an alarm, and with an alarm of the kind that the drift is of, with 95 % intervals
(Clopper and Pearson).
"""

import csv
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy
import numpy.typing
import pyarrow
import torch
from datasets import Dataset
from scipy.stats import binomtest

from confide.cli import main as confide
from confide.client.drift.findings import Report, compare
from confide.client.drift.looking import Looked, answers, profile_of, with_answers
from confide.client.drift.profile import Profile
from confide.config.client import TrainerConfig
from confide.config.drift import DriftConfig
from confide.inference.inputs import read_inputs
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import make_compute
from confide.tasks.schema import read_targets
from confide.tasks.task import Examples

DRAWS = 200
CONFIG = DriftConfig()
Integers = numpy.typing.NDArray[Any]
Rows = dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Records, and a drift of each sort for them.

    Attributes:
        reference: records of the reference.
        now: records of now.
        covariate: changes the columns of records.
        covariate_words: the same in words.
        label: column of the label.
        likelier: label whose odds become three times as high.
    """

    reference: int
    now: int
    covariate: Callable[[Rows, numpy.random.Generator], Rows]
    covariate_words: str
    label: str
    likelier: str


def moved(name: str, by: float) -> Callable[[Rows, numpy.random.Generator], Rows]:
    """Return what adds to a column of numbers."""

    def move(rows: Rows, rng: numpy.random.Generator) -> Rows:
        told = [text if text in (None, "") else f"{float(text) + by:g}" for text in rows[name]]
        return {**rows, name: told}

    return move


def cut(rows: Rows, rng: numpy.random.Generator) -> Rows:
    """Cut texts to 60 characters in three of ten records, as another form might."""
    chosen = rng.random(len(rows["text"])) < 0.3
    texts = [text[:60] if it else text for text, it in zip(rows["text"], chosen, strict=True)]
    return {**rows, "text": texts}


KINDS = {
    "heart_disease": Kind(
        reference=400,
        now=200,
        covariate=moved("age", 5.0),
        covariate_words="everybody is 5 years older",
        label="num",
        likelier="0",
    ),
    "lending": Kind(
        reference=2000,
        now=1000,
        covariate=moved("int_rate", 2.0),
        covariate_words="interest rates are 2 points higher",
        label="Class",
        likelier="bad",
    ),
    "tweets": Kind(
        reference=1000,
        now=500,
        covariate=cut,
        covariate_words="three in ten tweets are cut to 60 characters",
        label="sentiment",
        likelier="positive",
    ),
}


class Bench:
    """One model, and all records that it may be asked about, as they are and moved.

    Args:
        runs: folder of runs and records.
        data: name of an experiment.
    """

    def __init__(self, runs: Path, data: str) -> None:
        self.kind = KINDS[data]
        prepared(runs, data)
        compute = make_compute(TrainerConfig(feature_cache=None))
        self.predictor: Predictor = load_predictor(runs / data, compute=compute)
        self._own = read_all(runs / "records" / data)
        moved_rows = self.kind.covariate(self._own.to_pydict(), numpy.random.default_rng(0))
        self._moved = pyarrow.table(moved_rows)
        self._encoded = [self._examples(table) for table in (self._own, self._moved)]
        meaning = self.predictor.plan.task.label_values
        self._labels = numpy.array(self._own[self.kind.label].to_pylist())
        raw = sorted(set(self._labels.tolist()))
        self._others = {
            it: [one for one in raw if meaning.get(one, one) != meaning.get(it, it)] for it in raw
        }

    def _examples(self, table: pyarrow.Table) -> Examples:
        return self.predictor.prepare(read_inputs(self.predictor, as_dataset(table)).records)

    def draw(self, drift: str, seed: int) -> Report:
        """Compare a random reference with records of now, in which a drift is planted."""
        rng = numpy.random.default_rng(seed)
        kind, order = self.kind, rng.permutation(len(self._own))
        before, rest = order[: kind.reference], order[kind.reference :]
        after = rest[: kind.now]
        if drift == "labels":
            weights = numpy.where(self._labels[rest] == kind.likelier, 3.0, 1.0)
            after = rng.choice(rest, kind.now, replace=False, p=weights / weights.sum())
        reference = self._profile(before, self._labels[before])
        labels = self._labels[after]
        if drift == "concept":
            chosen = rng.random(len(after)) < 0.25
            labels = numpy.array(
                [
                    rng.choice(self._others[it]) if is_other else it
                    for it, is_other in zip(labels.tolist(), chosen, strict=True)
                ]
            )
        now = self._profile(after, labels, is_moved=drift == "covariate", like=reference)
        return compare(reference, now, CONFIG)

    def _profile(
        self,
        rows: Integers,
        labels: Integers,
        *,
        is_moved: bool = False,
        like: Profile | None = None,
    ) -> Profile:
        """Make a profile as the command does, of inputs that were encoded before."""
        table = (self._moved if is_moved else self._own).take(rows)
        place = table.column_names.index(self.kind.label)
        table = table.set_column(place, self.kind.label, pyarrow.array(labels.tolist()))
        records, task = as_dataset(table), self.predictor.plan.task
        looked = Looked(source="", scored_records=CONFIG.scored_records, like=like)
        targets = read_targets(records, task)
        examples = self._encoded[is_moved].select(torch.from_numpy(rows))
        found = answers(
            self.predictor,
            examples.with_labels(torch.from_numpy(targets.values)),
            torch.from_numpy(targets.known),
        )
        rng = numpy.random.default_rng(looked.seed)
        return with_answers(
            profile_of(task, records, looked), found, rng, looked.forms("predictions")
        )


def as_dataset(table: pyarrow.Table) -> Dataset:
    """Return records as a task takes them."""
    return Dataset(table, fingerprint=uuid4().hex)


def prepared(runs: Path, data: str) -> None:
    """Train a model and write its records, unless they are there."""
    words = [f"experiment={data}"]
    if not (runs / data / "model").is_dir():
        confide(["simulate", *words, "simulation.baselines=[]", f"hydra.run.dir={runs / data}"])
    if not (runs / "records" / data).is_dir():
        confide(["partition", str(runs / "records" / data), *words])


def read_all(folder: Path) -> pyarrow.Table:
    """Read the records of all institutions, as text."""
    rows: list[dict[str, str]] = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            rows += csv.DictReader(file)
    return pyarrow.table({name: [row[name] for row in rows] for name in rows[0]})


OF_KIND: dict[str, Callable[[Report], bool]] = {
    "none": lambda report: bool(report.alarms),
    "covariate": lambda report: any(it.part in ("columns", "model") for it in report.alarms),
    "labels": lambda report: any(it.part == "labels" for it in report.alarms),
    "concept": lambda report: any(
        it.kind in ("performance", "calibration") for it in report.alarms
    ),
}


def share(hits: int) -> str:
    """Write a share of the draws with its interval."""
    ends = binomtest(hits, DRAWS).proportion_ci(method="exact")
    return f"{100 * hits / DRAWS:.1f} % ({100 * ends.low:.1f} to {100 * ends.high:.1f})"


def main(words: list[str]) -> None:
    """Draw, and print a row for each drift."""
    print("| records | drift | any alarm | alarm of its kind |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as made:
        runs = Path(words[0]) if words else Path(made)
        for data in words[1:] or list(KINDS):
            bench = Bench(runs, data)
            told = {
                "none": "none",
                "covariate": bench.kind.covariate_words,
                "labels": f"odds of label {bench.kind.likelier} are three times as high",
                "concept": "a quarter of labels is another",
            }
            for drift, is_hit in OF_KIND.items():
                reports = [bench.draw(drift, seed) for seed in range(DRAWS)]
                alarms = sum(bool(it.alarms) for it in reports)
                hits = sum(map(is_hit, reports))
                cells = [data, told[drift], share(alarms), share(hits)]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
