"""What the rounds of one job are made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from confide.config.server import ServerConfig
from confide.errors import ConfigError, StorageError
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, shapes_of
from confide.server.rounds.checkpoint import Checkpoint
from confide.server.rounds.exchange import Reach
from confide.server.rounds.outcome import CommitFn, Observer
from confide.server.rounds.state import RunState
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
        conclude_fn: called before the last models are scored.
        absent_fn: told, once institutions have enrolled, who does not take part and why.
        leave_fn: remembers those who leave while the run goes on, before others are asked without
            them: name -> declared number of training units, and the last round that each could
            take part in.
        checkpoint: where an earlier process of the same run left off; None for a new run.
        reach: what is known of the grid's nodes, and how their updates arrive.
        without: names of those who withdrew, and are not asked.
        released: what institutions released before the run, where its algorithm rests on it.
        sum_bits: of each value of a round's sum, 64 or 32.
        predecessor: tensors of the model that the run started from, which is scored beside the
            kept one; None where the plan compares with none.
    """

    algorithm: FederatedAlgorithm
    plan: TrainingPlan
    settings: ServerConfig
    secret: bytes
    observers: Sequence[Observer] = ()
    commit_fn: CommitFn | None = None
    conclude_fn: Callable[[], None] | None = None
    absent_fn: Callable[[Mapping[str, str]], None] | None = None
    leave_fn: Callable[[Mapping[str, int], int], None] | None = None
    checkpoint: Checkpoint | None = None
    reach: Reach = field(default_factory=Reach)
    without: frozenset[str] = frozenset()
    released: Tensors = field(default_factory=dict)
    sum_bits: int = 64
    predecessor: Tensors | None = None

    def first_state(self, initial: Tensors) -> RunState:
        """Return the state to go on from: the checkpoint's, or a new run's.

        Args:
            initial: initial trainable tensors.

        Raises:
            ConfigError: if there is a checkpoint and the algorithm cannot go on from it.
            StorageError: if the checkpoint is of another model.
        """
        if self.checkpoint is None:
            strategy_state = self.algorithm.init(initial)
            return RunState(server_round=0, params=initial, strategy_state=strategy_state)
        if not self.algorithm.resumable:
            raise ConfigError(
                "This strategy keeps its state hidden inside Flower's own class, so its run cannot"
                " be resumed."
            )
        # With equal configs too: a package may build the same model differently in a later release.
        if shapes_of(self.checkpoint.state.params) != shapes_of(initial):
            raise StorageError(
                "The checkpoint holds the tensors of another model; start the run anew."
            )
        return self.checkpoint.state


__all__ = ["Job"]
