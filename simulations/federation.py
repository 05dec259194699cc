"""A federation on one machine: institutions behind an engine, and jobs over them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from flwr.serverapp import Grid

from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.server import ServerConfig
from confide.config.strategies.strategy import ALGORITHMS, CodecConfig
from confide.flower.messages import task_identity
from confide.privacy.keys import server_secret
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.server.app import run_server_app
from confide.server.rounds.exchange import Reach
from confide.server.rounds.job import Job
from confide.server.rounds.outcome import Outcome
from confide.simulations.engines.engine import Engine
from confide.simulations.populations.on_demand import RecordsOnDemand
from confide.strategies.roster import Roster
from confide.strategies.strategy import FederatedAlgorithm


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Institutions on one machine.

    Attributes:
        data: encoded records, by institution.
        trainer: of this process.
        initial: initial trainable tensors.
        secret: of the simulation; selection derives from it.
        engine: carries the messages.
        source: where the records came from, for the summary.
    """

    data: Mapping[str, InstitutionData]
    trainer: Trainer
    initial: Tensors
    secret: bytes = field(repr=False)
    engine: Engine
    source: Mapping[str, object] = field(default_factory=dict)

    @property
    def roster(self) -> Roster | None:
        """Names of a population that is not listed; None where everybody is."""
        return self.data.roster if isinstance(self.data, RecordsOnDemand) else None

    def job(self, algorithm: FederatedAlgorithm, plan: TrainingPlan, settings: ServerConfig) -> Job:
        """Return a job over this federation, which nobody observes and which keeps no checkpoint.

        Args:
            algorithm: the strategy.
            plan: what is asked of institutions.
            settings: rounds and bounds.
        """
        secret = server_secret(self.secret, plan.job)
        return Job(algorithm=algorithm, plan=plan, settings=settings, secret=secret)

    @contextmanager
    def connect(self, job: str, only: Sequence[str] | None = None) -> Iterator[tuple[Grid, Reach]]:
        """Open a grid over the institutions.

        Args:
            job: name of the job.
            only: names of those who take part; None for all.
        """
        roster = self.roster if only is None else None
        names = only if only is not None else roster or list(self.data)
        grid = self.engine.grid(job, names)
        with task_identity():  # which Flower gives the process of a real ServerApp
            yield grid, Reach(collect_fn=grid.collect, roster=roster)

    def run(self, job: Job, *, only: Sequence[str] | None = None) -> Outcome:
        """Run a job through a ServerApp and a ClientApp.

        Args:
            job: what is run.
            only: names of those who take part; None for all.
        """
        with self.connect(job.plan.job, only) as (grid, reach):
            return run_server_app(replace(job, reach=reach), grid, initial=self.initial)


def alone(
    plan: TrainingPlan, settings: ServerConfig, name: str
) -> tuple[TrainingPlan, ServerConfig]:
    """Rewrite a plan and its settings for one institution alone: same steps, same privacy."""
    return _of_one(plan, settings, f"alone/{name}")


def pooled(plan: TrainingPlan, settings: ServerConfig) -> tuple[TrainingPlan, ServerConfig]:
    """Rewrite a plan and its settings for all records in one place: same steps, same privacy."""
    return _of_one(plan, settings, "pooled")


def _of_one(
    plan: TrainingPlan, settings: ServerConfig, what: str
) -> tuple[TrainingPlan, ServerConfig]:
    # The plain loss: one client alone has no others to be held near. A recipe of its own holds for
    # one institution as for many; one that rests on a release of everybody's has another instead.
    algorithm = ALGORITHMS[plan.objective.kind]
    kind = plan.objective.kind if algorithm.own_recipe else algorithm.alone or "plain"
    keeps = kind == plan.objective.kind
    objective = plan.objective if keeps else ALGORITHMS[kind].schema()
    rewritten = replace(
        plan,
        job=f"{plan.job}/{what}",
        objective=objective,
        gram=None,
        compares=False,  # a baseline is compared with nothing itself
        sums=None,  # of one there is no sum to hide in, nor others' noise
        privacy=replace(plan.privacy, trust="alone", honest_peers=None),
        upload=CodecConfig(),  # nothing has to travel
        download=CodecConfig(),
    )
    # Of an asynchronous strategy a step is no round: one client takes as many as it may answer
    rounds = min(settings.num_rounds, plan.num_rounds)
    return rewritten, replace(settings, min_clients=1, num_rounds=rounds)


__all__ = ["Federation", "alone", "pooled"]
