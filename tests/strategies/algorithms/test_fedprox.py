import pytest
import torch
from small_strategies import changed_gradients, compose_strategy, hook_of
from torch import nn

from confide.config.strategies.strategy import FedProxConfig, ObjectiveConfig
from confide.strategies.algorithm import GradientFn, local_steps
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.algorithms.fedprox import fedprox
from confide.strategies.parts import build_algorithm

START = [torch.tensor([1.0, 1.0]), torch.tensor(2.0)]


def moved() -> list[nn.Parameter]:
    params = [nn.Parameter(torch.tensor([3.0, 0.0])), nn.Parameter(torch.tensor(2.0))]
    params[0].grad, params[1].grad = torch.tensor([10.0, 20.0]), torch.tensor(30.0)
    return params


def proximal(mu: float) -> GradientFn:
    return hook_of(fedprox(proximal_mu=mu), {"w": START[0]}, {}, {})


def grads(params: list[nn.Parameter]) -> list[object]:
    return [param.grad.tolist() for param in params if param.grad is not None]


def test_proximal_term_adds_mu_times_the_way_from_the_global_model() -> None:
    params = moved()
    changed_gradients(proximal(0.5), params, START)
    assert grads(params) == [[11.0, 19.5], 30.0]


def test_proximal_gradient_is_that_of_the_penalty() -> None:
    params, mu = moved(), 0.3
    penalty = sum(
        (mu / 2 * (p - anchor).square().sum() for p, anchor in zip(params, START, strict=True)),
        torch.tensor(0.0),
    )
    expected = torch.autograd.grad(penalty, params)
    for param in params:
        param.grad = torch.zeros_like(param)
    changed_gradients(proximal(mu), params, START)
    for param, gradient in zip(params, expected, strict=True):
        torch.testing.assert_close(param.grad, gradient)


def test_proximal_term_with_mu_zero_adds_nothing() -> None:
    params = moved()
    changed_gradients(proximal(0.0), params, START)
    assert grads(params) == [[10.0, 20.0], 30.0]


def test_proximal_term_leaves_the_tensors_and_the_anchor_alone() -> None:
    params = moved()
    changed_gradients(proximal(0.5), params, START)
    assert params[0].tolist() == [3.0, 0.0]
    assert START[0].tolist() == [1.0, 1.0]


def test_tensors_and_anchors_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        changed_gradients(proximal(0.5), moved(), START[:1])


def test_fedprox_is_fedavg_with_another_objective() -> None:
    composed = compose_strategy("strategy=fedprox", "strategy.objective.proximal_mu=0.25")
    assert composed.objective == FedProxConfig(proximal_mu=0.25)
    assert composed.server_optimizer == fedavg().server_optimizer
    assert composed.aggregator == fedavg().aggregator
    assert fedavg().objective == ObjectiveConfig(kind="plain")


def test_plain_clients_take_local_steps_and_nothing_else() -> None:
    assert build_algorithm(ObjectiveConfig()).client is local_steps
