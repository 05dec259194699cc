"""Strategies as runs compose them, and algorithms driven by hand."""

from collections.abc import Callable, Sequence
from typing import Any

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
    join_extra,
    zeros_of,
)
from confide.strategies.build import build_strategy
from confide.strategies.composed import Strategy
from confide.strategies.parts import build_part
from confide.strategies.strategy import ClientUpdate, RoundStart, ServerOptimizer

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
    **more: Any,
) -> ClientRound:
    """Write down what a client part knows."""
    return ClientRound(
        **more,
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
        anchors, moved = list(start.values()), zeros_of(start)
        for _ in range(known.steps):
            gradients = gradient_of({name: p.detach() for name, p in params.items()})
            for name, param in params.items():
                param.grad = gradients[name].clone()
            if change_gradient is not None:
                step = Step(params=list(params.values()), start=anchors, model=nn.Identity())
                change_gradient(step)
            for name, param in params.items():
                assert param.grad is not None
                moved[name] = known.momentum * moved[name] + param.grad
                param.data -= known.learning_rate * moved[name]
        return {name: param.detach() - start[name] for name, param in params.items()}

    return algorithm.client(known, train)


def round_of(
    strategy: Strategy,
    params: Tensors,
    results: Sequence[tuple[int, ClientResult]],
    *,
    state: Tensors | None = None,
    server_round: int = 1,
    num_rounds: int = 1,
) -> tuple[Tensors, Tensors]:
    """Finish a round by clients' (number of records, result), in their order of arrival."""
    under_way = strategy.begin(
        RoundStart(
            params=params,
            state=strategy.init(params) if state is None else state,
            cohort=[count for count, _ in results],
            max_value=1024.0,
            server_round=server_round,
            num_rounds=num_rounds,
        )
    )
    names = [f"client {count}" for count, _ in results]
    for name, (count, result) in zip(names, results, strict=True):
        tensors = join_extra(result.update, result.extra)
        under_way.add(ClientUpdate(client=name, tensors=tensors, num_examples=count))
    return under_way.finish(took_part(names, len(names)))
