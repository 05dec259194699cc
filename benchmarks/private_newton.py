"""Compare client=private_newton with client=private_table, by AUC and log loss.

    python benchmarks/private_newton.py heart lab   # the table in docs/privacy.md

Each seed splits the records anew and draws other noise; edges are released (epsilon 0.3) and
charged. Names are heart, lab (invented, benchmarks/lab_values.py) or any experiment of a table.
"""

import argparse
import io
import os
import statistics
import tempfile
from pathlib import Path

import yaml
from lab_values import lab_values, schema
from rich.console import Console

from confide.config.composing.compose import compose
from confide.config.composing.folders import searching
from confide.server.progress.lines import LineProgress
from confide.simulations.run import simulate

LAB = (
    "task=lab",
    "data.path=lab.csv",
    "data.public=true",
    "data.partitioner=natural",
    "data.partition_by=hospital",
    "backbone=logistic",
    "tuning=full",
)
JOBS = {"heart": ("experiment=heart_disease",), "lab": LAB}
RECIPES = ("private_table", "private_newton")
BUDGETS = ("1", "3", "8")


def scores(job: tuple[str, ...], recipe: str, budget: str, seed: int) -> tuple[float, float]:
    """Run one federation; return AUC and log loss on the pooled test records."""
    config = compose(
        [
            *job,
            f"client={recipe}",
            "privacy=record",
            f"privacy.epsilon={budget}",
            "task.numeric.encoding=piecewise",
            "task.numeric.edges=released",
            f"simulation.seed={seed}",
            "simulation.baselines=[]",
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        progress = LineProgress(Console(file=io.StringIO()), metric="auc")
        found = simulate(config, Path(folder) / "run", progress=progress)["federated"]
    return found["auc"], found["log_loss"]


def compare(folder: Path, tables: list[str], seeds: int) -> None:
    """Run every table, budget and recipe, and print a row each; ``folder`` has own configs."""
    with searching([f"{folder}/conf"]):
        os.chdir(folder)
        lab_values().to_csv("lab.csv", index=False)
        Path("conf/task/lab.yaml").write_text(yaml.safe_dump(schema(), sort_keys=False))
        print("| table | epsilon |", " | ".join(RECIPES), "|", flush=True)
        for name in tables:
            job = JOBS.get(name, (f"experiment={name}",))
            for budget in BUDGETS:
                cells = []
                for recipe in RECIPES:
                    found = [scores(job, recipe, budget, s) for s in range(seeds)]
                    auc, loss = map(statistics.mean, zip(*found, strict=True))
                    cells.append(f"{auc:.3f} ({loss:.3f})")
                print(f"| {name} | {budget} |", " | ".join(cells), "|", flush=True)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=list(JOBS))
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "conf", "task").mkdir(parents=True)
        compare(Path(folder), arguments.tables, arguments.seeds)


if __name__ == "__main__":
    main()
