"""FedProx: a proximal term holds each client near the global model.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020 (arXiv 1812.06127),
algorithm 2. Clients minimise ``F_k(w) + mu / 2 ||w - w_global||^2``; the server is FedAvg's.

The extra gradient depends on the current and the global tensors alone, never on a record: under
DP-SGD, where it is added after clipping and noise, it is post-processing.
"""

from confide.strategies.algorithm import Algorithm, ClientResult, ClientRound, Step, TrainFn


def fedprox(*, proximal_mu: float) -> Algorithm:
    """Build FedProx.

    Args:
        proximal_mu: mu >= 0; with 0 FedProx is FedAvg.
    """

    def add_proximal_gradient(step: Step) -> None:
        for param, anchor in zip(step.params, step.start, strict=True):
            # Not through autograd: under DP-SGD the gradient is clipped and noised by now.
            assert param.grad is not None
            param.grad.add_(param.detach() - anchor, alpha=proximal_mu)

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        return ClientResult(update=train(given.params, add_proximal_gradient))

    return Algorithm(client=client)


__all__ = ["fedprox"]
