"""IFCA: several models, of which each institution trains, and predicts with, the one that fits it.

Ghosh, Chung, Yin and Ramchandran, "An Efficient Framework for Clustered Federated Learning",
NeurIPS 2020 (arXiv 2006.04088), algorithm 1 with option II, which averages models. The coordinator
holds k models. An institution is sent all of them, finds the one with the least mean loss on its
training records, and trains that. It sends k updates, of which all others are zeros, and a vector
of length k that says which. With s_ij = 1 where institution i chose model j, and weights n_i,
``model_j += sum_i n_i s_ij update_i / sum_i n_i s_ij``; a model that nobody chose stays.

The first model is the run's own, the others are it with noise added: equal ones would never part.
The last round trains nothing. In it institutions choose among the models that came of the training,
and keep what they chose, and the run's tensors become the model whose institutions weigh most. In
earlier rounds an institution keeps, for scores, the model that it chose and was sent.

With k = 1 the rounds before the last are FedAvg's, bit for bit. k losses are as many passes over
all training records, and the choice follows from them without noise: refused under privacy.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from confide.protocol.tensors import Shapes, Tensors
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
    prefixed,
    split_prefix,
    zeros_of,
)
from confide.strategies.algorithms.drift.qfedavg import mean_loss

_CHOSEN = "chosen"  # no name of a slot, which has a slash


def ifca(*, clusters: int, start_spread: float, start_seed: int) -> Algorithm:
    """Build IFCA.

    Args:
        clusters: number k of models, >= 1.
        start_spread: standard deviation, > 0, of what is added to the first model's numbers to
            make the others.
        start_seed: of these draws, >= 0.
    """

    def first_state(params: Tensors) -> Tensors:
        generator = torch.Generator().manual_seed(start_seed)
        return _drawn(params, clusters, spread=start_spread, generator=generator)

    def client(given: ClientRound, train: TrainFn) -> ClientResult:
        if given.records is None:
            raise ValueError("Expected the training records, which an institution has at hand.")
        models = _models(given.params, given.extra, clusters)
        chosen = choice_of(models, given.records)
        idle = zeros_of(given.params)
        moved = idle if given.server_round == given.num_rounds else train(models[chosen])
        update, *others = (moved if number == chosen else idle for number in range(clusters))
        one_hot = torch.zeros(clusters)
        one_hot[chosen] = 1.0 / FIGURE_UNIT
        extra = {_CHOSEN: one_hot}
        for slot, other in zip(_slots(clusters), others, strict=True):
            extra |= prefixed(slot, other)
        return ClientResult(update=update, extra=extra, kept=models[chosen])

    def server(given: ServerRound, step: StepFn) -> ServerResult:
        shares = [FIGURE_UNIT * share for share in given.extra[_CHOSEN].tolist()]
        models = _models(given.params, given.state, clusters)
        updates = _models(given.update, given.extra, clusters)
        # Of a model that nobody chose the sum is zeros
        first, *others = (
            {name: value / (share or 1.0) for name, value in update.items()}
            for update, share in zip(updates, shares, strict=True)
        )
        stepped, state = step(first), dict[str, torch.Tensor]()
        for slot, model, moved in zip(_slots(clusters), models[1:], others, strict=True):
            state |= prefixed(slot, {name: value + moved[name] for name, value in model.items()})
        if given.plan is not None and given.server_round == given.plan.num_rounds:
            largest = models[shares.index(max(shares))]
            return replace(stepped, params=largest, state=state)
        return replace(stepped, state=state)

    def sent_shapes(shapes: Shapes) -> Shapes:
        return {slot + name: shape for slot in _slots(clusters) for name, shape in shapes.items()}

    return Algorithm(
        client=client,
        server=server,
        first_kept=dict,
        first_state=first_state,
        sent_fn=dict,
        sent_shapes=sent_shapes,
        returned_shapes=lambda shapes: sent_shapes(shapes) | {_CHOSEN: (clusters,)},
        predict_with=lambda params, kept: kept,
    )


def choice_of(models: Sequence[Tensors], records: Records) -> int:
    """Return the place of the model with the least mean loss on all records; of equals the first.

    Args:
        models: at least one; they are loaded into the records' model.
        records: training records.
    """
    losses = []
    for model in models:
        records.load_fn(model)
        loss = mean_loss(records)
        losses.append(math.inf if math.isnan(loss) else loss)
    return losses.index(min(losses))


def _drawn(params: Tensors, clusters: int, *, spread: float, generator: torch.Generator) -> Tensors:
    """Return all models but the first: the first with noise added."""
    state: Tensors = {}
    for slot in _slots(clusters):
        drawn = {
            name: value + spread * torch.randn(value.shape, generator=generator)
            for name, value in params.items()
        }
        state |= prefixed(slot, drawn)
    return state


def _slots(clusters: int) -> Iterator[str]:
    """Yield the prefix of each model's tensors but the first one's, which are the run's."""
    return (f"{number}/" for number in range(1, clusters))


def _models(first: Tensors, beside: Tensors, clusters: int) -> list[Tensors]:
    """Return all models, or their updates, of the first and what travels or lies beside it."""
    return [first, *(split_prefix(slot, beside)[1] for slot in _slots(clusters))]


__all__ = ["choice_of", "ifca"]
