"""Adam on mean gradients: one gradient an institution and round, steps at the coordinator.

FedSGD (McMahan et al. 2017, arXiv 1602.05629) with the server's step of FedAdam (Reddi et al. 2021,
arXiv 2003.00295, algorithm 2). Clients take one plain step of rate 1 on a sample of their records,
so that an update is minus a mean gradient, and their mean is that of a sample of all records: no
institution drifts, however unlike labels are, as with local steps it does. The run's model is the
mean over its last rounds (Polyak and Juditsky 1992): Adam's steps are as long at the end as before.

Under privacy updates are noised, and all that the coordinator does is post-processing.
"""

from dataclasses import replace

from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import (
    Algorithm,
    ServerResult,
    ServerRound,
    StepFn,
    prefixed,
    split_prefix,
    zeros_of,
)
from confide.strategies.algorithms.gradient_sum import averaged_model
from confide.strategies.server_optimizers import adam

_MEAN = "mean/"


def gradient_adam(
    *, learning_rate: float, beta1: float, beta2: float, tau: float, averaged: float
) -> Algorithm:
    """Build Adam on mean gradients.

    Args:
        learning_rate: eta > 0, about how far a parameter moves in a round.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        tau: added to the root of the second moment, > 0.
        averaged: share of the rounds, the last ones, whose mean is the run's model.
    """
    optimizer = adam(learning_rate=learning_rate, beta1=beta1, beta2=beta2, tau=tau)

    def server(given: ServerRound, step: StepFn) -> ServerResult:
        moments, mean = split_prefix(_MEAN, given.state)
        moved, moments = optimizer.apply(given.params, given.update, moments)
        stepped = step({name: moved[name] - value for name, value in given.params.items()})
        params, mean = averaged_model(given, stepped.params, mean, averaged=averaged)
        return replace(stepped, params=params, state=moments | prefixed(_MEAN, mean))

    def first_state(params: Tensors) -> Tensors:
        return optimizer.init(params) | prefixed(_MEAN, zeros_of(params))

    return Algorithm(server=server, first_state=first_state)


__all__ = ["gradient_adam"]
