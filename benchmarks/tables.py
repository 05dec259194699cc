"""Measures what encodings, models and privacy do on tables: AUC on the pooled test records.

    python benchmarks/tables.py                           #  all of it: 13 min of a core
    python benchmarks/tables.py --tables heart --seeds 3  # a part: minutes
    python benchmarks/tables.py --kept results.json       # goes on where it was stopped

Every run is a federation of the product with its own defaults: a choice of backbone, encoding and
epsilon, and no other override. Beside it stand scikit-learn's logistic regression and boosting and
xgboost's, each with its own defaults, on the same seed's training records in one place. A seed
deals records out and splits them anew. Needs requirements/data.txt and the extra dev;
OMP_NUM_THREADS=1 keeps libraries to one core.
"""

import argparse
import importlib.util
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import lab_values
import numpy
import torch
from rich.console import Console
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from confide.client.records.encoded import encode_institution
from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.config.models.table import BACKBONES
from confide.config.run import Config
from confide.config.tasks.tabular import TabularConfig
from confide.models.compute import Compute
from confide.models.workload import build_workload
from confide.privacy.keys import seeded_secret, split_key
from confide.server.progress.lines import LineProgress
from confide.simulations.population import partition_records
from confide.simulations.run import simulate
from confide.tasks.task import LABELS

_LAB = (
    *("task=lab", "data.path=lab.csv", "data.partition_by=hospital", "data.public=true"),
    *("backbone=logistic", "tuning=full", "privacy=none"),
)
TABLES: dict[str, tuple[str, ...]] = {
    "heart": ("experiment=heart_disease",),
    "credit": ("experiment=credit",),
    "lending": ("experiment=lending",),
    "lab": _LAB,
}
ENCODINGS = ("linear", "piecewise")
EPSILONS = ("none", "1", "3", "8")
MODELS = ("logistic", "mlp", "additive", "trees")
PAIRS = {"heart": "[[age,thalch]]", "credit": "[[Income,Amount]]", "lending": "[[int_rate,term]]"}
"""Table -> pairs of columns of its additive model, beside one curve a column."""
TREES = ("client=trees",)

Data = tuple[numpy.ndarray, numpy.ndarray]
Results = dict[str, dict[str, list[float]]]


def overrides(table: str, model: str, encoding: str, epsilon: str) -> list[str] | None:
    """Return the overrides of a cell; None if there is no such cell."""
    if model not in BACKBONES or (model == "trees" and (epsilon, encoding) != ("none", "linear")):
        return None
    words = [*TABLES[table], f"backbone={model}"]
    if model == "additive":
        if encoding == "linear" or table not in PAIRS:
            return None
        words += [f"backbone.pairs={PAIRS[table]}"]
    if model == "trees":
        return [*words, *TREES]
    privacy = [] if epsilon == "none" else ["privacy=record", f"privacy.epsilon={epsilon}"]
    return [*words, f"task.numeric.encoding={encoding}", *privacy]


def federated(words: Sequence[str], seed: int) -> float:
    """Run a federation and return its AUC on the pooled test records."""
    beside = ("simulation.baselines=[]", "tracking=none", "trainer.num_threads=1")
    config = compose([*words, f"simulation.seed={seed}", *beside])
    with tempfile.TemporaryDirectory() as folder:
        progress = LineProgress(Console(file=io.StringIO()), metric="auc")
        return float(simulate(config, Path(folder) / "run", progress=progress)["federated"]["auc"])


def pooled(table: str, seed: int) -> tuple[Data, Data]:
    """Return a seed's training and test records in one place, numbers linear, NaN if missing."""
    words = ["task.numeric.encoding=linear", "privacy=none", f"simulation.seed={seed}"]
    config: Config = compose([*TABLES[table], *words])
    task, secret = config.task, seeded_secret(seed)
    assert isinstance(task, TabularConfig)
    workload = build_workload(task, config.backbone, config.tuning, compute=Compute(), seed=0)
    parts: dict[str, list[Data]] = {"train": [], "test": []}
    for name, records in partition_records(config.data, task=task, secret=secret).parts.items():
        data, _ = encode_institution(
            name, records, config.data, workload=workload, key=split_key(secret, name)
        )
        for split, found in parts.items():
            columns = data.split(split).columns
            rows = columns["features"].double().numpy()
            found.append((_with_gaps(rows, task), columns[LABELS].numpy()))
    joined = [
        (numpy.concatenate([x for x, _ in found]), numpy.concatenate([y for _, y in found]))
        for found in parts.values()
    ]
    return joined[0], joined[1]


def _with_gaps(rows: numpy.ndarray, task: TabularConfig) -> numpy.ndarray:
    """Write NaN for the numbers whose indicator says that they are missing."""
    starts = task.places(list(task.columns))
    for start, column in zip(starts, task.columns.values(), strict=True):
        if column.kind == "numeric" and column.indicator:
            rows[rows[:, start + 1] == 1, start] = numpy.nan
    return rows


def oracles() -> dict[str, Callable[[Data, Data], float]]:
    """Return what is trained on records in one place: name -> AUC of (train, test)."""

    def logistic(train: Data, test: Data) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(numpy.nan_to_num(train[0]), train[1])
        return _auc(model.predict_proba(numpy.nan_to_num(test[0])), test)

    def boosting(train: Data, test: Data) -> float:
        model = HistGradientBoostingClassifier(random_state=0).fit(*train)
        return _auc(model.predict_proba(test[0]), test)

    def xgboost(train: Data, test: Data) -> float:
        from xgboost import XGBClassifier

        model = XGBClassifier(n_jobs=1, tree_method="hist").fit(*train)
        return _auc(model.predict_proba(test[0]), test)

    found = {"scikit-learn logistic regression": logistic, "scikit-learn boosting": boosting}
    return found | ({"xgboost": xgboost} if importlib.util.find_spec("xgboost") else {})


def _auc(probabilities: numpy.ndarray, test: Data) -> float:
    return float(roc_auc_score(test[1], probabilities[:, 1]))


def cells(tables: Sequence[str], models: Sequence[str], epsilons: Sequence[str]) -> Iterator[tuple]:
    """Yield row, table, and function of a seed, for everything that is to be measured."""
    for table in tables:
        for name, fit in oracles().items():
            yield f"{name}, pooled", table, lambda seed, t=table, f=fit: f(*pooled(t, seed))
        for epsilon in epsilons:
            for model in models:
                for encoding in ENCODINGS:
                    words = overrides(table, model, encoding, epsilon)
                    if words is None:
                        continue
                    row = f"{model}, {encoding}, epsilon {epsilon}"
                    if model == "trees":
                        row = "trees"
                    yield row, table, lambda seed, w=tuple(words): federated(w, seed)


def markdown(results: Results, tables: Sequence[str]) -> str:
    """Write the mean of each cell, a row of a kind."""
    lines = ["| | " + " | ".join(tables) + " |", "|---|" + "---|" * len(tables)]
    for row, by_table in results.items():
        values = [by_table.get(table, []) for table in tables]
        shown = (f"{statistics.mean(one):.3f}" if one else "" for one in values)
        lines.append(f"| {row} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def measure(arguments: argparse.Namespace) -> Results:
    """Measure every cell that is not among the results that were kept."""
    kept: Path | None = arguments.kept
    results: Results = json.loads(kept.read_text()) if kept and kept.exists() else {}
    for row, table, figure in cells(arguments.tables, arguments.models, arguments.epsilons):
        done = results.setdefault(row, {}).setdefault(table, [])
        for seed in range(len(done), arguments.seeds):
            done.append(figure(seed))
            spent = f"{time.process_time():.0f} s of CPU"
            print(f"{table}: {row}, seed {seed}: {done[-1]:.3f} ({spent})", file=sys.stderr)
            if kept:
                kept.write_text(json.dumps(results))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, values in {"tables": TABLES, "models": MODELS, "epsilons": EPSILONS}.items():
        parser.add_argument(
            f"--{name}", nargs="+", choices=list(values), default=list(values), metavar="NAME"
        )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kept", type=Path, help="JSON file of results, which are not run again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.kept = arguments.kept and arguments.kept.resolve()
    with tempfile.TemporaryDirectory() as folder:
        lab_values.write(Path(folder))
        os.chdir(folder)
        with own_configs([]):
            results = measure(arguments)
    print(markdown(results, arguments.tables))


if __name__ == "__main__":
    main()
