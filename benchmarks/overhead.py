"""Compares a client's round in the inline engine with a bare PyTorch loop for the same work.

    python benchmarks/overhead.py

Both are warmed up, in one process. The bare loop loads the global tensors, trains each client with
torch's own SGD and averages the updates in float64; the engine does that through a ServerApp,
Flower messages, plan checks and an order-independent sum. The two run in turn, round by round.
What is measured is the processor time of their thread, which other work on the machine disturbs
least. The ratio of medians is printed.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from cases import CNN, MLP, Case, make_trainer
from torch.nn import functional

from confide.config.composing.compose import compose
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Evaluation
from confide.protocol.new_plan import make_plan
from confide.server.rounds.outcome import Observer
from confide.server.rounds.state import RunState
from confide.simulations.engines.inline import InlineEngine
from confide.simulations.federation import Federation
from confide.simulations.institutions import Setup
from confide.strategies.algorithms.fedavg import fedavg
from confide.tasks.tabular import FEATURES

_WARM_UP = 3


def run_engine(case: Case, *, rounds: int, observer: Observer) -> None:
    """Run rounds through the inline engine."""
    config = case.config(rounds)
    plan = make_plan(config, backbone_sha256=None)
    trainer, data = make_trainer(case), case.data()
    federation = Federation(
        data=data,
        trainer=trainer,
        initial=trainable_tensors(trainer.workload.model),
        secret=bytes(32),
        engine=InlineEngine(
            data,
            trainer=trainer,
            setup=Setup(serves=plan, policy=compose().policy, noise_secret=bytes(32)),
        ),
    )
    job = federation.job(fedavg(), plan, config.server)
    federation.run(replace(job, observers=[observer]))


def bare_round(case: Case) -> Callable[[], None]:
    """Return a function that does the same without an engine."""
    model = make_trainer(case).workload.model
    clients = [data.train for data in case.data().values()]
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params, lr=0.1)
    state = [p.detach().clone() for p in params]
    generator = torch.Generator().manual_seed(0)

    def run() -> None:
        nonlocal state
        total = [torch.zeros_like(p, dtype=torch.float64) for p in state]
        weight = 0
        model.train()
        for client in clients:
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
        state = [
            value + (accumulated / weight).float()
            for value, accumulated in zip(state, total, strict=True)
        ]

    return run


class InTurn:
    """Runs one round of the bare loop after each of the engine."""

    def __init__(self, case: Case) -> None:
        self._bare = bare_round(case)
        self._since = 0.0
        self.engine_s: list[float] = []
        self.bare_s: list[float] = []

    def started(self, clients: Mapping[str, int]) -> None:
        """Collect the garbage of the set-up before anything is measured."""
        gc.collect()
        gc.freeze()
        self._since = time.thread_time()

    def resumed(self, state: RunState) -> None:
        """Nothing is resumed here."""

    def round_done(self, state: RunState) -> None:
        """Record the engine's time and measure the bare loop's."""
        started = time.thread_time()
        self.engine_s.append(started - self._since)
        self._bare()
        self._since = time.thread_time()
        self.bare_s.append(self._since - started)

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Nothing is evaluated here."""


def compare(case: Case, *, rounds: int) -> float:
    """Return the ratio of median times of a client-round."""
    in_turn = InTurn(case)
    run_engine(case, rounds=rounds + _WARM_UP, observer=in_turn)
    engine, bare = (
        1e3 * statistics.median(s[_WARM_UP:]) / case.num_clients
        for s in (in_turn.engine_s, in_turn.bare_s)
    )
    print(
        f"{case.name}: engine {engine:.3f} ms, bare {bare:.3f} ms a client-round, ratio"
        f" {engine / bare:.3f}"
    )
    return engine / bare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for case in (MLP, CNN):
        compare(case, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
