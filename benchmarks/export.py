"""Measures predictions and exports of real runs: equality, sizes, milliseconds per record.

    python benchmarks/export.py

Tweets are learnt by the head, by LoRA and in full on the first two layers of MiniLM, patients by
logistic regression, all without privacy and in few rounds. Each model is exported to each form and
held against the run's own on 1,000 tweets or all 920 patients: largest difference of a probability,
accuracy, size, and median milliseconds from record to logits (tokenising included, batches of 32),
both in one process and in turn. `predict` is held against the scores that training computes.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from rich.console import Console

from confide.client.records.sources.sources import load_records
from confide.client.training.trainer import Trainer
from confide.config.composing.compose import compose
from confide.config.models.table import BACKBONES
from confide.config.run import Config
from confide.inference.export import export
from confide.inference.prediction import predict
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import load_model
from confide.server.progress.lines import LineProgress
from confide.simulations.run import simulate
from confide.tasks.outcomes.classes import PROBABILITY

_TWEETS = (
    "experiment=tweets",
    "privacy=none",
    "simulation.baselines=[]",
    "data.max_records=2000",
    "backbone.num_hidden_layers=2",
    "server.num_rounds=3",
)
RUNS = {
    "heart, logistic": ("experiment=heart_disease", "simulation.baselines=[]"),
    "tweets, head": (*_TWEETS, "tuning=head", "client.optimizer.learning_rate=0.5"),
    "tweets, lora": (*_TWEETS, "tuning=lora", "client.optimizer.learning_rate=0.5"),
    "tweets, full": (*_TWEETS, "tuning=full", "client.optimizer.learning_rate=0.1"),
}
_MOST = 1000


def train(config: Config, folder: Path) -> None:
    simulate(config, folder, progress=LineProgress(Console(file=io.StringIO()), metric="accuracy"))


def labelled(config: Config) -> Dataset:
    """Return records of the run's source, as text."""
    columns = [*config.task.content_columns, config.task.label_column]
    records = load_records(config.data.path, columns, in_memory_mb=1024).records
    return records.shuffle(seed=1).select(range(min(_MOST, len(records))))


def predict_difference(run: Path, records: Dataset) -> tuple[float, float]:
    """Return the largest difference of ``predict`` to training's scores, and ms per record."""
    workload, _, _ = load_model(run / "model", compute=Compute())
    tensors = trainable_tensors(workload.model)
    expected = Trainer(workload, private=False).scores(tensors, workload.prepare(records))
    started = time.perf_counter()
    made = predict(run, records)
    ms = 1e3 * (time.perf_counter() - started) / len(records)
    got = torch.tensor(made[[name for name in made if name.startswith(PROBABILITY)]].to_numpy())
    return float((got - expected).abs().max()), ms


def measure(name: str, folder: Path) -> None:
    """Train, predict, export to every form, and print a line each."""
    config = compose(RUNS[name])
    train(config, folder)
    records = labelled(config)
    difference, ms = predict_difference(folder, records)
    print(
        f"{name}: predict differs from training's scores by {difference:.1e}; {ms:.2f} ms a record,"
        " loading included"
    )
    print(
        f"  {'form':<8}{'MB':>8}{'of':>8}{'ms':>8}{'of':>8}"
        f"{'difference':>12}{'accuracy':>10}{'of':>8}"
    )
    for form in BACKBONES["transformer"].forms:
        made = export(folder, form, check=records)
        own, exported = made.run, made.exported
        print(
            f"  {form:<8}{exported.size_mb:>8.2f}{own.size_mb:>8.2f}"
            f"{exported.ms_per_record:>8.3f}{own.ms_per_record:>8.3f}"
            f"{made.difference:>12.1e}{exported.metrics['accuracy']:>10.4f}{own.metrics['accuracy']:>8.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=RUNS, nargs="+", default=list(RUNS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="confide-export-") as place:
        for number, name in enumerate(arguments.only):
            measure(name, Path(place) / str(number))


if __name__ == "__main__":
    main()
