"""FedNova: updates are normalised by the local work that is in them.

Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
NeurIPS 2020 (arXiv 2007.07481), section 4. After K local steps an update is ``-learning_rate``
times a sum of gradients with weights ``a``; whoever takes more steps would pull the model towards
its own optimum. Client k sends ``update / |a|_1`` and ``|a|_1``, the server adds the mean of the
first times the mean of the second, the effective number of steps.

Without momentum ``|a|_1 = K``; with momentum rho the gradient that j steps, its own included,
follow has weight ``(1 - rho^j) / (1 - rho)`` (section 3, there for momentum that starts at 0 in
each round, as it does here).

Each client tells the steps that it took, however many they are. Their number follows from the plan
and from the number of records, which is public: under DP-SGD all of it is post-processing. With
``client.steps_within_s`` it follows from time as well, which noise does not cover.
"""

import torch

from confide.config.client import gradient_weights
from confide.protocol.tensors import Shapes
from confide.strategies.algorithm import (
    FIGURE_UNIT,
    Algorithm,
    ClientResult,
    ClientRound,
    ServerResult,
    ServerRound,
    StepFn,
    TrainFn,
)

_STEPS = "steps"


def fednova() -> Algorithm:
    """Build FedNova."""
    return Algorithm(client=_client, server=_server, returned_shapes=_returned_shapes)


def _client(given: ClientRound, train: TrainFn) -> ClientResult:
    trained = train(given.params)
    work = sum(gradient_weights(given.steps_taken, given.momentum))
    update = {name: value / work for name, value in trained.items()}
    return ClientResult(update=update, extra={_STEPS: torch.tensor([work / FIGURE_UNIT])})


def _server(given: ServerRound, step: StepFn) -> ServerResult:
    effective = float(given.extra[_STEPS]) * FIGURE_UNIT
    if given.plan is not None:
        # What institutions say multiplies everybody's step: no more than was planned is believed
        client = given.plan.client
        planned = max(client.planned_steps(count) for count in given.cohort)
        largest = sum(gradient_weights(planned, client.optimizer.momentum))
        effective = min(max(effective, 1.0), largest)
    return step({name: value * effective for name, value in given.update.items()})


def _returned_shapes(shapes: Shapes) -> Shapes:
    return {_STEPS: (1,)}


__all__ = ["fednova"]
