"""What the rounds of one job are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from confide.config.server import ServerConfig
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.exchange import Reach
from confide.server.rounds.outcome import CommitFn, Observer
from confide.strategies.strategy import FederatedAlgorithm


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a federated algorithm.

    Attributes:
        algorithm: selection, aggregation, server optimizer.
        plan: what institutions are asked to do; its privacy was calibrated for
            ``plan.num_rounds``.
        settings: number of rounds, bounds, which model is kept.
        secret: 32 bytes that selection derives from.
        observers: told of every round.
        commit_fn: makes the state durable, before the first round and after each; a round counts
            once it returns. None keeps nothing.
        checkpoint: where an earlier process of the same run left off; None for a new run.
        reach: what is known of the grid's nodes, and how their updates arrive.
    """

    algorithm: FederatedAlgorithm
    plan: TrainingPlan
    settings: ServerConfig
    secret: bytes
    observers: Sequence[Observer] = ()
    commit_fn: CommitFn | None = None
    checkpoint: Checkpoint | None = None
    reach: Reach = field(default_factory=Reach)


__all__ = ["Job"]
