"""Compares a client's round of the vectorised engine with one of the inline engine.

    python benchmarks/vectorised.py [--rounds 12] [CASE ...]

Two runs of the same federation, one an engine, hand a baton over after each round, so that whatever
else the machine does meets both. What is measured is the processor time of each run's own thread,
with one thread of torch. Printed are the medians a client-round, their ratio, and an interval of it
that the bootstrap over rounds gives (95 %).
"""

import argparse
import contextlib
import functools
import gc
import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from cases import Cnn

from confide.client.assembly import make_trainer
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import make_schedule
from confide.client.training.trainer import Trainer
from confide.config.composing.compose import compose
from confide.config.models.perceptrons import MlpConfig
from confide.config.privacy import PrivacyConfig
from confide.config.run import Config
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.networks import Mlp, trainable_tensors
from confide.models.workload import Workload
from confide.protocol.messages import Evaluation
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.outcome import Observer
from confide.server.rounds.state import RunState
from confide.simulations.engines.engine import ENGINES, EngineParts
from confide.simulations.federation import Federation
from confide.simulations.institutions import Setup
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.selections.uniform import SelectUniform
from confide.tasks.tabular import FEATURES, Tabular
from confide.tasks.task import LABELS, Examples

# Once, before there are threads: Hydra composes in one alone.
_POLICY = compose().policy
_WARM_UP = 3
_DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One comparison.

    Attributes:
        widths: of the model's layers.
        clients: number of clients.
        cohort: how many take part in a round; None for all.
        sizes: smallest and largest number of training records.
        validation: number of validation records of each.
        batch_size: records of a step.
        epochs: passes over the records in a round.
        images: whether records are pictures and the model the CNN of ``cases.py``; of ``widths``
            only the last, the number of classes, tells something then.
        private: whether under DP-SGD.
        rate: sampling rate of four steps, the same whatever the size; None for batches of one size.
        compute: where the clients are computed.
    """

    widths: tuple[int, ...] = (20, 32, 2)
    clients: int = 200
    cohort: int | None = None
    sizes: tuple[int, int] = (32, 32)
    validation: int = 0
    batch_size: int = 8
    epochs: int = 1
    images: bool = False
    private: bool = False
    rate: float | None = None
    compute: Compute = field(default_factory=Compute)

    def task(self) -> TabularConfig:
        """Return a table of as many columns as the model has inputs."""
        columns = {f"x{i}": ColumnConfig(minimum=0, maximum=1) for i in range(self.widths[0])}
        labels = [str(label) for label in range(self.widths[-1])]
        return TabularConfig(
            labels=labels, columns=columns, numeric=NumericConfig(encoding="linear")
        )

    def workload(self) -> Workload:
        """Build the model."""
        torch.manual_seed(0)
        task = Tabular(self.task())
        model = (Cnn() if self.images else Mlp(self.widths)).to(self.compute.device)
        return Workload(task, model, task.encode, task.synthetic, self.compute)

    def data(self) -> Mapping[str, InstitutionData]:
        """Draw records at random; sizes are spread evenly between the smallest and the largest."""
        generator = torch.Generator().manual_seed(0)

        def examples(count: int) -> Examples:
            shape = (3, 32, 32) if self.images else (self.widths[0],)
            labels = torch.randint(0, self.widths[-1], (count,), generator=generator)
            features = torch.randn((count, *shape), generator=generator)
            return Examples({FEATURES: features, LABELS: labels})

        low, high = self.sizes
        step = (high - low) / max(1, self.clients - 1)
        return {
            f"client-{number:04}": InstitutionData(
                train=examples(round(low + number * step)),
                validation=examples(self.validation),
                test=examples(0),
            )
            for number in range(self.clients)
        }


SHAPES: dict[str, Shape] = {
    "mlp": Shape(),
    "mlp-unequal": Shape(sizes=(8, 96)),
    "mlp-private": Shape(private=True, clients=150),
    "mlp-private-unequal": Shape(private=True, clients=150, sizes=(20, 96), rate=0.125),
    "mlp-validated": Shape(validation=8),
    "lr-mnist": Shape(widths=(784, 10), clients=1000, cohort=10, sizes=(60, 60), batch_size=10),
    "cnn": Shape(widths=(20, 10), images=True, clients=20, sizes=(50, 50), batch_size=10),
}


class MeasuredError(Exception):
    """All rounds were run."""


@dataclass
class Baton:
    """An observer that hands over after each round, and notes what its thread has computed.

    Attributes:
        mine: set when it is this run's turn.
        other: set when it is the other's.
        rounds: how many are measured.
        seconds: of the thread's processor time, or what else the clock tells, by round.
        clock: seconds.
    """

    mine: threading.Event
    other: threading.Event
    rounds: int
    seconds: list[float] = field(default_factory=list)
    since: float = 0.0
    clock: Callable[[], float] = time.thread_time

    def started(self, clients: Mapping[str, int]) -> None:
        """Collect the garbage of the set-up, and wait for the first turn."""
        gc.collect()
        gc.freeze()
        self.hand_over()

    def resumed(self, state: RunState) -> None:
        """Nothing is resumed here."""

    def round_done(self, state: RunState) -> None:
        """Note the round, and let the other run one.

        Raises:
            MeasuredError: after the last: two runs of one process cannot both conclude.
        """
        self.seconds.append(self.clock() - self.since)
        if len(self.seconds) == self.rounds:
            raise MeasuredError
        self.hand_over()

    def hand_over(self) -> None:
        """Let the other go, and wait."""
        self.mine.clear()
        self.other.set()
        self.mine.wait()
        self.since = self.clock()

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Nothing is compared here."""


def know_epsilons(plan: TrainingPlan, data: Mapping[str, InstitutionData], *, rounds: int) -> None:
    """Have what rounds cost in privacy worked out beforehand: whoever came first would pay."""
    for size in {len(one.train) for one in data.values()} if plan.private else ():
        schedule = make_schedule(plan, num_examples=size)
        for count in range(1, rounds + 1):
            schedule.epsilon_after(
                count, delta=plan.privacy.delta, accountant=plan.privacy.accountant
            )


def worker_trainer(shape: Shape, plan: TrainingPlan, worker: int) -> Trainer:
    """Build the model and its trainer in a worker process."""
    return make_trainer(shape.workload(), plan)


def run(shape: Shape, engine: str, observer: Observer, *, rounds: int) -> None:
    """Run a federation.

    Args:
        shape: what is trained, and by how many.
        engine: name of it.
        observer: is told of each round.
        rounds: how many.
    """
    config = Config(task=shape.task(), backbone=MlpConfig(), tuning=TuningConfig(kind="full"))
    config.client.batch_size, config.server.num_rounds = shape.batch_size, rounds
    config.client.local_epochs = shape.epochs
    if shape.rate is not None:
        config.client.sampling_rate, config.client.local_steps = shape.rate, 4
    if shape.private:
        config.privacy = PrivacyConfig(unit="record", epsilon=8.0, delta=1e-3)
    plan = make_plan(config, backbone_sha256=None)
    trainer, data = make_trainer(shape.workload(), plan), shape.data()
    know_epsilons(plan, data, rounds=rounds)
    initial = trainable_tensors(trainer.workload.model)
    parts = EngineParts(
        data=data,
        trainer=trainer,
        make_trainer=functools.partial(worker_trainer, shape, plan),
        initial=initial,
        setup=Setup(serves=plan, policy=_POLICY, noise_secret=bytes(32)),
        workers=2,
        num_threads=1,
    )
    with contextlib.closing(ENGINES[engine](parts)) as running:
        federation = Federation(
            data=running.data, trainer=trainer, initial=initial, secret=bytes(32), engine=running
        )
        strategy = fedavg(
            selection=None
            if shape.cohort is None
            else SelectUniform(clients_per_round=shape.cohort)
        )
        job = federation.job(strategy, plan, config.server)
        federation.run(replace(job, observers=[observer]))


def in_turn(shape: Shape, engine: str, baton: Baton, *, rounds: int) -> None:
    """Run a federation that hands its baton over, until all rounds are measured."""
    try:
        with contextlib.suppress(MeasuredError):
            run(shape, engine, baton, rounds=rounds)
    finally:
        baton.other.set()


def interval(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return bounds of the ratio of two medians, by the bootstrap over rounds."""
    draw = random.Random(0)
    ratios = sorted(
        statistics.median(draw.choices(one, k=len(one)))
        / statistics.median(draw.choices(other, k=len(other)))
        for _ in range(_DRAWS)
    )
    return ratios[round(0.025 * _DRAWS)], ratios[round(0.975 * _DRAWS)]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What both engines took, and how many times faster the vectorised one is.

    Attributes:
        inline: microseconds a client-round.
        vectorised: likewise.
        bounds: of the ratio, 95 %.
    """

    inline: float
    vectorised: float
    bounds: tuple[float, float]

    @property
    def ratio(self) -> float:
        """How many times faster the vectorised engine is."""
        return self.inline / self.vectorised


def compare(
    shape: Shape, *, rounds: int, clock: Callable[[], float] = time.thread_time
) -> Compared:
    """Run both engines in turn, with ``rounds`` after those that warm up."""
    turns = threading.Event(), threading.Event()
    rounds += _WARM_UP
    batons = [
        Baton(*turns, rounds, clock=clock),
        Baton(*reversed(turns), rounds, clock=clock),
    ]
    threads = [
        threading.Thread(target=in_turn, args=(shape, engine, baton), kwargs={"rounds": rounds})
        for engine, baton in zip(("inline", "vectorised"), batons, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inline, vectorised = (baton.seconds[_WARM_UP:] for baton in batons)
    clients = shape.cohort or shape.clients
    one, other = (1e6 * statistics.median(times) / clients for times in (inline, vectorised))
    return Compared(inline=one, vectorised=other, bounds=interval(inline, vectorised))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(SHAPES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.cases or SHAPES:
        found = compare(SHAPES[name], rounds=arguments.rounds)
        print(
            f"{name}: inline {found.inline:.0f} us, vectorised {found.vectorised:.0f} us a"
            f" client-round, ratio {found.ratio:.1f} ({found.bounds[0]:.1f} to"
            f" {found.bounds[1]:.1f})"
        )


if __name__ == "__main__":
    main()
