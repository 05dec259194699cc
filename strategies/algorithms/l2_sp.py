"""L2-SP: a penalty holds a model near the one that its run started from, so that it forgets less.

Li, Grandvalet and Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional
Networks", ICML 2018 (PMLR 80, arXiv 1802.01483), equation 2. Clients minimise
``F_k(w) + alpha / 2 ||w - w_0||^2``, where w_0 are the tensors that the run began with: those that
an earlier run released (``backbone=run``), or of a pretrained backbone that is tuned whole, its
weights. The paper's second term, a penalty of layers that are new, is the optimizer's weight decay.
The server is FedAvg's.

FedProx holds clients near the global model of the round, which itself may go anywhere; here the
anchor is the same in all rounds. It is the server part's state and travels beside the tensors of
each round, so that an institution keeps nothing: one that joins late, or lost its disk, has it too.
No record is needed for it, old ones neither.

The extra gradient depends on the current tensors and the anchor alone, never on a record: under
DP-SGD, where it is added after clipping and noise, it is post-processing.
"""

from dataclasses import replace
from typing import TypeVar

from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    ServerResult,
    ServerRound,
    Step,
    StepFn,
    TrainFn,
)

_T = TypeVar("_T")


def l2_sp(*, alpha: float) -> Algorithm:
    """Build L2-SP.

    Args:
        alpha: weight of the penalty, >= 0; with 0 L2-SP is FedAvg.
    """

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        # Once a round: a step must not wait for a transfer to the device
        anchors = given.place_fn(given.extra)

        def add_gradient(step: Step) -> None:
            for param, anchor in zip(step.params, anchors, strict=True):
                # Not through autograd: under DP-SGD the gradient is clipped and noised by now
                assert param.grad is not None
                param.grad.add_(param.detach() - anchor, alpha=alpha)

        return ClientResult(update=train(given.params, add_gradient))

    return Algorithm(
        client=client,
        server=_server,
        first_state=_copied,
        sent_fn=_as_it_is,
        sent_shapes=_as_it_is,
    )


def _server(given: ServerRound, step: StepFn) -> ServerResult:
    return replace(step(given.update), state=given.state)


def _copied(tensors: Tensors) -> Tensors:
    # Memory of its own: a file of tensors holds none twice
    return {name: value.clone() for name, value in tensors.items()}


def _as_it_is(what: _T) -> _T:
    # The state is the anchor: the tensors that the run began with, all of which travel
    return what


__all__ = ["l2_sp"]
