"""From a config to a strategy."""

from dataclasses import replace

from confide.config.strategies.strategy import (
    PARTS,
    ComposedStrategyConfig,
    CustomStrategyConfig,
    FlowerStrategyConfig,
    StrategyConfig,
)
from confide.errors import ConfigError
from confide.strategies.composed import Strategy
from confide.strategies.custom import custom_strategy
from confide.strategies.flower_adapter import FlowerStrategy, load_flower_strategy
from confide.strategies.parts import build_part
from confide.strategies.strategy import FederatedAlgorithm


def build_strategy(config: StrategyConfig) -> FederatedAlgorithm:
    """Build what a config names.

    Raises:
        ConfigError: if one of Flower's strategies, or a custom part, cannot be constructed.
    """
    match config:
        case CustomStrategyConfig():
            return custom_strategy(config)
        case FlowerStrategyConfig():
            return FlowerStrategy(load_flower_strategy(config._target_, config.kwargs))
        case ComposedStrategyConfig():
            # Each by its line in the table: a new part needs no line here
            parts = {
                group: build_part(PARTS[group][part.kind], part)
                for group in (
                    "selection",
                    "mixing",
                    "aggregator",
                    "server_optimizer",
                    "timing",
                    "mechanism",
                )
                for part in [getattr(config, group)]
            }
            mixing = parts.pop("mixing")
            if mixing is not None:  # before a robust rule alone, as the config was checked
                parts["aggregator"] = replace(parts["aggregator"], mixing=mixing)
            return Strategy(
                **parts, objective=config.objective, schedule=config.server_optimizer.schedule
            )
    raise ConfigError(
        f"strategy={config}: expected a composed strategy, one of Flower's or your own; choose"
        " strategy=fedavg."
    )


__all__ = ["build_strategy"]
