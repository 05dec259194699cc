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

from dataclasses import replace

from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    ServerResult,
    ServerRound,
    Step,
    StepFn,
    TrainFn,
    zeros_of,
)


def feddyn(*, alpha: float) -> Algorithm:
    """Build FedDyn.

    Args:
        alpha: weight of the quadratic term, > 0.
    """

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        # Once a round: a step must not wait for a transfer to the device.
        gradients = given.place_fn(given.kept)

        def change_gradient(step: Step) -> None:
            for param, anchor, kept in zip(step.params, step.start, gradients, strict=True):
                assert param.grad is not None
                param.grad.add_(param.detach() - anchor, alpha=alpha).sub_(kept)

        update = train(given.params, change_gradient)
        # Of the update as it is sent, noise and all: what is kept costs no privacy of its own
        kept = {name: value - alpha * update[name] for name, value in given.kept.items()}
        return ClientResult(update=update, kept=kept)

    return Algorithm(client=client, server=_server, first_kept=zeros_of, first_state=zeros_of)


def _server(given: ServerRound, step: StepFn) -> ServerResult:
    # h sums over all clients, and the update is a mean over those who took part.
    share = given.participation.share
    correction = {name: h + share * given.update[name] for name, h in given.state.items()}
    # The optimizer never sees the correction, which is no gradient and must not enter a momentum
    stepped = step(given.update)
    params = {name: value + correction[name] for name, value in stepped.params.items()}
    return replace(stepped, params=params, state=correction)


__all__ = ["feddyn"]
