"""A federation on one machine: institutions that share one trainer, and runs over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flwr.app import Context, RecordDict

from confide.client.app import make_client_app
from confide.client.data import InstitutionData
from confide.client.institution import Institution, KeyFn, SharedTensors
from confide.client.trainer import Trainer
from confide.config import ServerConfig
from confide.errors import RunFailedError
from confide.flower.messages import task_identity
from confide.plan import TrainingPlan
from confide.privacy.randomness import derive_key
from confide.records import Tensors
from confide.server.app import make_server_app
from confide.server.rounds import Observer, Outcome, RoundLoop
from confide.simulations.grid import InlineGrid
from confide.strategies.strategy import FederatedAlgorithm


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Institutions on one machine.

    Attributes:
        institutions: by name.
        trainer: shared by all of them.
        initial: initial trainable tensors.
        secret: of the simulation; everything random derives from it.
    """

    institutions: Mapping[str, Institution]
    trainer: Trainer
    initial: Tensors
    secret: bytes

    def run(
        self,
        algorithm: FederatedAlgorithm,
        *,
        plan: TrainingPlan,
        settings: ServerConfig,
        observers: Sequence[Observer] = (),
        only: Sequence[str] | None = None,
    ) -> tuple[Outcome, Tensors]:
        """Run a job through a ServerApp and a ClientApp.

        Args:
            algorithm: the strategy.
            plan: what is asked of institutions.
            settings: rounds and bounds.
            observers: told of every round.
            only: names of those who take part; all when None.

        Returns:
            How it ended, and the tensors it keeps.
        """
        names = list(self.institutions) if only is None else list(only)
        by_node = {node: self.institutions[name] for node, name in enumerate(names, start=1)}
        client_app = make_client_app(lambda context: by_node[context.node_id])
        loop = RoundLoop(
            algorithm,
            plan=plan,
            settings=settings,
            secret=derive_key(self.secret, "server", plan.job),
            observers=observers,
        )
        server_app = make_server_app(
            loop, initial=self.initial, num_rounds=settings.num_rounds, timeout_s=settings.round_timeout_s
        )
        with task_identity():
            context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
            server_app(InlineGrid(client_app, list(by_node)), context)
        if loop.outcome is None:
            raise RunFailedError(f"Job {plan.job} ended without an outcome.")
        return loop.outcome, loop.kept()


def simulated_keys(secret: bytes, name: str) -> KeyFn:
    """Derive an institution's secret of every mechanism from the simulation's: from its seed, or from the operating system."""
    return lambda job, mechanism: derive_key(secret, "mechanism", name, job, mechanism)


def make_federation(
    data: Mapping[str, InstitutionData], *, trainer: Trainer, initial: Tensors, secret: bytes, plan: TrainingPlan
) -> Federation:
    """Give each institution its records, its keys and the shared trainer."""
    shared = SharedTensors(trainer)
    institutions = {
        name: Institution(name, data=part, trainer=trainer, key_fn=simulated_keys(secret, name), tensors=shared, serves=plan)
        for name, part in data.items()
    }
    return Federation(institutions=institutions, trainer=trainer, initial=initial, secret=secret)


def alone(plan: TrainingPlan, settings: ServerConfig, name: str) -> tuple[TrainingPlan, ServerConfig]:
    """Rewrite a job for one institution alone: its own records, the same steps and privacy."""
    return replace(plan, job=f"{plan.job}/alone/{name}"), replace(settings, min_clients=1)


__all__ = ["Federation", "alone", "make_federation", "simulated_keys"]
