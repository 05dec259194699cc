"""Settings of strategies and their parts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from confide.config.custom import named_problems
from confide.config.fields import STRICT, setting


@dataclass
class ObjectiveConfig:
    """The local objective."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: str = setting("plain", "Local objective.", choices=("plain", "fedprox", "feddyn"))
    proximal_mu: float = setting(0.0, "FedProx: weight mu of ||w - w_global||^2 / 2.", ge=0)
    alpha: float = setting(
        0.1,
        "FedDyn: weight of ||w - w_global||^2 / 2; about 1 / (learning rate * steps) where a round"
        " has few.",
        gt=0,
        le=1e4,
    )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.kind != "fedprox" and self.proximal_mu:
            yield (
                f"proximal_mu={self.proximal_mu} has no effect with kind={self.kind}; set"
                " kind=fedprox or proximal_mu=0."
            )


@dataclass
class SelectionConfig:
    """Who takes part in a round."""

    kind: str = setting("all", "all, or uniform without replacement.", choices=("all", "uniform"))
    clients_per_round: int | None = setting(None, "uniform: how many.", ge=1)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if (self.kind == "uniform") != (self.clients_per_round is not None):
            yield (
                f"kind={self.kind}, clients_per_round={self.clients_per_round}: uniform needs a"
                " number and all takes none; set both (kind=uniform clients_per_round=N) or"
                " neither."
            )


@dataclass
class AggregatorConfig:
    """How updates become one."""

    kind: str = setting("weighted_mean", "Aggregation rule.", choices=("weighted_mean",))
    weighting: str = setting(
        "num_examples", "What a client's update weighs.", choices=("num_examples", "uniform")
    )
    _target_: str | None = setting(
        None, "Dotted path of a rule of your own, which then stands in place of kind."
    )
    kwargs: dict[str, Any] = setting(dict, "Arguments of _target_.")

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)


@dataclass
class ServerOptimizerConfig:
    """How the aggregated update changes the global tensors."""

    kind: str = setting(
        "sgd",
        "sgd (1.0: FedAvg; momentum: FedAvgM), adam, yogi, adagrad or feddyn.",
        choices=("sgd", "adam", "yogi", "adagrad", "feddyn"),
    )
    learning_rate: float = setting(1.0, "Server learning rate.", gt=0, le=1e4)
    momentum: float = setting(0.0, "sgd: server momentum.", ge=0, lt=1)
    beta1: float = setting(0.9, "adam, yogi, adagrad: decay of the first moment.", ge=0, lt=1)
    beta2: float = setting(0.99, "adam, yogi: decay of the second moment.", ge=0, lt=1)
    tau: float = setting(1e-3, "adam, yogi, adagrad: added to the root of the second moment.", gt=0)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        if self.kind != "sgd" and self.momentum:
            yield (
                f"momentum={self.momentum} has no effect with kind={self.kind}; set beta1 instead."
            )
        if self.kind == "feddyn" and self.learning_rate != 1.0:
            yield (
                f"learning_rate={self.learning_rate} has no effect with kind=feddyn; leave it at 1."
            )


@dataclass
class StrategyConfig:
    """A strategy: composed here, or one of Flower's own."""


@dataclass
class ComposedStrategyConfig(StrategyConfig):
    """A strategy made of independent parts."""

    selection: SelectionConfig = field(default_factory=SelectionConfig)
    aggregator: AggregatorConfig = field(default_factory=AggregatorConfig)
    server_optimizer: ServerOptimizerConfig = field(default_factory=ServerOptimizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        dynamic = self.objective.kind == "feddyn"
        if dynamic != (self.server_optimizer.kind == "feddyn"):
            yield (
                f"objective.kind={self.objective.kind},"
                f" server_optimizer.kind={self.server_optimizer.kind}: FedDyn has a part on either"
                " side; choose strategy=feddyn, or neither."
            )
        if dynamic and self.aggregator.weighting != "uniform":
            yield (
                f"aggregator.weighting={self.aggregator.weighting}: FedDyn's mean is unweighted;"
                " set uniform."
            )
        if (
            self.aggregator._target_ is not None
            and self.aggregator.weighting != "num_examples"
            and not dynamic
        ):
            yield (
                f"aggregator.weighting={self.aggregator.weighting} has no effect with"
                " aggregator._target_; leave it out."
            )


@dataclass
class FlowerStrategyConfig(StrategyConfig):
    """Any strategy of ``flwr.serverapp.strategy``, by its dotted path."""

    _target_: str = setting(
        "flwr.serverapp.strategy.FedAvg", "Dotted path of the strategy's class."
    )
    kwargs: dict[str, Any] = setting(dict, "Arguments of its constructor.")


@dataclass
class CustomStrategyConfig(StrategyConfig):
    """A strategy of one's own, by dotted path.

    What makes a :class:`~confide.strategies.strategy.FederatedAlgorithm`.
    """

    _target_: str = setting("???", "Dotted path of a function or class of your own.")
    kwargs: dict[str, Any] = setting(dict, "Arguments of _target_.")
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        yield from named_problems(self._target_, self.kwargs)
