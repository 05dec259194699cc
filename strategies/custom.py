"""Custom strategies and aggregation rules, by dotted path.

Only the coordinator's side imports them.
"""

from typing import Any

import torch

from confide.config.custom import blamed, make_part, require
from confide.config.strategies.strategy import CustomStrategyConfig
from confide.errors import ConfigError
from confide.strategies.aggregators import FixedPointMean
from confide.strategies.strategy import Aggregator, Bounds, ClientUpdate, FederatedAlgorithm
from confide.strategies.timings.timing import Buffered, Timed

_STRATEGY, _AGGREGATOR = "strategy", "strategy.aggregator"
_TRIAL = 0.5


def custom_strategy(config: CustomStrategyConfig) -> FederatedAlgorithm:
    """Make a custom strategy.

    Raises:
        ConfigError: if its path names none, or it minimises another local objective than the
            config, which institutions follow.
    """
    made = make_part(config._target_, key=_STRATEGY, kwargs=config.kwargs)
    needed = ("resumable", "init", "select", "request", "reply_shapes", "begin")
    require(
        made,
        needed,
        path=config._target_,
        key=_STRATEGY,
        expected="a FederatedAlgorithm, such as Strategy(...)",
    )
    # Institutions follow the plan: an algorithm that expects another would be run half.
    objective = getattr(made, "objective", config.objective)
    if objective != config.objective:
        raise ConfigError(
            f"strategy._target_={config._target_} returns objective={objective}, and the plan,"
            f" which institutions follow, has strategy.objective={config.objective}; set"
            " strategy.objective to the same."
        )
    if isinstance(made, Timed) and isinstance(made.timing, Buffered):
        raise ConfigError(
            f"strategy._target_={config._target_} returns an asynchronous timing, which has to"
            " stand in the config, since noise is calibrated by it; choose strategy=fedbuff or"
            " strategy=fedasync, with parts of your own."
        )
    algorithm: FederatedAlgorithm = made
    return algorithm


def custom_aggregator(*, _target_: str, kwargs: dict[str, Any]) -> Aggregator:
    """Make a custom aggregation rule, and try it on one update.

    Args:
        _target_: dotted path of the rule.
        kwargs: its arguments.

    Raises:
        ConfigError: if its path names none, or the trial fails.
    """
    made = make_part(_target_, key=_AGGREGATOR, kwargs=kwargs)
    require(
        made,
        ("additive", "start", "total_weight"),
        path=_target_,
        key=_AGGREGATOR,
        expected="an Aggregator",
    )
    with blamed(_target_, key=_AGGREGATOR, kwargs=kwargs):
        _try(made, _target_)
    aggregator: Aggregator = made
    return aggregator


def _try(made: Any, path: str) -> None:
    """Begin a round of one update: what is missing is told before records are loaded."""
    weight = made.total_weight([1])
    # A rule may weigh a record as nothing, and bounds need a weight
    accumulator = made.start(
        {"trial": (1,)}, Bounds(max_value=1.0, max_total_weight=max(1, int(weight)))
    )
    require(
        accumulator,
        ("add", "mean"),
        path=f"{path}().start",
        key=_AGGREGATOR,
        expected="an Accumulator",
    )
    if made.additive and not isinstance(accumulator, FixedPointMean):
        raise ConfigError(
            f"{_AGGREGATOR}._target_={path} has additive=True, but sums in"
            f" {type(accumulator).__name__} and not in FixedPointMean, whose partial sums workers"
            " share; set additive=False."
        )
    accumulator.add(
        ClientUpdate(client="trial", tensors={"trial": torch.tensor([_TRIAL])}, num_examples=1)
    )


__all__ = ["custom_aggregator", "custom_strategy"]
