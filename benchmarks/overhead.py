"""A client-round of the inline engine over a bare PyTorch loop that does the same work, both warmed up, in one process.

    python benchmarks/overhead.py

The bare loop loads the global tensors, trains each client with torch's own SGD and averages the updates in float64; the
engine does that through a ServerApp, Flower messages, plan checks and an order-independent sum. The two run in turn, round
by round, and the ratio of medians is printed: at most 1.10 for the CNN and 1.5 for the MLP on the two cores this was made on.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn import functional

from confide.client.data import InstitutionData
from confide.client.trainer import Trainer
from confide.config import ColumnConfig, Config, MlpConfig, TabularConfig, TuningConfig
from confide.exchange import Evaluation
from confide.models import Mlp, trainable_tensors
from confide.plan import make_plan
from confide.server.rounds import Observer
from confide.server.state import RunState
from confide.simulations.federation import make_federation
from confide.strategies.fedavg import fedavg
from confide.tasks.tabular import FEATURES, Tabular
from confide.tasks.task import LABELS, Examples
from confide.workload import Compute, Workload

_WARM_UP = 3


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
    """One workload to compare on."""

    name: str
    model: nn.Module
    clients: Sequence[Examples]
    batch_size: int


def make_cases() -> list[Case]:
    generator = torch.Generator().manual_seed(0)

    def examples(shape: tuple[int, ...], classes: int) -> Examples:
        labels = torch.randint(0, classes, shape[:1], generator=generator)
        return Examples({FEATURES: torch.randn(shape, generator=generator), LABELS: labels})

    torch.manual_seed(0)
    return [
        Case("mlp", Mlp([20, 32, 2]), [examples((32, 20), 2) for _ in range(200)], 8),
        Case("cnn", Cnn(), [examples((50, 3, 32, 32), 10) for _ in range(20)], 10),
    ]


def run_engine(case: Case, *, rounds: int, observer: Observer) -> None:
    """Run rounds through the engine."""
    labels = [str(i) for i in range(10 if case.name == "cnn" else 2)]
    columns = {f"x{i}": ColumnConfig(minimum=0, maximum=1) for i in range(20)}
    config = Config(task=TabularConfig(labels=labels, columns=columns), backbone=MlpConfig(), tuning=TuningConfig(kind="full"))
    config.client.batch_size = case.batch_size
    config.server.num_rounds = rounds
    plan = make_plan(config, backbone_sha256=None)
    task = Tabular(TabularConfig(labels=labels, columns=columns))
    trainer = Trainer(Workload(task, case.model, _no_records, task.synthetic, Compute()), private=False)
    empty = Examples({FEATURES: torch.empty((0, 1)), LABELS: torch.empty(0, dtype=torch.int64)})
    data = {f"client-{i}": InstitutionData(train=e, validation=empty, test=empty) for i, e in enumerate(case.clients)}
    federation = make_federation(data, trainer=trainer, initial=trainable_tensors(case.model), secret=bytes(32), plan=plan)
    federation.run(fedavg(), plan=plan, settings=config.server, observers=[observer])


def _no_records(records: Dataset) -> Examples:
    raise NotImplementedError("This benchmark makes its own examples.")


def bare_round(case: Case) -> Callable[[], None]:
    """Return a function that does the same without an engine."""
    model = case.model
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params, lr=0.1)
    state = [p.detach().clone() for p in params]
    generator = torch.Generator().manual_seed(0)

    def run() -> None:
        nonlocal state
        total = [torch.zeros_like(p, dtype=torch.float64) for p in state]
        weight = 0
        model.train()
        for client in case.clients:
            features, labels = client.columns[FEATURES], client.labels
            with torch.no_grad():
                for p, value in zip(params, state, strict=True):
                    p.copy_(value)
            for indices in torch.randperm(len(client), generator=generator).split(case.batch_size):
                loss = functional.cross_entropy(model(features[indices]), labels[indices])
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            for accumulated, p, value in zip(total, params, state, strict=True):
                accumulated.add_((p.detach() - value).double(), alpha=len(client))
            weight += len(client)
        state = [value + (accumulated / weight).float() for value, accumulated in zip(state, total, strict=True)]

    return run


class InTurn:
    """After each round of the engine, one of the bare loop."""

    def __init__(self, case: Case) -> None:
        self._bare = bare_round(case)
        self.engine_s: list[float] = []
        self.bare_s: list[float] = []

    def started(self, clients: Mapping[str, int]) -> None:
        """Begin without the garbage of set-up."""
        gc.collect()
        gc.freeze()

    def round_done(self, state: RunState) -> None:
        """Note the engine's time and take the bare loop's."""
        self.engine_s.append(state.history[-1].seconds)
        started = time.perf_counter()
        self._bare()
        self.bare_s.append(time.perf_counter() - started)

    def evaluated(self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Nothing is evaluated here."""


def compare(case: Case, *, rounds: int) -> float:
    """Return the ratio of median times of a client-round."""
    in_turn = InTurn(case)
    run_engine(case, rounds=rounds + _WARM_UP, observer=in_turn)
    engine, bare = (1e3 * statistics.median(s[_WARM_UP:]) / len(case.clients) for s in (in_turn.engine_s, in_turn.bare_s))
    print(f"{case.name}: engine {engine:.3f} ms, bare {bare:.3f} ms a client-round, ratio {engine / bare:.3f}")
    return engine / bare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for case in make_cases():
        compare(case, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
