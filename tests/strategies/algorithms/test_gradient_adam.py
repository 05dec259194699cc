"""Adam on mean gradients: its steps by hand, what it asks of clients, and runs by it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import build_plan
from small_strategies import took_part

import confide
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.models.perceptrons import LogisticConfig
from confide.config.strategies.objectives import GradientAdamConfig
from confide.errors import ConfigError
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.simulations.federation import alone
from confide.strategies.algorithm import ServerResult, ServerRound
from confide.strategies.algorithms.gradient_adam import gradient_adam

BETA1, BETA2, TAU, RATE = 0.9, 0.99, 1e-3, 0.5
TABLE = ("experiment=heart_disease", "backbone=mlp", "client=gradients")


def plan_of(rounds: int) -> TrainingPlan:
    optimizer = OptimizerConfig(learning_rate=1.0)
    return build_plan(
        backbone=LogisticConfig(),
        objective=GradientAdamConfig(),
        client=ClientConfig(local_steps=1, sampling_rate=0.1, optimizer=optimizer),
        num_rounds=rounds,
    )


def models(updates: list[float], *, averaged: float) -> list[float]:
    """Return the global tensor after each round."""
    algorithm = gradient_adam(
        learning_rate=RATE, beta1=BETA1, beta2=BETA2, tau=TAU, averaged=averaged
    )
    params: Tensors = {"w": torch.zeros(1)}
    state, path = algorithm.first_state(params), []
    for server_round, update in enumerate(updates, start=1):

        def step(change: Tensors, before: Tensors = params) -> ServerResult:
            return ServerResult(params={"w": before["w"] + change["w"]}, optimizer_state={})

        given = ServerRound(
            params=params,
            update={"w": torch.tensor([update])},
            extra={},
            state=state,
            participation=took_part("a", 1),
            cohort=[10],
            server_round=server_round,
            plan=plan_of(len(updates)),
        )
        result = algorithm.server(given, step)
        params, state = result.params, result.state
        path.append(float(params["w"]))
    return path


def by_hand(updates: list[float]) -> list[float]:
    first, second, w, path = 0.0, TAU**2, 0.0, []
    for update in updates:
        first = BETA1 * first + (1 - BETA1) * update
        second = BETA2 * second + (1 - BETA2) * update**2
        w += RATE * first / (second**0.5 + TAU)
        path.append(w)
    return path


def test_steps_and_mean_by_hand() -> None:
    updates = [1.0, 2.0, 0.0, -4.0]
    expected = by_hand(updates)
    expected[-1] = (expected[-2] + expected[-1]) / 2
    assert models(updates, averaged=0.5) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("client.local_steps=2", "minus the mean gradient, and client has local_steps=2; set"),
        ("client.optimizer.kind=adam", r"optimizer\.kind=adam; set optimizer\.kind=sgd"),
        ("client.optimizer.learning_rate=0.1", r"set optimizer\.learning_rate=1\.0"),
        ("strategy/server_optimizer=adam", r"server_optimizer\.kind=adam: objective\.kind=grad"),
        ("server.patience=3", r"server\.patience=3: .* means the models of the last rounds"),
        ("strategy.aggregator.weighting=uniform", "FedSGD is defined for num_examples weights"),
    ],
)
def test_what_its_steps_rest_on_is_asked_for(word: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        compose([*TABLE, word])


@pytest.mark.parametrize("word", ["client.sampling_rate=0.5", "server.num_rounds=7"])
def test_samples_and_rounds_are_free(word: str) -> None:
    key, _, value = word.partition("=")
    found: Any = compose([*TABLE, word])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == float(value)


def test_one_institution_alone_takes_the_same_steps() -> None:
    """A baseline of plain steps of rate 1 would not stand for what one institution can have."""
    plan = plan_of(3)
    rewritten, _ = alone(plan, compose(TABLE).server, "one")
    assert rewritten.objective == plan.objective


@pytest.mark.parametrize("privacy", ["none", "record"])
def test_run_learns_and_its_model_is_the_mean(tmp_path: Path, privacy: str) -> None:
    words = (*TABLE, "server.num_rounds=30", f"privacy={privacy}", "simulation.baselines=[]")
    result = confide.simulate(words, run_dir=tmp_path / "run")
    assert result.summary["federated"]["auc"] >= 0.8
