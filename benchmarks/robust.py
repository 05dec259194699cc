"""Rules x attacks: python benchmarks/robust.py [FOLDER] writes robust.csv and robust.svg.

Two of ten institutions are hostile. Records are scikit-learn's 1,797 digits as a table of 64
columns, dealt out by Dirichlet shares of the classes; an MLP of one layer, without privacy. The
figure is the accuracy on all test records, mean of the seeds.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import numpy
import pandas
import yaml
from matplotlib import pyplot
from sklearn.datasets import load_digits

from confide.errors import RunFailedError
from confide.simulations.api import simulate

ALPHAS, SEEDS, HOSTILE = (1.0, 0.1), (0, 1, 2), 2
_F = f"strategy.aggregator.num_hostile={HOSTILE}"
_MIXED = "strategy/mixing=nearest_neighbours"
RULES = {
    "FedAvg": ["strategy=fedavg"],
    "norm bound": ["strategy=norm_bounded", _F],
    "centred clipping": ["strategy=centered_clipping", _F],
    "geometric median": ["strategy=geometric_median", _F],
    "median": ["strategy=median", _F],
    "trimmed mean": ["strategy=trimmed_mean", _F],
    "Krum": ["strategy=krum", _F],
    "Multi-Krum": ["strategy=multi_krum", _F],
    "NNM, geometric median": ["strategy=geometric_median", _F, _MIXED],
    "NNM, median": ["strategy=median", _F, _MIXED],
    "NNM, trimmed mean": ["strategy=trimmed_mean", _F, _MIXED],
    "NNM, Krum": ["strategy=krum", _F, _MIXED],
    "NNM, Multi-Krum": ["strategy=multi_krum", _F, _MIXED],
}
ATTACKS = (
    "none",
    "label_flip",
    "sign_flip",
    "gaussian",
    "alie",
    "inner_product",
    "min_max",
    "backdoor",
)
_RUN = (
    "task=own",
    "backbone=mlp",
    "backbone.hidden=[32]",
    "tuning=full",
    "privacy=none",
    "data.partitioner=dirichlet",
    "data.num_clients=10",
    "data.min_per_label=0",
    "client.local_steps=20",
    "client.optimizer.learning_rate=0.1",
    "server.num_rounds=40",
    "simulation.baselines=[]",
    f"simulation.attack.num_clients={HOSTILE}",
)


@dataclass(frozen=True)
class Result:
    """One figure.

    Attributes:
        alpha: of the Dirichlet shares.
        rule: key of RULES.
        attack: key of ATTACKS.
        accuracy: mean over the seeds; nan where a run failed.
        success: of a backdoor's trigger, mean over the seeds; nan for other attacks.
    """

    alpha: float
    rule: str
    attack: str
    accuracy: float
    success: float


def write_records(folder: Path) -> None:
    """Write ``digits.csv`` and ``conf/task/own.yaml``."""
    digits = load_digits()
    names = [f"pixel_{number:02}" for number in range(digits.data.shape[1])]
    table = pandas.DataFrame(digits.data, columns=names)
    table.assign(digit=digits.target).to_csv(folder / "digits.csv", index=False)
    task = {
        "defaults": ["tabular_schema", "_self_"],
        "labels": [str(number) for number in range(10)],
        "label_column": "digit",
        "primary_metric": "accuracy",
        "columns": {name: {"minimum": 0, "maximum": 16} for name in names},
    }
    path = folder / "conf" / "task" / "own.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(task, sort_keys=False))


def results(folder: Path) -> Iterator[Result]:
    """Run every combination."""
    for alpha in ALPHAS:
        for rule, words in RULES.items():
            for attack in ATTACKS:
                found = [_run(folder, alpha, words, attack, seed) for seed in SEEDS]
                accuracy, success = numpy.mean(found, axis=0)
                yield Result(alpha, rule, attack, float(accuracy), float(success))


def _run(
    folder: Path, alpha: float, words: list[str], attack: str, seed: int
) -> tuple[float, float]:
    overrides = [
        *_RUN,
        *words,
        f"data.path={folder / 'digits.csv'}",
        f"data.alpha={alpha}",
        f"data.partition_seed={seed}",
        f"simulation.seed={seed}",
        f"simulation.attack.kind={attack}",
    ]
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)  # a failed run's stays
    try:
        result = simulate(overrides, config_dir=folder / "conf", run_dir=run)
    except RunFailedError:  # the model diverged until nobody could train it
        return numpy.nan, numpy.nan
    summary = result.summary
    success = summary.get("attack", {}).get("success", numpy.nan)
    return summary["federated"]["accuracy"], success


def draw(table: pandas.DataFrame, path: Path) -> None:
    """Draw a heat map for each alpha."""
    figure, axes = pyplot.subplots(1, len(ALPHAS), figsize=(13, 6), sharey=True)
    for axis, alpha in zip(axes, ALPHAS, strict=True):
        part = table[table.alpha == alpha].pivot(index="rule", columns="attack", values="accuracy")
        part = part.reindex(index=list(RULES), columns=list(ATTACKS))
        axis.imshow(part, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(ATTACKS)), ATTACKS, rotation=45, ha="right")
        axis.set_yticks(range(len(RULES)), list(RULES))
        axis.set_title(f"accuracy, Dirichlet {alpha:g}, {HOSTILE} of 10 hostile")
        for (row, column), value in numpy.ndenumerate(part.to_numpy()):
            colour = "white" if value < 0.6 else "black"  # a failed run's cell is white
            text = "failed" if numpy.isnan(value) else f"{value:.2f}"
            axis.text(column, row, text, ha="center", va="center", color=colour, size=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run, print a line for each combination, and draw."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    target.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_records(folder)
        for one in results(folder):
            rows.append(vars(one))
            print(
                f"{one.alpha:g}\t{one.rule}\t{one.attack}\t{one.accuracy:.3f}\t{one.success:.2f}",
                flush=True,
            )
    table = pandas.DataFrame(rows)
    table.to_csv(target / "robust.csv", index=False)
    draw(table, target / "robust.svg")


if __name__ == "__main__":
    main()
