"""Rules x attacks: python benchmarks/robust.py FOLDER keeps each run there, and draws.

Two of ten institutions are hostile. Records are scikit-learn's 1,797 digits as a table of 64
columns, dealt out by Dirichlet shares of the classes; an MLP of one layer, without privacy. The
figure is the accuracy on all test records, mean of the seeds. Runs that are in FOLDER are not run
again; ``--draw`` runs none. FOLDER/robust.svg is the picture, and the table goes to the terminal.
"""

import argparse
import copy
import functools
import io
import logging
import shutil
import statistics
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import numpy
import pandas
import torch
import yaml
from kept import Figures, kept_figures, measured
from matplotlib import pyplot
from rich.console import Console
from sklearn.datasets import load_digits

from confide.config.composing.compose import compose
from confide.config.composing.folders import own_configs
from confide.config.run import Config
from confide.errors import RunFailedError
from confide.server.progress.lines import LineProgress
from confide.server.run.run import Run
from confide.server.run_folder import claimed
from confide.simulations import preparing
from confide.simulations import run as runs

ALPHAS, SEEDS, HOSTILE = (1.0, 0.1), (0, 1, 2), 2
_F = f"strategy.aggregator.num_hostile={HOSTILE}"
_MIXED = "strategy/mixing=nearest_neighbours"
PLAIN = "FedAvg"
RULES = {
    PLAIN: ["strategy=fedavg"],
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
NO_ATTACK = "none"
ATTACKS = (
    NO_ATTACK,
    "label_flip",
    "sign_flip",
    "gaussian",
    "alie",
    "inner_product",
    "min_max",
    "backdoor",
)
SETTINGS = (
    "task=own",
    "backbone=mlp",
    "backbone.hidden=[32]",
    "tuning=full",
    "privacy=none",
    "data.partitioner=dirichlet",
    "data.num_clients=10",
    "data.min_per_label=0",
    "data.validation=0",
    "client.local_steps=20",
    "client.optimizer.learning_rate=0.1",
    "server.num_rounds=20",
    "simulation.engine=vectorised",
    "simulation.baselines=[]",
    f"simulation.attack.num_clients={HOSTILE}",
    "tracking=none",
)
_BEYOND = 20.0
"""Points lost from which all cells look alike."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run.

    Attributes:
        seed: of partition and simulation.
        alpha: of the Dirichlet shares.
        rule: key of RULES.
        attack: one of ATTACKS.
    """

    seed: int
    alpha: float
    rule: str
    attack: str

    @property
    def words(self) -> list[str]:
        """Settings, the path of the records aside."""
        return [
            *SETTINGS,
            *RULES[self.rule],
            f"data.alpha={self.alpha}",
            f"data.partition_seed={self.seed}",
            f"simulation.seed={self.seed}",
            f"simulation.attack.kind={self.attack}",
        ]

    def path(self, folder: Path) -> Path:
        """Return the file that its figures are kept in."""
        rule = self.rule.lower().replace(", ", "-").replace(" ", "-")
        return folder / "runs" / f"{self.alpha:g}-{self.seed}-{rule}-{self.attack}.json"


def cells(
    seeds: Sequence[int], alphas: Sequence[float] = ALPHAS, rules: Collection[str] = RULES
) -> Iterator[Cell]:
    """Yield every run, seed by seed, so that what was stopped has whole seeds."""
    for seed in seeds:
        for alpha in alphas:
            for rule in rules:
                for attack in ATTACKS:
                    yield Cell(seed=seed, alpha=alpha, rule=rule, attack=attack)


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


@contextmanager
def records_shared() -> Iterator[None]:
    """Have runs of one seed and alpha share what they read and encode, which none changes."""
    read, held = preparing.listed_records, {}

    def shared(run: Run, *rest: Any) -> Any:
        key = (run.config.data.alpha, run.config.simulation.seed)
        if key not in held:
            held.clear()
            held[key] = read(run, *rest)
        return held[key]

    preparing.listed_records = shared
    try:
        yield
    finally:
        preparing.listed_records = read


@functools.lru_cache
def _composed(rule: str, path: Path) -> Config:
    # Once a rule: composing takes as long as a run does
    return compose([*SETTINGS, *RULES[rule], f"data.path={path}"])


def config_of(cell: Cell, path: Path) -> Config:
    """Return the config of a run, of records at a path."""
    config = copy.deepcopy(_composed(cell.rule, path))
    config.data.alpha, config.data.partition_seed = cell.alpha, cell.seed
    config.simulation.seed, config.simulation.attack.kind = cell.seed, cell.attack
    return config


def run(cell: Cell, folder: Path) -> Figures:
    """Run a federation: its accuracy, and how often a backdoor's trigger works."""
    config = config_of(cell, folder / "digits.csv")
    target = folder / "run"
    shutil.rmtree(target, ignore_errors=True)
    progress = LineProgress(Console(file=io.StringIO()), metric="accuracy")
    try:
        with claimed(target, config, resume=False):
            summary = runs.simulate_in(config, target, progress=progress)
    except RunFailedError:  # the model diverged until nobody could train it
        return {"accuracy": None, "success": None}
    return {
        "accuracy": summary["federated"]["accuracy"],
        "success": summary.get("attack", {}).get("success"),
    }


def run_all(folder: Path, asked: Sequence[Cell]) -> None:
    """Run what is not kept, and print a line for each run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder)
    with own_configs([], more=[folder / "conf"]), records_shared():
        for cell in asked:
            if kept_figures(cell.path(folder), cell.words) is not None:
                continue
            begun = time.process_time()
            figures = measured(cell.path(folder), cell.words, lambda c=cell: run(c, folder))
            spent = time.process_time() - begun
            print(f"{cell}: {dict(figures)}, {spent:.1f} s of CPU", file=sys.stderr, flush=True)
    shutil.rmtree(folder / "run", ignore_errors=True)


def means(folder: Path, seeds: Sequence[int]) -> pandas.DataFrame:
    """Return a line for each rule, attack and alpha whose seeds are all there.

    Accuracy and success in percent; a run that failed classifies nothing.
    """
    lines = []
    for cell in cells(seeds[:1]):
        alike = [Cell(**(vars(cell) | {"seed": seed})) for seed in seeds]
        found = [kept_figures(one.path(folder), one.words) for one in alike]
        if None in found:
            continue
        line = {name: getattr(cell, name) for name in ("alpha", "rule", "attack")}
        for name in ("accuracy", "success"):
            line[name] = 100 * statistics.fmean(one[name] or 0.0 for one in found if one)
        lines.append(line)
    return pandas.DataFrame(lines)


def lost(table: pandas.DataFrame, alpha: float) -> pandas.DataFrame:
    """Return the points lost against FedAvg without an attack: a row a rule, a column an attack.

    Nan where nothing was run.
    """
    part = table[table.alpha == alpha].pivot(index="rule", columns="attack", values="accuracy")
    part = part.reindex(index=list(RULES), columns=list(ATTACKS))
    return (part.loc[PLAIN, NO_ATTACK] - part).round(1)


def markdown(table: pandas.DataFrame) -> str:
    """Write what FedAvg loses under each attack and what the best rule does, and one rule for all.

    Points against FedAvg without an attack, and in the last line against each rule without one.
    """
    parts = {alpha: lost(table, alpha) for alpha in ALPHAS}
    head = [f"FedAvg, {alpha:g} | the best rule, {alpha:g}" for alpha in ALPHAS]
    lines = ["| attack | " + " | ".join(head) + " |", "|---|" + "---|---|" * len(ALPHAS)]
    for attack in ATTACKS[1:]:
        told = [_beside(part[attack]) for part in parts.values()]
        lines.append(f"| `{attack}` | " + " | ".join(told) + " |")
    worst = [_beside(_worst(part)) for part in parts.values()]
    own = [_beside(_worst(part.sub(part[NO_ATTACK], axis=0))) for part in parts.values()]
    return "\n".join(
        [
            *lines,
            "| the worst of these, one rule for all | " + " | ".join(worst) + " |",
            "| the same, each against itself without an attack | " + " | ".join(own) + " |",
        ]
    )


def _worst(part: pandas.DataFrame) -> pandas.Series:
    # Of rules that have met every attack alone
    return part.drop(columns=NO_ATTACK).max(axis=1, skipna=False)


def _beside(losses: pandas.Series) -> str:
    others = losses.drop(PLAIN).dropna()
    best = f"{others.min():.1f}: {others.idxmin()}" if len(others) else ""
    return f"{losses[PLAIN]:.1f} | {best}"


def draw(table: pandas.DataFrame, path: Path) -> None:
    """Draw a heat map for each alpha, one above the other."""
    figure, axes = pyplot.subplots(len(ALPHAS), 1, figsize=(7.2, 9.4))
    for axis, alpha in zip(axes, ALPHAS, strict=True):
        losses = lost(table, alpha)
        own = table[table.alpha == alpha].pivot(index="rule", columns="attack", values="accuracy")
        own = own.reindex(index=losses.index, columns=losses.columns)
        shown = losses.clip(0, _BEYOND)
        axis.imshow(shown, vmin=0, vmax=_BEYOND, cmap="viridis_r", aspect="auto")
        axis.set_xticks(range(len(ATTACKS)), ATTACKS, rotation=30, ha="right")
        axis.set_yticks(range(len(RULES)), list(RULES))
        axis.set_title(f"Accuracy in percent, Dirichlet {alpha:g}, {HOSTILE} of 10 hostile")
        for (row, column), value in numpy.ndenumerate(own.to_numpy()):
            colour = "white" if shown.iat[row, column] > _BEYOND / 2 else "black"
            text = "" if numpy.isnan(value) else f"{value:.1f}" if value else "failed"
            axis.text(column, row, text, ha="center", va="center", color=colour, size=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run, draw, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--alphas", type=float, nargs="+", default=list(ALPHAS))
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--draw", action="store_true", help="draw what is there, and run nothing")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # refused updates and constant pixels, run after run
    if not arguments.draw:
        asked = cells(arguments.seeds, arguments.alphas, arguments.rules)
        run_all(folder, list(asked))
    table = means(folder, arguments.seeds)
    table.to_csv(folder / "robust.csv", index=False)
    draw(table, folder / "robust.svg")
    print(markdown(table))


if __name__ == "__main__":
    main()
