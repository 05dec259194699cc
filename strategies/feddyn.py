"""FedDyn: each client corrects its objective so that its own optimum and the federation's agree.

Acar et al., "Federated Learning Based on Dynamic Regularization", ICLR 2021 (arXiv 2111.04263),
algorithm 1. Client k keeps a gradient ``g_k`` between its rounds, which starts at 0, and minimises
``F_k(w) - <g_k, w> + alpha / 2 ||w - w_global||^2``; then ``g_k -= alpha * update``. The server
keeps ``h``, which starts at 0: ``h += share * update`` and ``w_global += update + h``, where update
is the unweighted mean and share that of the clients that took part. (The paper's h is this one
times -alpha, so that the server needs no alpha.)

Under DP-SGD ``g_k`` is a function of updates that were released already: post-processing, at no
cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn, zeros_like

from confide.config.strategy import ObjectiveConfig
from confide.protocol.tensors import Tensors
from confide.strategies.composed import Strategy
from confide.strategies.fedavg import fedavg
from confide.strategies.selection import SelectAll
from confide.strategies.strategy import Selection

_CORRECTION = "correction/"


@dataclass(frozen=True, kw_only=True)
class Dynamic:
    """The client's part: ``grad += alpha (w - w_global) - g_k``.

    Attributes:
        alpha: > 0.
        gradient: g_k, in the order of the parameters.
    """

    alpha: float
    gradient: Sequence[Tensor]

    def add_gradient(self, params: Sequence[nn.Parameter], start: Sequence[Tensor]) -> None:
        """Add the gradient of the two terms in place."""
        for param, anchor, kept in zip(params, start, self.gradient, strict=True):
            assert param.grad is not None
            param.grad.add_(param.detach() - anchor, alpha=self.alpha).sub_(kept)


def next_gradient(gradient: Tensors, update: Tensors, *, alpha: float) -> Tensors:
    """Return g_k after a round."""
    return {name: value - alpha * update[name] for name, value in gradient.items()}


@dataclass(frozen=True)
class DynamicServer:
    """The server's part."""

    def init(self, params: Tensors) -> Tensors:
        """Return h = 0."""
        return {_CORRECTION + name: zeros_like(value) for name, value in params.items()}

    def apply(
        self, params: Tensors, update: Tensors, state: Tensors, *, participation: float = 1.0
    ) -> tuple[Tensors, Tensors]:
        """Step once."""
        after = {
            _CORRECTION + name: state[_CORRECTION + name] + participation * update[name]
            for name in params
        }
        return {
            name: value + update[name] + after[_CORRECTION + name] for name, value in params.items()
        }, after


def feddyn(*, alpha: float = 0.1, selection: Selection | None = None) -> Strategy:
    """Build FedDyn."""
    return replace(
        fedavg(selection=selection or SelectAll(), weighting="uniform"),
        server_optimizer=DynamicServer(),
        objective=ObjectiveConfig(kind="feddyn", alpha=alpha),
    )


__all__ = ["Dynamic", "DynamicServer", "feddyn", "next_gradient"]
