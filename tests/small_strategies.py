"""Strategies as runs compose them, and algorithms driven by hand."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn, zeros_like

from confide.config.composing.compose import compose
from confide.config.strategies.strategy import SERVER_OPTIMIZERS, ServerOptimizerConfig
from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import (
    Algorithm,
    ClientResult,
    ClientRound,
    GradientFn,
    Participation,
    Step,
)
from confide.strategies.build import build_strategy
from confide.strategies.composed import Strategy
from confide.strategies.parts import build_part
from confide.strategies.strategy import ServerOptimizer

EVERYBODY = Participation(asked=("a", "b"), accepted=("a", "b"), num_clients=2)
GradientOf = Callable[[Tensors], Tensors]


def compose_strategy(*overrides: str) -> Strategy:
    """Build a strategy from overrides, as a run does."""
    built = build_strategy(compose(["experiment=heart_disease", *overrides]).strategy)
    assert isinstance(built, Strategy)
    return built


def server_optimizer(config: ServerOptimizerConfig) -> ServerOptimizer:
    """Build a server optimizer from its config."""
    built: ServerOptimizer = build_part(SERVER_OPTIMIZERS[config.kind], config)
    return built


def took_part(accepted: Sequence[object], num_clients: int) -> Participation:
    """Write down a round in which everybody who was asked answered."""
    names = [str(one) for one in accepted]
    return Participation(asked=names, accepted=names, num_clients=num_clients)


def changed_gradients(
    change: GradientFn, params: Sequence[nn.Parameter], start: Sequence[Tensor]
) -> list[Tensor]:
    """Call a gradient hook, and return the gradients after it."""
    change(Step(params=params, start=start, model=nn.Identity()))
    return [param.grad for param in params if param.grad is not None]


def hook_of(algorithm: Algorithm, params: Tensors, kept: Tensors, extra: Tensors) -> GradientFn:
    """Return the gradient hook that a client part hands to its training."""
    seen: list[GradientFn | None] = []

    def train(start: Tensors, change_gradient: GradientFn | None = None) -> Tensors:
        seen.append(change_gradient)
        return {name: zeros_like(value) for name, value in start.items()}

    algorithm.client(given(params, kept=kept, extra=extra), train)
    assert seen[0] is not None
    return seen[0]


def given(
    params: Tensors,
    *,
    kept: Tensors | None = None,
    extra: Tensors | None = None,
    steps: int = 1,
    learning_rate: float = 0.1,
) -> ClientRound:
    """Write down what a client part knows."""
    return ClientRound(
        params=params,
        extra=extra or {},
        kept=kept or {},
        steps=steps,
        learning_rate=learning_rate,
        place_fn=lambda tensors: [tensors[name] for name in params],
    )


def local_sgd(algorithm: Algorithm, known: ClientRound, gradient_of: GradientOf) -> ClientResult:
    """Run a client part on a loss whose gradient is given, by plain gradient descent."""

    def train(start: Tensors, change_gradient: GradientFn | None = None) -> Tensors:
        params = {name: nn.Parameter(value.clone()) for name, value in start.items()}
        anchors = list(start.values())
        for _ in range(known.steps):
            gradients = gradient_of({name: p.detach() for name, p in params.items()})
            for name, param in params.items():
                param.grad = gradients[name].clone()
            if change_gradient is not None:
                step = Step(params=list(params.values()), start=anchors, model=nn.Identity())
                change_gradient(step)
            for param in params.values():
                assert param.grad is not None
                param.data -= known.learning_rate * param.grad
        return {name: param.detach() - start[name] for name, param in params.items()}

    return algorithm.client(known, train)
