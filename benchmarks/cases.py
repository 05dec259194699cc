"""Workloads of the engines' benchmarks: an MLP and a CNN on random records."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from datasets import Dataset
from torch import Tensor, nn

from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.models.perceptrons import MlpConfig
from confide.config.run import Config
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.networks import Mlp
from confide.models.workload import Workload
from confide.tasks.tabular import FEATURES, Tabular
from confide.tasks.task import LABELS, Examples


class Cnn(nn.Module):
    """Two convolutions and two dense layers for 32 x 32 colour images: 1.6 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.dense = nn.Sequential(nn.Linear(64 * 8 * 8, 384), nn.ReLU(), nn.Linear(384, 10))

    def forward(self, features: Tensor) -> Tensor:
        """Map images [b, 3, 32, 32] to logits [b, 10]."""
        logits: Tensor = self.dense(self.convolutions(features).flatten(1))
        return logits


@dataclass(frozen=True)
class Case:
    """One workload.

    Attributes:
        name: mlp or cnn.
        num_clients: number of clients.
        num_examples: number of records of each client.
        batch_size: number of records per step.
    """

    name: str
    num_clients: int
    num_examples: int
    batch_size: int

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return 10 if self.name == "cnn" else 2

    def config(self, rounds: int) -> Config:
        """Return the config of one run; its task and backbone only fill the plan."""
        config = Config(task=self._task(), backbone=MlpConfig(), tuning=TuningConfig(kind="full"))
        config.client.batch_size = self.batch_size
        config.server.num_rounds = rounds
        return config

    def data(self) -> Mapping[str, InstitutionData]:
        """Draw the clients' records at random."""
        generator = torch.Generator().manual_seed(0)
        shape = (3, 32, 32) if self.name == "cnn" else (20,)

        def examples() -> Examples:
            labels = torch.randint(0, self.num_classes, (self.num_examples,), generator=generator)
            return Examples(
                {
                    FEATURES: torch.randn((self.num_examples, *shape), generator=generator),
                    LABELS: labels,
                }
            )

        empty = Examples({FEATURES: torch.empty((0, 1)), LABELS: torch.empty(0, dtype=torch.int64)})
        return {
            f"client-{i:04}": InstitutionData(train=examples(), validation=empty, test=empty)
            for i in range(self.num_clients)
        }

    def _task(self) -> TabularConfig:
        columns = {f"x{i}": ColumnConfig(minimum=0, maximum=1) for i in range(20)}
        labels = [str(i) for i in range(self.num_classes)]
        # One input a column: what is invented fits the model.
        return TabularConfig(
            labels=labels, columns=columns, numeric=NumericConfig(encoding="linear")
        )


def make_trainer(case: Case, worker: int = 0) -> Trainer:
    """Build the model and its trainer."""
    torch.manual_seed(0)
    task, model = Tabular(case._task()), Cnn() if case.name == "cnn" else Mlp([20, 32, 2])
    return Trainer(Workload(task, model, _no_records, task.synthetic, Compute()), private=False)


def _no_records(records: Dataset) -> Examples:
    raise NotImplementedError("This benchmark makes its own examples.")


MLP = Case("mlp", num_clients=200, num_examples=32, batch_size=8)
CNN = Case("cnn", num_clients=20, num_examples=50, batch_size=10)
