"""Local objectives: what a client minimises beside the mean loss of its records.

Under DP-SGD the extra gradient is added after clipping and noise: it depends on the global and the current tensors alone,
never on a record, so it is post-processing and costs no privacy.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor, nn

from confide.config import ObjectiveConfig
from confide.strategies.fedprox import Proximal


class LocalObjective(Protocol):
    """What is added to the gradient of the mean loss."""

    def add_gradient(self, params: Sequence[nn.Parameter], start: Sequence[Tensor]) -> None:
        """Add to each ``param.grad`` in place.

        Args:
            params: current tensors, with gradients.
            start: the global tensors the round began with, in the same order.
        """


_OBJECTIVES: dict[str, Callable[[ObjectiveConfig], LocalObjective | None]] = {
    "plain": lambda config: None,
    "fedprox": lambda config: Proximal(proximal_mu=config.proximal_mu),
}


def local_objective(config: ObjectiveConfig) -> LocalObjective | None:
    """Map a plan's word to the institution's own code; None adds nothing to the mean loss."""
    return _OBJECTIVES[config.kind](config)


__all__ = ["LocalObjective", "local_objective"]
