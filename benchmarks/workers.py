"""Measures the process engine: two workers against one, and memory with many clients.

    python benchmarks/workers.py

Rounds of the CNN are run by a pool of one worker and by a pool of two, in turn; the ratio of median
times is printed (1.7 or more on the two cores this was made on). Then the peak memory of a
coordinator's process is compared between rounds of 10 and of 1,000 clients, of the same 1,000
institutions, each in a process of its own.
"""

import argparse
import functools
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cases import CNN, Case, make_trainer

from confide.config.composing.compose import compose
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Evaluation
from confide.protocol.new_plan import make_plan
from confide.protocol.tensors import Tensors
from confide.server.rounds.state import RunState
from confide.simulations.engines.pool_engine import PoolEngine
from confide.simulations.engines.process import process_engine
from confide.simulations.engines.shared_memory import SharedRecords
from confide.simulations.federation import Federation
from confide.simulations.institutions import Setup
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.selections.uniform import SelectUniform

_WARM_UP = 1
CROWD = replace(CNN, num_clients=1000, num_examples=2, batch_size=2)


class Seconds:
    """Records how long rounds take."""

    def __init__(self) -> None:
        self.rounds: list[float] = []

    def started(self, clients: Mapping[str, int]) -> None:
        """Nothing to note."""

    def resumed(self, state: RunState) -> None:
        """Nothing to note."""

    def round_done(self, state: RunState) -> None:
        """Record a round."""
        self.rounds.append(state.history[-1].seconds)

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Nothing is evaluated here."""


@dataclass(frozen=True)
class Parts:
    """What an engine is made of.

    Attributes:
        initial: initial trainable tensors.
        setup: what institutions have in common.
    """

    initial: Tensors
    setup: Setup


def on_processes(case: Case, parts: Parts, count: int) -> PoolEngine:
    """Return an engine over worker processes."""
    return process_engine(
        SharedRecords(case.data()),
        make_trainer=functools.partial(make_trainer, case),
        initial=parts.initial,
        setup=parts.setup,
        workers=count,
    )


class Workers:
    """A federation over a number of workers."""

    def __init__(
        self,
        case: Case,
        count: int,
        engine_fn: Callable[[Case, Parts, int], PoolEngine] = on_processes,
    ) -> None:
        self._case, trainer = case, make_trainer(case)
        self._plan = make_plan(case.config(1), backbone_sha256=None)
        initial = trainable_tensors(trainer.workload.model)
        setup = Setup(serves=self._plan, policy=compose().policy, noise_secret=bytes(32))
        self.engine = engine_fn(case, Parts(initial, setup), count)
        self._federation = Federation(
            data=self.engine.data,
            trainer=trainer,
            initial=initial,
            secret=bytes(32),
            engine=self.engine,
        )
        self._jobs = 0

    def run(self, rounds: int, *, clients_per_round: int | None = None) -> list[float]:
        """Run rounds and return their seconds, those of the warm-up left out."""
        self._jobs += 1
        seconds, algorithm = Seconds(), fedavg()
        if clients_per_round is not None:
            algorithm = fedavg(selection=SelectUniform(clients_per_round=clients_per_round))
        config = self._case.config(rounds + _WARM_UP)
        plan = replace(self._plan, job=f"benchmark-{self._jobs}", num_rounds=rounds + _WARM_UP)
        job = self._federation.job(algorithm, plan, config.server)
        self._federation.run(replace(job, observers=[seconds]))
        return seconds.rounds[_WARM_UP:]


def speed_up(*, turns: int, rounds: int) -> float:
    """Return how many times faster two workers are than one."""
    pools = {count: Workers(CNN, count) for count in (1, 2)}
    seconds: dict[int, list[float]] = {count: [] for count in pools}
    for _ in range(turns):
        for count, workers in pools.items():
            seconds[count] += workers.run(rounds)
    for workers in pools.values():
        workers.engine.close()
    one, two = (statistics.median(seconds[count]) for count in (1, 2))
    print(
        f"cnn, {CNN.num_clients} clients: {one:.2f} s a round with 1 worker, {two:.2f} s with 2,"
        f" {one / two:.2f} times faster"
    )
    return one / two


def memory(clients_per_round: int) -> float:
    """Return the peak memory in MB of a process that runs two rounds of so many clients."""
    command = [sys.executable, __file__, "--clients", str(clients_per_round)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _crowd(clients_per_round: int) -> None:
    workers = Workers(CROWD, 2)
    workers.run(1, clients_per_round=clients_per_round)
    workers.engine.close()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--clients", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.clients:
        _crowd(arguments.clients)
        return
    speed_up(turns=arguments.turns, rounds=arguments.rounds)
    few, many = memory(10), memory(1000)
    print(
        f"server memory: {few:.0f} MB with 10 clients a round, {many:.0f} MB with 1,000, ratio"
        f" {many / few:.3f}"
    )


if __name__ == "__main__":
    main()
