"""FedAvg: clients take local steps, the server adds their mean update.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS
2017 (arXiv 1602.05629), algorithm 1. With momentum at the server it is FedAvgM: Hsu, Qi, Brown,
"Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019
(arXiv 1909.06335), section 4.3.
"""

from confide.strategies.aggregators import WeightedMean
from confide.strategies.algorithm import Algorithm
from confide.strategies.composed import Strategy
from confide.strategies.selections.uniform import SelectAll
from confide.strategies.server_optimizers import Sgd
from confide.strategies.strategy import Selection


def local_sgd() -> Algorithm:
    """Build FedAvg's algorithm: nothing but local steps and their mean."""
    return Algorithm()


def fedavg(*, selection: Selection | None = None, weighting: str = "num_examples") -> Strategy:
    """Compose FedAvg, as baselines run it.

    Args:
        selection: who takes part; None for everybody.
        weighting: num_examples or uniform.
    """
    return Strategy(
        selection=selection or SelectAll(),
        aggregator=WeightedMean(weighting=weighting),
        server_optimizer=Sgd(learning_rate=1.0, momentum=0.0),
    )


__all__ = ["fedavg", "local_sgd"]
