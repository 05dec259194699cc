"""Simulates an asynchronous run whose answers come in an order that was written down."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

from confide.config.composing.compose import compose
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.server.progress.make import make_progress
from confide.server.rounds.arrivals import Arrivals, AskFn, Load
from confide.server.rounds.exchange import Reach
from confide.server.rounds.participants import Answer
from confide.server.rounds.state import Asked, RoundRecord
from confide.server.run.carrier import Run
from confide.server.run.run import carry_out, open_run
from confide.server.run_folder import claimed
from confide.simulations.prepared import Simulation
from confide.simulations.preparing import prepare
from confide.simulations.virtual.timeline import Timeline


@dataclass
class Replayed:
    """Answers in a given order; each is computed when its turn has come."""

    ask_fn: AskFn
    order: deque[str]
    open: dict[str, Asked] = field(default_factory=dict)
    repeats: ClassVar[bool] = True
    has_come: ClassVar[bool] = False

    def ask(self, asked: Asked) -> None:
        self.open[asked.client] = asked

    def next(self) -> tuple[Asked, Answer]:
        asked = self.open.pop(self.order.popleft())
        return asked, self.ask_fn(asked)


@dataclass
class Order:
    """Stands where a simulation has its virtual time."""

    order: Sequence[str]

    def reach(self, reach: Reach) -> Reach:
        def arrivals(ask_fn: AskFn, load: Load) -> Arrivals:
            return Replayed(ask_fn, deque(self.order))

        return replace(reach, arrivals_fn=arrivals)


def replay(
    overrides: Sequence[str], history: Sequence[RoundRecord], folder: Path
) -> dict[str, Any]:
    """Simulate a run with the answers that ``history`` tells, and return its summary."""
    config = compose([*overrides, "simulation.baselines=[]", "server.progress=quiet"])
    order = Order([name for record in history for name in record.order])

    def prepared(run: Run, plan: TrainingPlan, workload: Workload) -> Simulation:
        simulation = prepare(run, plan, workload)
        return replace(simulation, timeline=cast(Timeline, order))

    progress = make_progress("quiet", config.task.primary_metric)
    with claimed(folder, config, resume=False):
        run = open_run(config, folder, progress=progress, job_fn=lambda config: str(config.job))
        return carry_out(run, prepared)
