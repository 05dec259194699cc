"""q-FedAvg: clients that the model serves badly count more.

Li, Sanjabi, Beirami and Smith, "Fair Resource Allocation in Federated Learning", ICLR 2020 (arXiv
1905.10497), algorithm 2, which minimises ``sum_k p_k F_k^(q+1) / (q + 1)``. With L = 1 /
learning_rate and F the mean loss of the global model on its training records, client k sends ``F^q
* update`` and ``h = F^q + q F^(q-1) L |update|^2``; the server adds mean(F^q * update) / mean(h).
(These are the paper's Delta_k and h_k over L, with signs turned, and means for sums.) With q = 0 it
is FedAvg.

F is one more pass over all records, without noise: it is refused under privacy.
"""

from torch import no_grad

from confide.errors import RunFailedError
from confide.protocol.tensors import Shapes
from confide.strategies.algorithm import (
    FIGURE_UNIT,
    Algorithm,
    ClientResult,
    ClientRound,
    Records,
    ServerResult,
    ServerRound,
    StepFn,
    TrainFn,
)

_WEIGHT = "weight"
_LEAST_LOSS = 1e-6
"""For a smaller one q - 1 < 0 would give a power without bound."""


def qfedavg(*, q: float) -> Algorithm:
    """Build q-FedAvg.

    Args:
        q: >= 0, how much more the worst served count.
    """

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        if given.records is None:
            raise ValueError("Expected the training records, which an institution has at hand.")
        # Before the training: of the model that came
        loss = max(_LEAST_LOSS, mean_loss(given.records))
        update = train(given.params)
        power, lipschitz = loss**q, 1.0 / given.learning_rate
        weight = power + q * loss ** (q - 1.0) * lipschitz * given.square_fn(update)
        return ClientResult(
            update={name: value * power for name, value in update.items()},
            extra={_WEIGHT: weight / FIGURE_UNIT},
        )

    return Algorithm(client=client, server=_server, returned_shapes=_returned_shapes)


def mean_loss(records: Records) -> float:
    """Return the mean loss of the model on all training records."""
    with no_grad():
        sums = [
            records.losses_fn(records.outputs_fn(batch), batch).double().sum()
            for batch in records.batches()
        ]
    return float(sum(sums)) / len(records.examples)


def _server(given: ServerRound, step: StepFn) -> ServerResult:
    weight = float(given.extra[_WEIGHT]) * FIGURE_UNIT
    if weight <= 0:
        raise RunFailedError(
            f"q-FedAvg: institutions' weights have mean {weight:g}, expected > 0: one of them does"
            " not follow the algorithm. Go on without it, or choose a robust rule."
        )
    return step({name: value / weight for name, value in given.update.items()})


def _returned_shapes(shapes: Shapes) -> Shapes:
    return {_WEIGHT: (1,)}


__all__ = ["mean_loss", "qfedavg"]
