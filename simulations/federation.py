"""A federation on one machine: institutions behind an engine, and jobs over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flwr.app import Context, RecordDict

from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.server import ServerConfig
from confide.config.strategy import ObjectiveConfig
from confide.errors import RunFailedError
from confide.flower.messages import task_identity
from confide.privacy.keys import server_secret
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.server.app import make_server_app
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.loop import RoundLoop
from confide.server.rounds.outcome import CommitFn, Observer, Outcome
from confide.simulations.engines.engine import Engine
from confide.strategies.strategy import FederatedAlgorithm


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run over a federation.

    Attributes:
        algorithm: the strategy.
        plan: what is asked of institutions.
        settings: rounds and bounds.
        observers: told of every round.
        only: names of those who take part; None for all.
        commit_fn: makes each round durable.
        checkpoint: where an earlier process left off.
    """

    algorithm: FederatedAlgorithm
    plan: TrainingPlan
    settings: ServerConfig
    observers: Sequence[Observer] = ()
    only: Sequence[str] | None = None
    commit_fn: CommitFn | None = None
    checkpoint: Checkpoint | None = None


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
    secret: bytes
    engine: Engine
    source: Mapping[str, object] = field(default_factory=dict)

    def run(self, job: Job) -> tuple[Outcome, Tensors]:
        """Run a job through a ServerApp and a ClientApp.

        Returns:
            How it ended, and the tensors it keeps.
        """
        loop = RoundLoop(
            job.algorithm,
            plan=job.plan,
            settings=job.settings,
            secret=server_secret(self.secret, job.plan.job),
            observers=job.observers,
            commit_fn=job.commit_fn,
            checkpoint=job.checkpoint,
        )
        server_app = make_server_app(
            loop,
            initial=self.initial,
            num_rounds=job.settings.num_rounds,
            timeout_s=job.settings.round_timeout_s,
        )
        names = list(self.data) if job.only is None else list(job.only)
        with task_identity():
            context = Context(
                run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={}
            )
            server_app(self.engine.grid(job.plan.job, names), context)
        if loop.outcome is None:
            raise RunFailedError(f"Job {job.plan.job} ended without an outcome.")
        return loop.outcome, loop.kept()


def alone(
    plan: TrainingPlan, settings: ServerConfig, name: str
) -> tuple[TrainingPlan, ServerConfig]:
    """Rewrite a job for one institution alone.

    Its own records, the same steps and privacy, nothing to hold it near others.
    """
    return _of_one(plan, settings, f"alone/{name}")


def pooled(plan: TrainingPlan, settings: ServerConfig) -> tuple[TrainingPlan, ServerConfig]:
    """Rewrite a job for all records in one place.

    The same steps and privacy, nothing to hold it near others.
    """
    return _of_one(plan, settings, "pooled")


def _of_one(
    plan: TrainingPlan, settings: ServerConfig, what: str
) -> tuple[TrainingPlan, ServerConfig]:
    return replace(plan, job=f"{plan.job}/{what}", objective=ObjectiveConfig()), replace(
        settings, min_clients=1
    )


__all__ = ["Federation", "Job", "alone", "pooled"]
