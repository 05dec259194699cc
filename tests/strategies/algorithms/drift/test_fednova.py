"""FedNova by hand, and what it is for: unequal local work."""

import pytest
import torch
from small_strategies import compose_strategy, given, local_sgd, round_of
from torch import Tensor

from confide.config.client import gradient_weights
from confide.config.composing.compose import compose
from confide.errors import ConfigError
from confide.protocol.tensors import Tensors
from confide.strategies.algorithm import ClientResult
from confide.strategies.algorithms.drift.fednova import fednova
from confide.strategies.composed import Strategy

START = {"w": torch.zeros(1)}


def towards(optimum: float, params: Tensors) -> Tensors:
    """Return the gradient of (w - optimum)^2 / 2."""
    return {name: value - optimum for name, value in params.items()}


def answer(
    optimum: float, steps: int, params: Tensors = START, *, momentum: float = 0.0, rate: float = 0.1
) -> ClientResult:
    known = given(params, steps=steps, learning_rate=rate, momentum=momentum)
    return local_sgd(fednova(), known, lambda at: towards(optimum, at))


def sent(update: float, work: float) -> ClientResult:
    return ClientResult(
        update={"w": torch.tensor([update])}, extra={"steps": torch.tensor([work / 1024])}
    )


def value(tensors: Tensors) -> float:
    return float(tensors["w"])


def strategy() -> Strategy:
    return compose_strategy("strategy=fednova")


def test_a_client_part_by_hand() -> None:
    # Gradient 2 everywhere: two steps of 0.1 go 0.4 down, 0.2 a step.
    known = given(START, steps=2, learning_rate=0.1)
    result = local_sgd(fednova(), known, lambda _: {"w": torch.tensor([2.0])})
    assert value(result.update) == pytest.approx(-0.2, abs=1e-7)
    assert float(result.extra["steps"]) * 1024 == 2.0


def test_with_momentum_a_client_counts_what_each_gradient_weighs() -> None:
    # Three steps, rho 0.5: the gradients weigh 1.75, 1.5 and 1, together 4.25.
    known = given(START, steps=3, learning_rate=0.1, momentum=0.5)
    result = local_sgd(fednova(), known, lambda _: {"w": torch.tensor([2.0])})
    assert list(gradient_weights(3, 0.5)) == [1.0, 1.5, 1.75]
    assert float(result.extra["steps"]) * 1024 == pytest.approx(4.25)
    # A constant gradient: normalised, the update is one plain step
    assert value(result.update) == pytest.approx(-0.2, abs=1e-7)


def test_a_server_part_by_hand() -> None:
    # Weights 1 and 3: mean of -0.2 and 0.2 is 0.1, of 2 and 4 steps 3.5.
    params, _ = round_of(strategy(), START, [(1, sent(-0.2, 2)), (3, sent(0.2, 4))])
    assert value(params) == pytest.approx(0.35, abs=1e-6)


def test_order_of_arrival_does_not_matter() -> None:
    answers = [(count, answer(float(count), 2 * count)) for count in (1, 3, 5)]
    one, other = (round_of(strategy(), START, found)[0] for found in (answers, answers[::-1]))
    assert one["w"].equal(other["w"])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equal_work_is_fedavg(momentum: float) -> None:
    plain = compose_strategy("strategy=fedavg", "client.optimizer.kind=sgd")
    optima = {1: 2.0, 3: -1.0, 5: 4.0}
    known = given(START, steps=7, momentum=momentum)
    averaged = [
        (count, local_sgd(plain.algorithm, known, lambda at, to=to: towards(to, at)))  # type: ignore[misc]
        for count, to in optima.items()
    ]
    normalised = [(count, answer(to, 7, momentum=momentum)) for count, to in optima.items()]
    expected, _ = round_of(plain, START, averaged)
    found, _ = round_of(strategy(), START, normalised)
    assert value(found) == pytest.approx(value(expected), abs=1e-6)


def fixed_point(composed: Strategy, *, normalised: bool) -> float:
    """Run two clients of one weight and curvature, at 0 and 1, with 1 and 10 steps."""
    params: Tensors = START
    for _ in range(600):
        answers = [
            answer(0.0, 1, params, rate=0.005),
            answer(1.0, 10, params, rate=0.005),
        ]
        if not normalised:
            answers = [plain_of(one) for one in answers]
        params, _ = round_of(composed, params, [(1, answers[0]), (1, answers[1])])
    return value(params)


def plain_of(result: ClientResult) -> ClientResult:
    work: Tensor = result.extra["steps"] * 1024
    return ClientResult(update={name: one * work for name, one in result.update.items()})


def test_unequal_work_moves_fedavgs_optimum_and_not_fednovas() -> None:
    # The optimum of both is 1/2; FedAvg's fixed point is that of weights 1 and 10.
    averaged = fixed_point(compose_strategy("strategy=fedavg"), normalised=False)
    found = fixed_point(strategy(), normalised=True)
    assert averaged == pytest.approx(10 / 11, abs=0.01)
    assert found == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["client.optimizer.kind=adam"], r"kind=fednova takes the update .*set client\.optimizer"),
        (["strategy/aggregator=krum"], r"kind=krum: a robust rule sees an update and the figures"),
        (
            ["strategy/timing=fedbuff", "strategy.timing.concurrency=2"],
            r"objective\.kind=fednova: .* set strategy/objective=plain or fedprox",
        ),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=heart_disease", "strategy=fednova", *overrides])
