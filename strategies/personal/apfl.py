"""APFL: each institution predicts with a mixture of a model of its own and the federated one.

Deng, Kamani and Mahdavi, "Adaptive Personalized Federated Learning", 2020 (arXiv 2003.13461),
algorithm 1, with one alpha for all institutions and rounds, which the paper's section 4 also has.
Client k keeps ``v_k``, which starts at the first global tensors it is sent. With ``w_0`` the global
tensors and ``w_t`` its local model after t steps of FedAvg, step t takes
``v_k -= learning_rate * alpha * gradient(alpha v_k + (1 - alpha) w_t)``. It sends
``w_K - w_0`` and predicts with ``alpha v_k + (1 - alpha) w``, w being the global tensors. With
alpha 0 that is FedAvg, with alpha 1 what it would train alone.

The paper takes both gradients of a step on one batch; here the steps of w come first, and those of
v on batches of their own. The way of w is kept in memory for the second training: K times the
trained tensors.

Under DP-SGD both trainings read records: a round is charged for twice its local steps, and the
noise of both is calibrated for that.
"""

import itertools

from torch import Tensor

from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import Algorithm, ClientResult, ClientRound, Step, TrainFn


def apfl(*, alpha: float) -> Algorithm:
    """Build APFL.

    Args:
        alpha: weight of an institution's own model, in [0, 1].
    """

    def mixed(params: Tensors, kept: Tensors) -> Tensors:
        return {name: _mixture(own, params[name], alpha) for name, own in kept.items()}

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        way: list[list[Tensor]] = []

        def remember(step: Step) -> None:
            way.append([param.detach().clone() for param in step.params])

        update = train(given.params, remember)
        way.append(given.place_fn({name: given.params[name] + update[name] for name in update}))
        own = [value.clone() for value in given.place_fn(given.kept)]
        at = itertools.count(1)

        def along(step: Step) -> None:
            # The optimizer steps by -learning_rate * gradient, and is to arrive at the next mixture
            for param, v, w in zip(step.params, own, way[next(at)], strict=True):
                assert param.grad is not None
                v.sub_(param.grad, alpha=given.learning_rate * alpha)
                param.grad = (param.detach() - _mixture(v, w, alpha)) / given.learning_rate

        train(mixed(given.params, given.kept), along)
        # An update has the trainer's order, as its parameters have
        kept = {name: v.cpu() for name, v in zip(update, own, strict=True)}
        return ClientResult(update=update, kept=kept)

    return Algorithm(
        client=client,
        first_kept=dict,
        starts_of=lambda params, kept: (params, mixed(params, kept)),
        predict_with=mixed,
    )


def _mixture(own: Tensor, shared: Tensor, alpha: float) -> Tensor:
    return alpha * own + (1.0 - alpha) * shared


__all__ = ["apfl"]
