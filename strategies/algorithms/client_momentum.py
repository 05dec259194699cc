"""Momentum at the institutions: each sends a running mean of its updates.

Karimireddy, He and Jaggi, "Learning from History for Byzantine Robust Optimization", ICML 2021
(arXiv 2012.10333), section 4: ``m = (1 - momentum) * update + momentum * m``, with the first update
as it is, number by number: what was 0 in every update so far begins with the first that is not.
Hostile institutions hide in the spread of honest updates; over rounds it averages out, so that a
robust rule sees them better.

What is kept and sent is a function of updates: under DP-SGD, where these are noised, it costs
nothing.
"""

from torch import Tensor, where

from confide.strategies.algorithm import Algorithm, ClientResult, ClientRound, TrainFn, zeros_of


def client_momentum(*, momentum: float) -> Algorithm:
    """Build it.

    Args:
        momentum: weight of what was kept, in [0, 1); 0 is FedAvg.
    """

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        update = {
            name: _mixed(value, given.kept[name], momentum)
            for name, value in train(given.params).items()
        }
        return ClientResult(update=update, kept=update)

    return Algorithm(client=client, first_kept=zeros_of)


def _mixed(update: Tensor, kept: Tensor, momentum: float) -> Tensor:
    # By what is kept and not by the round: an institution may be asked for the first time in any
    return where(kept == 0, update, (1.0 - momentum) * update + momentum * kept)


__all__ = ["client_momentum"]
