"""FedExP: the server's step is longer the more updates point in different directions.

Jhunjhunwala, Wang and Joshi, "FedExP: Speeding up Federated Averaging via Extrapolation", ICLR 2023
(arXiv 2301.09604), algorithm 1: of M updates whose mean is ``u`` the server goes ``max(1, mean
|u_k|^2 / (2 (|u|^2 + epsilon)))`` times ``u``. Means are weighted as updates are. With one client,
or alike ones, the ratio is 1/2, and the step is FedAvg's.

A client sends the squared length of its update beside it. Under DP-SGD that is a function of the
noised update: it costs nothing. Its noise, however, lengthens each update far more than their mean,
and the step would follow the noise; so a client sends the squared length less what its noise has on
average, a public figure (as Takakura, Liew and Hasegawa do, 2025, arXiv 2504.09850). What noise is
left in ``u`` makes the step shorter.
"""

from torch import Tensor

from confide.protocol.tensors import Shapes, Tensors
from confide.strategies.algorithm import (
    FIGURE_UNIT,
    Algorithm,
    ClientResult,
    ClientRound,
    ServerResult,
    ServerRound,
    StepFn,
    TrainFn,
    squared_norm,
)

_SQUARE = "square"


def fedexp(*, epsilon: float) -> Algorithm:
    """Build FedExP.

    Args:
        epsilon: added to the squared length of the mean update, > 0.
    """

    def server(given: ServerRound, step: StepFn) -> ServerResult:
        length = step_length(given.extra[_SQUARE] * FIGURE_UNIT, given.update, epsilon=epsilon)
        return step({name: value * length for name, value in given.update.items()})

    return Algorithm(client=_client, server=server, returned_shapes=_returned_shapes)


def step_length(mean_square: Tensor, update: Tensors, *, epsilon: float) -> float:
    """Return how many mean updates long the step is, >= 1.

    Args:
        mean_square: mean of the squared lengths of the clients' updates, shape [1].
        update: their mean.
        epsilon: > 0.
    """
    return max(1.0, float(mean_square) / (2.0 * (float(squared_norm(update)) + epsilon)))


def _client(given: ClientRound, train: TrainFn) -> ClientResult:
    update = train(given.params)
    return ClientResult(update=update, extra={_SQUARE: given.square_fn(update) / FIGURE_UNIT})


def _returned_shapes(shapes: Shapes) -> Shapes:
    return {_SQUARE: (1,)}


__all__ = ["fedexp", "step_length"]
