"""Algorithms against drift: python benchmarks/drift.py prints a table in Markdown.

Ten institutions hold scikit-learn's 1,797 digits by Dirichlet 0.1 shares of the classes, as a table
of 64 columns: labels are unlike, and so are sizes, and with five passes a round the numbers of
steps. An MLP of one layer, without privacy, for few rounds, before everything has converged.
Everybody's settings are what stands here; nothing was tuned for these records.
"""

import tempfile
from pathlib import Path

import numpy
from robust import write_records

from confide.simulations.api import simulate

SEEDS = (0, 1, 2)
ALGORITHMS = {
    "FedAvg": ["strategy=fedavg"],
    "FedAvg, rate falls by a cosine": ["client.optimizer.schedule.kind=cosine"],
    "FedProx, mu 0.1": ["strategy=fedprox", "strategy.objective.proximal_mu=0.1"],
    "FedNova": ["strategy=fednova"],
    "MOON, mu 1": ["strategy=moon"],
    "FedExP": ["strategy=fedexp"],
    "q-FedAvg, q 0.1": ["strategy=qfedavg", "strategy.objective.q=0.1"],
    "q-FedAvg, q 1": ["strategy=qfedavg"],
    "SCAFFOLD": ["strategy=scaffold"],
}
_RUN = (
    "task=own",
    "backbone=mlp",
    "backbone.hidden=[32]",
    "tuning=full",
    "privacy=none",
    "tracking=none",
    "data.partitioner=dirichlet",
    "data.alpha=0.1",
    "data.num_clients=10",
    "data.min_per_label=0",
    "client.local_steps=null",
    "client.sampling_rate=null",
    "client.local_epochs=5",
    "client.batch_size=16",
    "client.optimizer.kind=sgd",
    "client.optimizer.learning_rate=0.1",
    "server.num_rounds=15",
    "simulation.baselines=[]",
)


def accuracies(folder: Path, words: list[str], seed: int) -> tuple[float, float]:
    """Return the accuracy on all test records, and that of the institution that is served worst."""
    overrides = [
        *_RUN,
        *words,
        f"data.path={folder / 'digits.csv'}",
        f"data.partition_seed={seed}",
        f"simulation.seed={seed}",
    ]
    with tempfile.TemporaryDirectory() as run:
        result = simulate(overrides, config_dir=folder / "conf", run_dir=Path(run) / "run")
    own = [line["accuracy"] for line in result.summary["clients"].values() if "accuracy" in line]
    return result.summary["federated"]["accuracy"], min(own)


def main() -> None:
    """Run, and print a row for each algorithm."""
    print("| algorithm | accuracy, all | worst institution |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_records(folder)
        for algorithm, words in ALGORITHMS.items():
            found = numpy.array([accuracies(folder, words, seed) for seed in SEEDS])
            mean, deviation = found.mean(axis=0), found.std(axis=0, ddof=1)
            cells = [f"{m:.3f} ± {d:.3f}" for m, d in zip(mean, deviation, strict=True)]
            print(f"| {algorithm} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
