"""FedRep: each institution fits a head to the shared layers, and then the shared layers to it.

Collins et al., "Exploiting Shared Representations for Personalized Federated Learning", ICML 2021
(arXiv 2102.07078), algorithm 1. A round's first local steps move the head alone, the others the
layers below it alone. The head stays, as in :mod:`confide.strategies.personal.layers`; the server
averages the updates of the shared layers.

Here both are parts of one training of the round's K steps, so that it reads as many records as
FedAvg. Under DP-SGD the gradient of all layers is clipped and noised, and what has no turn is left
where it is: post-processing, at no cost.
"""

import itertools

from torch import tensor

from confide.strategies.algorithm import Algorithm, ClientResult, ClientRound, Step, TrainFn
from confide.strategies.personal.layers import head_of, keeping, shared_part


def fedrep(*, head_share: float) -> Algorithm:
    """Build FedRep.

    Args:
        head_share: share of a round's steps that train the head, in (0, 1).
    """

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        start, own = given.params | given.kept, given.kept
        # As the trainer orders its parameters, of which a turn may have but some
        flags = given.place_fn({name: tensor(float(name in own)) for name in start})
        is_head = [bool(flag) for flag in flags]
        first, taken = head_steps(given.steps, head_share), itertools.count()

        def one_part(step: Step) -> None:
            has_turn = next(taken) < first
            for param, in_head in zip(step.params, is_head, strict=True):
                if in_head != has_turn:
                    param.grad = None  # no momentum and no decay of weights moves it either

        update = train(start, one_part)
        kept = {name: value + update[name] for name, value in own.items()}
        return ClientResult(update=shared_part(update, kept), kept=kept)

    return keeping(head_of, client)


def head_steps(steps: int, share: float) -> int:
    """Return how many of a round's steps train the head: some, and not all.

    Args:
        steps: of the round, at least 1; with one step the shared layers have it.
        share: of them, in (0, 1).
    """
    return min(max(1, round(share * steps)), steps - 1)


__all__ = ["fedrep", "head_steps"]
