"""Server optimizers: how the mean update, read as a negative gradient, changes the global tensors.

Adam, Yogi and Adagrad follow Reddi et al., "Adaptive Federated Optimization", ICLR 2021 (arXiv
2003.00295), algorithm 2: no bias correction, tau outside the root, ``v`` starts at tau^2. State is
a flat dict of named tensors, so that a checkpoint holds it as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import prefixed, zeros_of

_FIRST, _SECOND = "first_moment/", "second_moment/"


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """``x += learning_rate * m`` with ``m = momentum * m + update``.

    FedAvg with learning_rate 1 and momentum 0; FedAvgM otherwise (Hsu et al. 2019, arXiv
    1909.06335).
    """

    learning_rate: float
    momentum: float

    def init(self, params: Tensors) -> Tensors:
        """Return a zero momentum, or nothing without momentum."""
        if not self.momentum:
            return {}
        return prefixed(_FIRST, zeros_of(params))

    def apply(self, params: Tensors, update: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Step once."""
        # Without momentum there is no state, so that FedAvg's checkpoints stay small.
        direction, after = update, {}
        if self.momentum:
            direction = {
                name: self.momentum * state[_FIRST + name] + update[name] for name in params
            }
            after = prefixed(_FIRST, direction)
        stepped = {
            name: value + self.learning_rate * direction[name] for name, value in params.items()
        }
        return stepped, after


SecondMoment = Callable[[Tensor, Tensor], Tensor]
"""(v, squared update) -> new v."""


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """``m = beta1 m + (1 - beta1) update``; ``x += learning_rate * m / (sqrt(v) + tau)``.

    Attributes:
        second_moment_fn: what tells Adam, Yogi and Adagrad apart.
        learning_rate: eta.
        beta1: decay of the first moment.
        tau: degree of adaptivity.
    """

    second_moment_fn: SecondMoment
    learning_rate: float
    beta1: float
    tau: float

    def init(self, params: Tensors) -> Tensors:
        """Return m = 0 and v = tau^2."""
        # tau^2 and not 0: the first step divides by a root, with no correction of its bias
        squares = {name: torch.full_like(value, self.tau**2) for name, value in params.items()}
        return prefixed(_FIRST, zeros_of(params)) | prefixed(_SECOND, squares)

    def apply(self, params: Tensors, update: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Step once."""
        stepped: Tensors = {}
        after: Tensors = {}
        for name, value in params.items():
            # Out of place: the round's own tensors may still be asked for, by the algorithm
            first = self.beta1 * state[_FIRST + name] + (1 - self.beta1) * update[name]
            second = self.second_moment_fn(state[_SECOND + name], update[name].square())
            stepped[name] = value + self.learning_rate * first / (second.sqrt() + self.tau)
            after[_FIRST + name] = first
            after[_SECOND + name] = second
        return stepped, after


def adam(*, learning_rate: float, beta1: float, beta2: float, tau: float) -> Adaptive:
    """FedAdam: ``v = beta2 v + (1 - beta2) update^2``.

    Flower's FedAdam starts v at 0 and corrects the bias of both moments by Kingma and Ba's factor;
    the paper does neither.
    """
    return Adaptive(
        second_moment_fn=lambda v, squared: beta2 * v + (1 - beta2) * squared,
        learning_rate=learning_rate,
        beta1=beta1,
        tau=tau,
    )


def yogi(*, learning_rate: float, beta1: float, beta2: float, tau: float) -> Adaptive:
    """FedYogi: ``v -= (1 - beta2) update^2 sign(v - update^2)``. Flower's starts v at 0."""
    return Adaptive(
        second_moment_fn=lambda v, squared: v - (1 - beta2) * squared * (v - squared).sign(),
        learning_rate=learning_rate,
        beta1=beta1,
        tau=tau,
    )


def adagrad(*, learning_rate: float, beta1: float, tau: float) -> Adaptive:
    """FedAdagrad: ``v += update^2``.

    Flower's starts v at 0; with beta1 = 0 and v = 0 the two agree.
    """
    return Adaptive(
        second_moment_fn=lambda v, squared: v + squared,
        learning_rate=learning_rate,
        beta1=beta1,
        tau=tau,
    )


__all__ = ["Adaptive", "Sgd", "adagrad", "adam", "yogi"]
