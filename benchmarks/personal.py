"""Personal models against others: python benchmarks/personal.py [FOLDER] writes personal.csv.

The others are the global model and models that institutions train alone. The figure is the mean
over institutions of the accuracy on each one's own test records; five seeds choose splits, parts
and batches. Hospitals: the heart-disease experiment, with its logistic regression, and with a
perceptron of one layer, whose head FedPer and FedRep keep. Tweets: 600 of them at five banks with
Dirichlet 0.1 shares of the classes, a head on MiniLM's features, without privacy. All settings but
the strategy are the same in a setting, and the personal methods' own are their defaults.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas

from confide.simulations.api import simulate

SEEDS = (0, 1, 2, 3, 4)
_HEART = ("experiment=heart_disease",)
_BESIDE = {
    "FedAvg": ["strategy=fedavg"],
    "fine-tuning": ["strategy=fine_tuning"],
    "Ditto": ["strategy=ditto"],
    "APFL": ["strategy=apfl"],
    "IFCA": ["strategy=ifca"],
}
_WITHIN = {"FedPer": ["strategy=fedper"], "FedRep": ["strategy=fedrep"]}
SETTINGS: Mapping[str, tuple[Sequence[str], Mapping[str, Sequence[str]]]] = {
    "hospitals, logistic": (_HEART, _BESIDE),
    "hospitals, perceptron": ((*_HEART, "backbone=mlp"), {**_BESIDE, **_WITHIN}),
    "tweets": (
        (
            "experiment=tweets",
            "privacy=none",
            "client=default",
            "data.num_clients=5",
            "data.partitioner_args={min_partition_size: 20}",
            "data.alpha=0.1",
            "data.min_per_label=0",
            "data.max_records=600",
            "data.test=0.25",
        ),
        _BESIDE,
    ),
}


def results(folder: Path) -> Iterator[dict[str, Any]]:
    """Run every combination."""
    for setting, (words, strategies) in SETTINGS.items():
        for seed in SEEDS:
            for strategy, chosen in strategies.items():
                seeds = [f"simulation.seed={seed}", f"data.partition_seed={seed}"]
                seeds += ["simulation.baselines=[local]", "tracking=none"]
                run = folder / "run"
                shutil.rmtree(run, ignore_errors=True)
                summary = simulate([*words, *chosen, *seeds], run_dir=run).summary
                for model, accuracy in own_means(summary).items():
                    yield {
                        "setting": setting,
                        "strategy": strategy,
                        "seed": seed,
                        "model": model,
                        "accuracy": accuracy,
                    }


def own_means(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return sort of model -> mean over institutions of the accuracy on own test records."""
    if "personal" in summary:
        found: dict[str, float] = summary["personal"]["mean"]
        return found
    local = summary["baselines"]["local"]
    parts = {
        "global": {name: line.get("accuracy") for name, line in summary["clients"].items()},
        "local": {name: line["own_test"].get("accuracy") for name, line in local.items()},
    }
    frame = pandas.DataFrame(parts).dropna()
    return {model: float(frame[model].mean()) for model in frame}


def main() -> None:
    """Run everything and write what came of it."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        rows = []
        for row in results(Path(temporary)):
            rows.append(row)
            # Each time anew: whoever breaks it off has what came before
            pandas.DataFrame(rows).to_csv(folder / "personal.csv", index=False)
    table = pandas.DataFrame(rows)
    spread = table.groupby(["setting", "strategy", "model"], sort=False)["accuracy"]
    print(spread.agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main()
