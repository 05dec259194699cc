import torch
from small_strategies import changed_gradients, compose_strategy, hook_of
from torch import nn

from confide.config.strategies.drift import L2SpConfig
from confide.strategies.algorithm import Participation, ServerResult, ServerRound
from confide.strategies.algorithms.l2_sp import l2_sp
from confide.strategies.parts import build_algorithm

BEGAN = torch.tensor([1.0, 1.0])
ROUND = torch.tensor([5.0, 5.0])


def moved() -> list[nn.Parameter]:
    param = nn.Parameter(torch.tensor([3.0, 0.0]))
    param.grad = torch.tensor([10.0, 20.0])
    return [param]


def test_penalty_pulls_to_where_the_run_began_and_not_to_the_round() -> None:
    params = moved()
    hook = hook_of(l2_sp(alpha=0.5), {"w": ROUND}, {}, {"w": BEGAN})
    changed_gradients(hook, params, [ROUND])
    assert params[0].grad is not None
    assert params[0].grad.tolist() == [11.0, 19.5]


def test_penalty_with_alpha_zero_adds_nothing() -> None:
    params = moved()
    changed_gradients(hook_of(l2_sp(alpha=0.0), {"w": ROUND}, {}, {"w": BEGAN}), params, [ROUND])
    assert params[0].grad is not None
    assert params[0].grad.tolist() == [10.0, 20.0]


def test_every_round_sends_the_tensors_that_the_run_began_with() -> None:
    strategy = compose_strategy("strategy=l2_sp")
    state = strategy.init({"w": BEGAN})
    later = strategy.request({"w": ROUND}, state)
    assert {name: value.tolist() for name, value in later.items()} == {
        "w": [5.0, 5.0],
        "extra/w": [1.0, 1.0],
    }


def test_the_server_part_keeps_the_anchor() -> None:
    algorithm = build_algorithm(L2SpConfig(alpha=0.1))
    given = ServerRound(
        params={"w": ROUND},
        update={"w": BEGAN},
        extra={},
        state=algorithm.first_state({"w": BEGAN}),
        participation=Participation(asked=["a"], accepted=["a"], num_clients=1),
    )
    after = algorithm.server(
        given, lambda update: ServerResult(params={"w": ROUND + update["w"]}, optimizer_state={})
    )
    assert after.params["w"].tolist() == [6.0, 6.0]
    assert after.state["w"].tolist() == [1.0, 1.0]
