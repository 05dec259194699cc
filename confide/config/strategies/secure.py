"""What of a strategy goes with sums that nobody sees inside."""

from collections.abc import Iterator

from confide.config.aggregation import FEWEST_INSTITUTIONS, AggregationConfig
from confide.config.strategies.aggregators import WeightedMeanConfig
from confide.config.strategies.selections import (
    CountedSelectionConfig,
    PoissonSelectionConfig,
    SelectionConfig,
    UniformSelectionConfig,
)
from confide.config.strategies.strategy import (
    ALGORITHMS,
    ComposedStrategyConfig,
    StrategyConfig,
    objective_of,
    timing_of,
)


def weighting_of(strategy: StrategyConfig) -> str:
    """Return what an institution's update weighs in a sum: num_examples or uniform."""
    algorithm = ALGORITHMS[objective_of(strategy).kind]
    rule = getattr(strategy, "aggregator", None)
    # Exact sums weigh one each, whatever the rule says
    if algorithm.exact or not isinstance(rule, WeightedMeanConfig):
        return "uniform"
    return rule.weighting


def secure_problems(aggregation: AggregationConfig, strategy: StrategyConfig) -> Iterator[str]:
    """Yield what needs more of a round than the sum of its updates.

    Args:
        aggregation: what the coordinator sees.
        strategy: of the run.
    """
    exact = ALGORITHMS.get(objective_of(strategy).kind)
    if exact is not None and exact.exact and aggregation.sum_bits < 64:
        yield (
            f"aggregation.sum_bits={aggregation.sum_bits}: {exact.name} needs sums to the last bit,"
            " which 32 do not hold; set aggregation.sum_bits=64."
        )
    if isinstance(strategy, ComposedStrategyConfig):
        mechanism = strategy.mechanism
        for problem in mechanism.masked_problems(aggregation, strategy.selection):
            yield f"strategy.{problem}"
    if not aggregation.is_secure:
        return
    needs = "aggregation=secure shows the coordinator a sum alone"
    if not isinstance(strategy, ComposedStrategyConfig):
        yield (
            f"strategy: {needs}, and one of Flower's, or of your own, is given each institution's"
            " update; choose a strategy of parts, such as strategy=fedavg, or aggregation=plain."
        )
        return
    algorithm, rule = ALGORITHMS.get(strategy.objective.kind), strategy.aggregator
    if not isinstance(rule, WeightedMeanConfig):
        yield (
            f"strategy.aggregator.kind={rule.kind}: {needs}, and this rule compares updates, or"
            " measures each; set strategy/aggregator=weighted_mean, or aggregation=plain."
        )
    if algorithm is not None and algorithm.each_update:
        yield (
            f"strategy.objective.kind={strategy.objective.kind}: {needs}, and it averages a product"
            " made of each; choose another strategy, or aggregation=plain."
        )
    if timing_of(strategy).kind != "rounds":
        yield (
            f"strategy.timing.kind={timing_of(strategy).kind}: {needs}, of a cohort that is known"
            " beforehand; choose a strategy in rounds, or aggregation=plain."
        )
    yield from _selection_problems(strategy.selection)
    if strategy.upload.kind != "none":
        yield (
            f"strategy.upload.kind={strategy.upload.kind}: {needs}, of integers that masks are"
            " added to; set strategy/upload=none, and aggregation.sum_bits=32 for fewer bytes."
        )


def _selection_problems(selection: SelectionConfig) -> Iterator[str]:
    """Yield selections that leave fewer in a round than a masked sum takes."""
    if isinstance(selection, PoissonSelectionConfig):
        yield (
            f"strategy.selection.kind={selection.kind}: chance may draw fewer than the"
            f" {FEWEST_INSTITUTIONS} that a masked sum takes; set strategy/selection=all or"
            " uniform."
        )
    counted = selection if isinstance(selection, CountedSelectionConfig) else None
    if counted is not None and counted.clients_per_round < FEWEST_INSTITUTIONS:
        yield (
            f"{counted.key}: a masked sum takes {FEWEST_INSTITUTIONS} institutions at least;"
            " raise it."
        )
    if isinstance(selection, UniformSelectionConfig) and selection.over_selection > 1:
        yield (
            f"strategy.selection.over_selection={selection.over_selection:g}: a round would be"
            " closed before enough have answered to open its sum; set over_selection=1."
        )


__all__ = ["secure_problems", "weighting_of"]
