"""Local objectives: what a client minimises beside the mean loss of its records.

Under DP-SGD the extra gradient is added after clipping and noise: it depends on the global and the
current tensors alone, never on a record, so it is post-processing and costs no privacy.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from confide.config.strategy import ObjectiveConfig
from confide.protocol.tensors import Shapes, Tensors
from confide.strategies.feddyn import Dynamic, next_gradient
from confide.strategies.fedprox import Proximal


class LocalObjective(Protocol):
    """What is added to the gradient of the mean loss."""

    def add_gradient(self, params: Sequence[nn.Parameter], start: Sequence[Tensor]) -> None:
        """Add to each ``param.grad`` in place.

        Args:
            params: current tensors, with gradients.
            start: the global tensors the round began with, in the same order.
        """


def local_objective(config: ObjectiveConfig, kept: Sequence[Tensor] = ()) -> LocalObjective | None:
    """Map a plan's word to the institution's own code; None adds nothing to the mean loss.

    Args:
        config: the plan's word.
        kept: what the institution kept from its last round, in the order of the parameters; see
            :func:`keeps_state`.
    """
    if config.kind == "fedprox":
        return Proximal(proximal_mu=config.proximal_mu)
    if config.kind == "feddyn":
        return Dynamic(alpha=config.alpha, gradient=kept)
    return None


def keeps_state(config: ObjectiveConfig) -> bool:
    """Say whether an institution keeps tensors between its rounds."""
    return config.kind == "feddyn"


def first_state(shapes: Shapes) -> Tensors:
    """Return what an institution keeps before its first round."""
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def next_state(config: ObjectiveConfig, kept: Tensors, update: Tensors) -> Tensors:
    """Return what an institution keeps after a round.

    Args:
        config: the plan's word.
        kept: before the round.
        update: of the round, as released: nothing kept depends on records otherwise.
    """
    return next_gradient(kept, update, alpha=config.alpha)


__all__ = ["LocalObjective", "first_state", "keeps_state", "local_objective", "next_state"]
