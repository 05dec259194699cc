"""From a config to a strategy."""

from collections.abc import Callable

from confide.config.strategy import (
    AggregatorConfig,
    ComposedStrategyConfig,
    CustomStrategyConfig,
    FlowerStrategyConfig,
    SelectionConfig,
    ServerOptimizerConfig,
    StrategyConfig,
)
from confide.errors import ConfigError
from confide.strategies import server_optimizers as optimizers
from confide.strategies.aggregators import WeightedMean
from confide.strategies.composed import Strategy
from confide.strategies.custom import custom_aggregator, custom_strategy
from confide.strategies.feddyn import DynamicServer
from confide.strategies.flower_adapter import FlowerStrategy, load_flower_strategy
from confide.strategies.selection import SelectAll, SelectUniform
from confide.strategies.strategy import Aggregator, FederatedAlgorithm, Selection, ServerOptimizer


def build_strategy(config: StrategyConfig) -> FederatedAlgorithm:
    """Build what a config names.

    Raises:
        ConfigError: if one of Flower's strategies, or a part of one's own, cannot be constructed.
    """
    if isinstance(config, CustomStrategyConfig):
        return custom_strategy(config)
    if isinstance(config, FlowerStrategyConfig):
        return FlowerStrategy(load_flower_strategy(config._target_, config.kwargs))
    if isinstance(config, ComposedStrategyConfig):
        return Strategy(
            selection=_selection(config.selection),
            aggregator=_aggregator(config.aggregator),
            server_optimizer=_SERVER_OPTIMIZERS[config.server_optimizer.kind](
                config.server_optimizer
            ),
            objective=config.objective,
        )
    raise ConfigError(
        f"strategy={config}: expected a composed strategy, one of Flower's or your own; choose"
        " strategy=fedavg."
    )


def _selection(config: SelectionConfig) -> Selection:
    if config.clients_per_round is None:
        return SelectAll()
    return SelectUniform(clients_per_round=config.clients_per_round)


def _aggregator(config: AggregatorConfig) -> Aggregator:
    return (
        WeightedMean(weighting=config.weighting)
        if config._target_ is None
        else custom_aggregator(config)
    )


_SERVER_OPTIMIZERS: dict[str, Callable[[ServerOptimizerConfig], ServerOptimizer]] = {
    "sgd": lambda c: optimizers.Sgd(learning_rate=c.learning_rate, momentum=c.momentum),
    "adam": lambda c: optimizers.adam(
        learning_rate=c.learning_rate, beta1=c.beta1, beta2=c.beta2, tau=c.tau
    ),
    "yogi": lambda c: optimizers.yogi(
        learning_rate=c.learning_rate, beta1=c.beta1, beta2=c.beta2, tau=c.tau
    ),
    "feddyn": lambda c: DynamicServer(),
    "adagrad": lambda c: optimizers.adagrad(
        learning_rate=c.learning_rate, beta1=c.beta1, tau=c.tau
    ),
}


__all__ = ["build_strategy"]
