"""Measure what released quantiles cost in AUC: python benchmarks/quantiles.py.

Each table is trained on twice, by the same recipe on the same split: with edges at the exact
quantiles of the training records, as if anybody might know them, and with edges read off what each
institution released with noise at epsilon 0.3. Without privacy but for the edges, and at epsilon 3,
of which the released edges take their part. Noise is local: each institution adds all of its own.
"""

import argparse
import io
import json
import statistics
import tempfile
from pathlib import Path

import lab_values
import yaml
from rich.console import Console

from confide.config.composing.compose import compose
from confide.config.composing.folders import searching
from confide.server.progress.lines import LineProgress
from confide.simulations.run import simulate

EDGES_EPSILON, EPSILON = 0.3, 3
LAB = ("task=lab", "backbone=logistic", "tuning=full", "data.partition_by=hospital")
TABLES = {
    "heart": ("experiment=heart_disease",),
    "credit": ("experiment=credit",),
    "lending": ("experiment=lending",),
    "lab values": (*LAB, "data.partitioner=natural", "data.public=true"),
}
RECIPE = (
    "client=private_table",
    "simulation.baselines=[]",
    "task.numeric.encoding=piecewise",
    "task.numeric.bins=16",
)
"""50 sums whose steps need no rate, with noise or without."""


def run(words: tuple[str, ...], folder: Path) -> float:
    """Run one federation, and return its AUC on the pooled test records."""
    progress = LineProgress(Console(file=io.StringIO()), metric="auc")
    summary = simulate(compose([*words, *RECIPE]), folder, progress=progress)
    return float(summary["federated"]["auc"])


def edges(words: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """Return the settings of a task with the edges that a run of one round is given."""
    asks = ("task.numeric.edges=released", f"privacy.edges_epsilon={EDGES_EPSILON}")
    run((*words, *asks, "server.num_rounds=1"), folder)
    found = json.loads((folder / "edges.json").read_text())["columns"]
    return tuple(f"task.columns.{name}.edges={list(own)}" for name, own in found.items())


def measured(words: tuple[str, ...], seed: int, folder: Path) -> dict[str, float]:
    """Return the AUC of each way to have edges, without privacy and at epsilon 3."""
    seeded = (*words, f"simulation.seed={seed}")
    private = ("privacy=record", f"privacy.epsilon={EPSILON}")
    exact = edges((*seeded, "privacy=none", "policy.min_cell=1"), folder / "exact")
    released = edges((*seeded, *private), folder / "released")
    charged = ("task.numeric.edges=released", f"privacy.edges_epsilon={EDGES_EPSILON}")
    return {
        "exact": run((*seeded, *exact, "privacy=none"), folder / "a"),
        "released": run((*seeded, *released, "privacy=none"), folder / "b"),
        "exact, private": run((*seeded, *exact, *private), folder / "c"),
        "released, private": run((*seeded, *charged, *private), folder / "d"),
    }


def main() -> None:
    """Measure all tables, and print a table of means and losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=list(TABLES))
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    print("| table | exact edges | released | loss | exact, epsilon 3 | released, charged | loss |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab_values.lab_values().to_csv(folder / "lab.csv", index=False)
        schema = folder / "conf" / "task" / "lab.yaml"
        schema.parent.mkdir(parents=True)
        schema.write_text(yaml.safe_dump(lab_values.schema(), sort_keys=False))
        with searching([str(folder / "conf")]):
            for table in arguments.tables:
                words = TABLES[table]
                if table == "lab values":
                    words = (*words, f"data.path={folder / 'lab.csv'}")
                found = [
                    measured(words, seed, folder / table / str(seed))
                    for seed in range(arguments.seeds)
                ]
                print(row(table, found), flush=True)


def row(table: str, found: list[dict[str, float]]) -> str:
    """Return a table's line: means over seeds, and the mean loss by released edges."""
    cells = [table]
    for exact, released in (("exact", "released"), ("exact, private", "released, private")):
        one, other = ([it[name] for it in found] for name in (exact, released))
        losses = [a - b for a, b in zip(one, other, strict=True)]
        cells += [f"{statistics.mean(one):.3f}", f"{statistics.mean(other):.3f}"]
        cells += [f"{statistics.mean(losses):+.4f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
