"""FedPer and FedBN: some layers stay at each institution, all others are federated.

- FedPer: Arivazhagan et al., "Federated Learning with Personalization Layers", 2019 (arXiv
  1912.00818), algorithm 1, with the head as the one personal layer.
- FedBN: Li et al., "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization",
  ICLR 2021 (arXiv 2102.07623), algorithm 1. Models here have no BatchNorm, whose statistics would
  mix records; what stays is the weight and bias of every norm they have, such as LayerNorm.

Client k trains all layers from the global ones and its own, sends the update of the global ones,
and keeps its own. The server averages as FedAvg does. What stays is not in an update: the
coordinator is sent nothing of it. Its own tensors of these names never change, and are what an
institution starts from in its first round.

Under DP-SGD one training is noised as a whole, so that what is kept costs nothing more.
"""

import re
from collections.abc import Callable, Collection

from confide.errors import ModelError
from confide.protocol.tensors import Shapes, Tensors, shapes_of
from confide.strategies.algorithm import (
    Algorithm,
    ClientFn,
    ClientResult,
    ClientRound,
    ServerResult,
    ServerRound,
    StepFn,
    TrainFn,
    zeros_of,
)

NamesFn = Callable[[Shapes], Collection[str]]
"""A model's trained tensors, by name -> the names of those that stay at institutions."""

_LAYER = re.compile(r"layers\.(\d+)\.")
_WEIGHT, _BIAS = ".weight", ".bias"


def fedper() -> Algorithm:
    """Build FedPer."""
    return keeping(head_of)


def fedbn() -> Algorithm:
    """Build FedBN."""
    return keeping(norms_of)


def keeping(names_fn: NamesFn, client: ClientFn | None = None) -> Algorithm:
    """Build an algorithm by which some of the model's tensors stay at institutions.

    Args:
        names_fn: which.
        client: its client part; None for FedPer's.
    """

    def staying(shapes: Shapes) -> Collection[str]:
        return names_fn(shapes)

    def first_kept(params: Tensors) -> Tensors:
        return {name: params[name] for name in names_fn(shapes_of(params))}

    return Algorithm(
        client=client or _client,
        server=_server,
        first_kept=first_kept,
        staying=staying,
        starts_of=lambda params, kept: (params | kept,),
        predict_with=lambda params, kept: params | kept,
    )


def head_of(shapes: Shapes) -> Collection[str]:
    """Return the names of the last layer's tensors.

    Raises:
        ModelError: if there is none, or nothing beside it.
    """
    every = list(shapes)
    head = [name for name in every if name.startswith("head.")]
    if not head:  # a perceptron numbers its layers
        numbers = [int(found[1]) for name in every if (found := _LAYER.match(name))]
        last = f"layers.{max(numbers, default=0)}."
        head = [name for name in every if name.startswith(last)]
    return _some(head, every, "head")


def norms_of(shapes: Shapes) -> Collection[str]:
    """Return the names of the tensors of norms, by shape: names differ from family to family.

    The weight of a norm is a vector, and that of any other layer has a dimension more.

    Raises:
        ModelError: if there is none that is trained, or nothing beside them.
    """
    layers = {
        name.removesuffix(_WEIGHT)
        for name, shape in shapes.items()
        if name.endswith(_WEIGHT) and len(shape) == 1
    }
    own = {layer + end for layer in layers for end in (_WEIGHT, _BIAS)}
    return _some([name for name in shapes if name in own], list(shapes), "norms")


def _some(found: list[str], every: list[str], what: str) -> Collection[str]:
    if not found or len(found) == len(every):
        part = "nothing but its" if found else "no"
        raise ModelError(
            f"Of this model {part} {what} is trained ({', '.join(every[:4])}, ...), so that there"
            f" is nothing to divide into {what} that stay and layers that are shared; choose"
            " strategy=ditto, or train other tensors (tuning, backbone)."
        )
    return frozenset(found)


def shared_part(update: Tensors, kept: Tensors) -> Tensors:
    """Return an update without what stays."""
    return {name: value for name, value in update.items() if name not in kept}


def _client(given: ClientRound, train: TrainFn) -> ClientResult:
    update = train(given.params | given.kept)
    kept = {name: value + update[name] for name, value in given.kept.items()}
    return ClientResult(update=shared_part(update, kept), kept=kept)


def _server(given: ServerRound, step: StepFn) -> ServerResult:
    # No update of what stays ever comes
    return step(zeros_of(given.params) | given.update)


__all__ = ["fedbn", "fedper", "head_of", "keeping", "norms_of", "shared_part"]
