import math

import pytest
import torch
from small_strategies import server_optimizer
from torch import Tensor

from confide.config.strategies.server_optimizers import (
    AdagradConfig,
    AdamConfig,
    ServerOptimizerConfig,
    SgdConfig,
    YogiConfig,
)

ETA, TAU = 0.1, 1e-3
FIRST_UPDATE, SECOND_UPDATE = 0.5, 0.02
FIRST_M, SECOND_M = 0.05, 0.047  # 0.9 * 0 + 0.1 * 0.5, then 0.9 * 0.05 + 0.1 * 0.02

# v starts at tau^2 = 1e-6; squared updates are 0.25 and 0.0004.
SECOND_MOMENTS = {
    "adam": (AdamConfig(), 0.99e-6 + 0.0025, 0.99 * (0.99e-6 + 0.0025) + 0.000004),
    "yogi": (
        YogiConfig(),
        1e-6 + 0.0025,
        1e-6 + 0.0025 - 0.000004,
    ),  # the second update is smaller than v
    "adagrad": (AdagradConfig(), 1e-6 + 0.25, 1e-6 + 0.25 + 0.0004),
}
EVERY: dict[str, ServerOptimizerConfig] = {
    "sgd": SgdConfig(),
    "momentum": SgdConfig(momentum=0.9),
    "adam": AdamConfig(),
    "yogi": YogiConfig(),
    "adagrad": AdagradConfig(),
}


def run(config: ServerOptimizerConfig, *updates: float) -> tuple[list[float], dict[str, Tensor]]:
    optimizer = server_optimizer(config)
    params = {"w": torch.tensor([1.0])}
    state, path = optimizer.init(params), []
    for update in updates:
        params, state = optimizer.apply(params, {"w": torch.tensor([update])}, state)
        path.append(params["w"].item())
    return path, state


def test_sgd_adds_the_update_times_the_learning_rate() -> None:
    path, state = run(SgdConfig(learning_rate=0.5), 0.5, 0.02)
    assert path == pytest.approx([1.25, 1.26])
    assert state == {}


def test_sgd_by_default_adds_the_update() -> None:
    assert run(SgdConfig(), 0.5, 0.25)[0] == [1.5, 1.75]


def test_momentum_accumulates_updates() -> None:
    path, state = run(SgdConfig(learning_rate=0.5, momentum=0.9), 0.5, 0.02)
    assert path == pytest.approx([1.25, 1.25 + 0.5 * (0.9 * 0.5 + 0.02)])
    assert state["first_moment/w"].item() == pytest.approx(0.47)


@pytest.mark.parametrize("kind", SECOND_MOMENTS)
def test_adaptive_steps_follow_algorithm_2(kind: str) -> None:
    optimizer, first_v, second_v = SECOND_MOMENTS[kind]
    path, state = run(optimizer, FIRST_UPDATE, SECOND_UPDATE)
    first = 1.0 + ETA * FIRST_M / (math.sqrt(first_v) + TAU)
    second = first + ETA * SECOND_M / (math.sqrt(second_v) + TAU)
    assert path == pytest.approx([first, second], rel=1e-6)
    assert state["first_moment/w"].item() == pytest.approx(SECOND_M, rel=1e-6)
    assert state["second_moment/w"].item() == pytest.approx(second_v, rel=1e-6)


@pytest.mark.parametrize(
    "config", [AdamConfig(tau=0.5), YogiConfig(tau=0.5), AdagradConfig(tau=0.5)]
)
def test_adaptive_state_starts_at_zero_and_tau_squared(config: ServerOptimizerConfig) -> None:
    state = server_optimizer(config).init({"w": torch.ones(2), "b": torch.tensor(3.0)})
    assert state["first_moment/w"].tolist() == [0.0, 0.0]
    assert state["second_moment/w"].tolist() == [0.25, 0.25]
    assert state["second_moment/b"].item() == 0.25
    assert len(state) == 4


def test_yogi_leaves_v_when_it_equals_the_squared_update() -> None:
    _, state = run(YogiConfig(tau=0.5), 0.5)
    assert state["second_moment/w"].item() == 0.25


def test_settings_of_the_adaptive_optimizers_reach_the_step() -> None:
    path, _ = run(AdamConfig(learning_rate=2.0, beta1=0.5, beta2=0.75, tau=2.0), 4.0)
    v = 0.75 * 4.0 + 0.25 * 16.0
    assert path == pytest.approx([1.0 + 2.0 * (0.5 * 4.0) / (math.sqrt(v) + 2.0)])


@pytest.mark.parametrize("kind", EVERY)
def test_apply_leaves_its_arguments_as_they_are(kind: str) -> None:
    optimizer = server_optimizer(EVERY[kind])
    params, update = {"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([0.5, 0.25])}
    _, state = optimizer.apply(params, update, optimizer.init(params))
    before = [
        {name: value.clone() for name, value in part.items()} for part in (params, update, state)
    ]
    optimizer.apply(params, update, state)
    for part, kept in zip((params, update, state), before, strict=True):
        assert part.keys() == kept.keys()
        assert all(torch.equal(part[name], kept[name]) for name in kept)


@pytest.mark.parametrize("kind", EVERY)
def test_state_and_tensors_stay_float32_under_the_same_names(kind: str) -> None:
    optimizer = server_optimizer(EVERY[kind])
    params = {"w": torch.ones(2), "b": torch.tensor(1.0)}
    state = optimizer.init(params)
    stepped, after = optimizer.apply(params, params, state)
    assert list(stepped) == ["w", "b"]
    assert stepped["b"].shape == ()
    assert after.keys() == state.keys()
    assert {value.dtype for value in (*stepped.values(), *after.values())} == {torch.float32}
