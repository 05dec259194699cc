"""SCAFFOLD: control variates keep local steps on the federation's way.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020
(arXiv 1910.06378), algorithm 1 with option II. The server holds a control variate ``c``, client k
its own ``c_k``; both start at 0.

- Client: K steps of ``y -= learning_rate * (gradient - c_k + c)`` from ``y = x``; then
  ``c_k+ = c_k - c + (x - y) / (K * learning_rate)``. It sends ``y - x`` and ``c_k+ - c_k``, and
  keeps ``c_k+``.
- Server: ``x += server_learning_rate * mean(y - x)`` and
  ``c += |S| / N * mean(c_k+ - c_k)``, unweighted means over the clients S that took part, of N.

With option II ``c_k+`` is a function of the update, of ``c`` and of earlier updates: under DP-SGD,
where the update is noised, control variates are post-processing, at no cost.
"""

from dataclasses import replace
from typing import TypeVar

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

_T = TypeVar("_T")


def scaffold() -> Algorithm:
    """Build SCAFFOLD."""
    return Algorithm(
        client=_client,
        server=_server,
        first_kept=zeros_of,
        first_state=zeros_of,
        sent_fn=_as_it_is,
        sent_shapes=_as_it_is,
        returned_shapes=_as_it_is,
    )


def _client(given: ClientRound, train: TrainFn) -> ClientResult:
    server, own = given.extra, given.kept
    # c - c_k stays the same for all steps of a round.
    corrections = given.place_fn({name: c - own[name] for name, c in server.items()})

    def add_correction(step: Step) -> None:
        for param, correction in zip(step.params, corrections, strict=True):
            assert param.grad is not None
            param.grad.add_(correction)

    # Under privacy this may be called once, so everything else is made of what it returns
    update = train(given.params, add_correction)
    # x - y is minus the update.
    scale = 1.0 / (given.steps_taken * given.learning_rate)
    change = {name: -c - scale * update[name] for name, c in server.items()}
    kept = {name: c + change[name] for name, c in own.items()}
    return ClientResult(update=update, extra=change, kept=kept)


def _server(given: ServerRound, step: StepFn) -> ServerResult:
    # c is a mean over all clients; those who did not take part changed nothing.
    share = given.participation.share
    control = {name: c + share * given.extra[name] for name, c in given.state.items()}
    return replace(step(given.update), state=control)


def _as_it_is(what: _T) -> _T:
    # The state is the control variate, and one tensor for each of the model's travels either way
    return what


__all__ = ["scaffold"]
