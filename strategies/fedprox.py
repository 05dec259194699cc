"""FedProx: a proximal term holds each client near the global model.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020 (arXiv 1812.06127),
algorithm 2. Clients minimise ``F_k(w) + mu / 2 ||w - w_global||^2``; the server is FedAvg's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from confide.config.strategy import ObjectiveConfig
from confide.strategies.composed import Strategy
from confide.strategies.fedavg import fedavg


@dataclass(frozen=True, kw_only=True)
class Proximal:
    """The client's part: ``grad += mu (w - w_global)``.

    Attributes:
        proximal_mu: mu >= 0; with 0 FedProx is FedAvg.
    """

    proximal_mu: float

    def add_gradient(self, params: Sequence[nn.Parameter], start: Sequence[Tensor]) -> None:
        """Add the gradient of the proximal term in place."""
        for param, anchor in zip(params, start, strict=True):
            assert param.grad is not None
            param.grad.add_(param.detach() - anchor, alpha=self.proximal_mu)


def fedprox(*, proximal_mu: float = 0.01) -> Strategy:
    """Build FedProx."""
    return replace(fedavg(), objective=ObjectiveConfig(kind="fedprox", proximal_mu=proximal_mu))


__all__ = ["Proximal", "fedprox"]
