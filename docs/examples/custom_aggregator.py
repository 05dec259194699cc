"""A custom aggregation rule.

The coordinate-wise trimmed mean (Yin et al., ICML 2018, arXiv 1803.01498).

confide simulate experiment=heart_disease strategy/aggregator=custom strategy.aggregator._target_=custom_aggregator.trimmed_mean
"""

from torch import Tensor

from confide.strategies.aggregators import AllUpdates


def trimmed_mean(trim: int = 1) -> AllUpdates:
    """Leave out the ``trim`` largest and smallest values of each coordinate."""

    def reduce(updates: Tensor, num_examples: Tensor) -> Tensor:
        return updates.sort(dim=0).values[trim : len(updates) - trim].mean(dim=0)

    return AllUpdates(reduce)
