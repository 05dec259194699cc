"""FedAdam, FedYogi, FedAdagrad: FedAvg's clients, an adaptive optimizer at the server.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021 (arXiv 2003.00295), algorithm 2.
"""

from confide.strategies.aggregators import WeightedMean
from confide.strategies.composed import Strategy
from confide.strategies.selection import SelectAll
from confide.strategies.server_optimizers import adagrad, adam, yogi
from confide.strategies.strategy import Selection, ServerOptimizer


def fedadam(
    *, learning_rate: float = 0.1, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
) -> Strategy:
    """Build FedAdam."""
    return fedopt(adam(learning_rate=learning_rate, beta1=beta1, beta2=beta2, tau=tau))


def fedyogi(
    *, learning_rate: float = 0.1, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
) -> Strategy:
    """Build FedYogi."""
    return fedopt(yogi(learning_rate=learning_rate, beta1=beta1, beta2=beta2, tau=tau))


def fedadagrad(*, learning_rate: float = 0.1, beta1: float = 0.9, tau: float = 1e-3) -> Strategy:
    """Build FedAdagrad."""
    return fedopt(adagrad(learning_rate=learning_rate, beta1=beta1, tau=tau))


def fedopt(server_optimizer: ServerOptimizer, *, selection: Selection | None = None) -> Strategy:
    """Build FedAvg with another server optimizer."""
    return Strategy(
        selection=selection or SelectAll(),
        aggregator=WeightedMean(),
        server_optimizer=server_optimizer,
    )


__all__ = ["fedadagrad", "fedadam", "fedopt", "fedyogi"]
