"""FedAvg and FedAvgM.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS
2017 (arXiv 1602.05629), algorithm 1; Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data
Distribution for Federated Visual Classification", 2019 (arXiv 1909.06335), section 4.3.
"""

from confide.strategies.aggregators import WeightedMean
from confide.strategies.composed import Strategy
from confide.strategies.selection import SelectAll
from confide.strategies.server_optimizers import Sgd
from confide.strategies.strategy import Selection


def fedavg(*, selection: Selection | None = None, weighting: str = "num_examples") -> Strategy:
    """Build FedAvg: add the mean update.

    Args:
        selection: who takes part; everybody when None.
        weighting: num_examples or uniform.
    """
    return fedavgm(selection=selection, weighting=weighting, momentum=0.0)


def fedavgm(
    *,
    selection: Selection | None = None,
    weighting: str = "num_examples",
    momentum: float = 0.9,
    learning_rate: float = 1.0,
) -> Strategy:
    """Build FedAvgM: FedAvg with momentum at the server."""
    return Strategy(
        selection=selection or SelectAll(),
        aggregator=WeightedMean(weighting=weighting),
        server_optimizer=Sgd(learning_rate=learning_rate, momentum=momentum),
    )


__all__ = ["fedavg", "fedavgm"]
