"""Any of Flower's own strategies, by its dotted path.

Flower's strategies average weights, not updates, and hide their state: the global tensors are added
to each update, replies are handed over in the order of the institutions' names, and resuming such a
run is refused. A strategy that asks its clients for anything of its own (FedProx's ``proximal-mu``)
is refused too: institutions follow the plan alone.
"""

import copy
import importlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as FlowerBase
from torch import Tensor

from confide.errors import ConfideError, ConfigError, RunFailedError
from confide.flower.messages import task_identity
from confide.privacy.randomness import KEY_BYTES, seed_from
from confide.protocol.tensors import Shapes, Tensors, encode
from confide.strategies.algorithm import Participation
from confide.strategies.strategy import ClientUpdate, Round, RoundStart

_MOST_LOOKS = 3
_TRIAL_CLIENTS, _TRIAL = 10, 0.5
# What a plan says already; any other key would be an instruction that institutions do not follow
_UNDERSTOOD = frozenset({"server-round"})


def load_flower_strategy(target: str, kwargs: dict[str, Any]) -> FlowerBase:
    """Construct one of Flower's strategies.

    Raises:
        ConfigError: if the path names no strategy, its arguments do not fit, or it cannot average
            two updates as institutions send them.
    """
    module, _, name = target.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"strategy._target_={target}: {error}; expected such as"
            " flwr.serverapp.strategy.FedMedian."
        ) from None
    if not (isinstance(cls, type) and issubclass(cls, FlowerBase)):
        raise ConfigError(f"strategy._target_={target} is no flwr.serverapp.strategy.Strategy.")
    try:
        strategy: FlowerBase = cls(**kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"strategy.kwargs={kwargs}: {error}.") from None
    _try(strategy, target)
    return strategy


def _try(strategy: FlowerBase, target: str) -> None:
    """Average a round of invented updates: what it lacks is told before records are loaded."""
    least = getattr(strategy, "min_available_nodes", 0)
    names = [f"trial-{number}" for number in range(max(_TRIAL_CLIENTS, int(least)))]
    params = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    update = {name: torch.full_like(value, _TRIAL) for name, value in params.items()}
    updates = [ClientUpdate(client=name, tensors=update, num_examples=1) for name in names]
    try:
        trial = FlowerStrategy(copy.deepcopy(strategy))  # its state stays that of no round
        trial.init(params)
        with task_identity():  # which messages need, and a run has not got yet
            asked = trial.select(names, secret=bytes(KEY_BYTES), server_round=1)
            trial._aggregate(params, updates[: len(asked)], 1)
    except ConfideError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"strategy._target_={target}: {error}") from None
    except Exception as error:  # of any strategy's code
        raise ConfigError(
            f"strategy._target_={target} cannot average what institutions send, tensors and"
            f" num-examples: {' '.join(str(error).split()) or type(error).__name__} Choose another"
            " strategy, or other strategy.kwargs."
        ) from None


class _Roster(Grid):
    """Shows a strategy the nodes it may choose from, and nothing else."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._looks = 0

    def get_node_ids(self) -> Iterable[int]:
        self._looks += 1
        if self._looks > _MOST_LOOKS:  # Flower's sampling waits for ever
            raise ConfigError(
                f"The strategy waits for more clients than the {self._count} there are; lower its"
                " min_available_nodes."
            )
        return range(1, self._count + 1)

    def set_run(self, run: Any) -> None:
        raise NotImplementedError("A strategy may only choose nodes.")

    @property
    def run(self) -> Any:
        raise NotImplementedError("A strategy may only choose nodes.")

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError("A strategy may only choose nodes.")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError("A strategy may only choose nodes.")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError("A strategy may only choose nodes.")

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError("A strategy may only choose nodes.")


class FlowerStrategy:
    """Adapts one of Flower's strategies to the round loop.

    A :class:`~confide.strategies.strategy.FederatedAlgorithm`.
    """

    def __init__(self, inner: FlowerBase) -> None:
        self._inner = inner
        self._params: Tensors = {}
        self._instruction: Message | None = None

    @property
    def resumable(self) -> bool:
        """Never: Flower's classes keep moments and the like in attributes of their own."""
        return False

    def init(self, params: Tensors) -> Tensors:
        """Hold the first global tensors; the strategy's own state stays hidden inside it."""
        self._params = params
        return {}

    def select(self, clients: Sequence[str], *, secret: bytes, server_round: int) -> list[str]:
        """Let the strategy choose, with Python's generator seeded for the moment.

        Raises:
            ConfigError: if it waits for more clients than there are, or asks clients for more than
                the plan says.
        """
        names = sorted(clients)  # nodes are numbered in this order, from 1
        # Flower samples with Python's global generator, which is nobody's to reseed.
        before = random.getstate()
        random.seed(seed_from(secret, "selection", server_round))
        try:
            messages = list(
                self._inner.configure_train(
                    server_round, encode(self._params), ConfigRecord(), _Roster(len(names))
                )
            )
        finally:
            random.setstate(before)
        for message in messages:
            self._check(message)
        self._instruction = messages[0] if messages else None
        return sorted(names[message.metadata.dst_node_id - 1] for message in messages)

    def _check(self, message: Message) -> None:
        asked = {
            key for record in message.content.config_records.values() for key in record
        } - _UNDERSTOOD
        if asked:
            raise ConfigError(
                f"{type(self._inner).__name__} asks its clients for {', '.join(sorted(asked))},"
                " which institutions do not take from a strategy; choose the composed form"
                " (strategy=fedprox for a proximal term)."
            )

    def request(self, params: Tensors, state: Tensors) -> Tensors:
        """Return the global tensors."""
        return params

    def reply_shapes(self, shapes: Shapes) -> Shapes:
        """Return the shapes of an update."""
        return shapes

    def begin(self, start: RoundStart) -> Round:
        """Begin a round; replies are kept until its end."""
        return _FlowerRound(self, start.params, start.server_round)

    def _aggregate(
        self, params: Tensors, updates: Sequence[ClientUpdate], server_round: int
    ) -> Tensors:
        instruction = self._instruction
        if instruction is None:
            raise RunFailedError("The strategy chose no client and then got an answer.")
        # By name: Flower's sums are of floats, and their order would show.
        replies = []
        for update in sorted(updates, key=lambda one: one.client):
            # Sent are updates, and Flower averages weights
            weights = {name: value + update.tensors[name] for name, value in params.items()}
            metrics = MetricRecord({"num-examples": update.num_examples})
            content = RecordDict({"arrays": encode(weights), "metrics": metrics})
            replies.append(Message(content, reply_to=instruction))
        arrays, _ = self._inner.aggregate_train(server_round, replies)
        if arrays is None:
            raise RunFailedError(
                f"{type(self._inner).__name__} aggregated nothing in round {server_round}."
            )
        self._params = {
            # A strategy may have computed in another dtype, and return a scalar in another shape
            name: torch.from_numpy(arrays[name].numpy().astype("float32")).view_as(value)
            for name, value in params.items()
        }
        return self._params


@dataclass
class _FlowerRound:
    strategy: FlowerStrategy
    params: Tensors
    server_round: int
    updates: list[ClientUpdate] = field(default_factory=list)

    def add(self, update: ClientUpdate) -> None:
        self.updates.append(update)

    @property
    def rule(self) -> None:
        return None

    def merge(self, total: Tensor, total_weight: int) -> None:
        raise TypeError("One of Flower's strategies needs every update.")

    def finish(self, participation: Participation) -> tuple[Tensors, Tensors]:
        return self.strategy._aggregate(self.params, self.updates, self.server_round), {}


__all__ = ["FlowerStrategy", "load_flower_strategy"]
