"""Gradient sums: the rule of their steps, what it rests on, and runs by it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import build_institution, build_plan, build_request, build_task
from scipy.optimize import brentq
from scipy.stats import norm
from small_strategies import took_part
from stopped_run import StopAfter, Stopped

from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.models.perceptrons import LogisticConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import GradientSumConfig
from confide.errors import ConfigError, ProtocolError
from confide.models.networks import Mlp
from confide.privacy.accounting import calibrate
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.server.rounds.checkpoint import CheckpointStore
from confide.simulations.federation import alone
from confide.simulations.run import simulate
from confide.strategies.algorithm import ServerResult, ServerRound
from confide.strategies.algorithms.gradient_sum import (
    gradient_sum,
    noise_multiplier,
    row_radius,
    step_size,
)

HEART = ("experiment=heart_disease", "client=private_table", "simulation.baselines=[]")
PRIVATE = ("privacy=record", "privacy.epsilon=3")
RULE = {"momentum": 0.9, "logit_noise": 1.2}


def plan_of(*, epsilon: float | None, rounds: int = 50, **privacy: Any) -> TrainingPlan:
    unit = "none" if epsilon is None else "record"
    given = {"unit": unit, "epsilon": epsilon or 1.0, "clipping_norm": 4.4722, **privacy}
    return build_plan(
        backbone=LogisticConfig(row_norm=3.0),
        objective=GradientSumConfig(),
        client=ClientConfig(
            local_steps=1, sampling_rate=1.0, optimizer=OptimizerConfig(learning_rate=1.0)
        ),
        privacy=PrivacyConfig(**given),
        num_rounds=rounds,
    )


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return mu of the Gaussian mechanism with this epsilon (Dong et al. 2022, corollary 1)."""

    def excess(mu: float) -> float:
        tails = norm.cdf(-epsilon / mu + mu / 2), norm.cdf(-epsilon / mu - mu / 2)
        return float(tails[0] - math.exp(epsilon) * tails[1] - delta)

    return float(brentq(excess, 1e-3, 50))


# The accountant: without sampling, sigma = sqrt(T) / mu


@pytest.mark.parametrize(("epsilon", "sigma"), [(1, 16.68), (3, 6.22), (8, 2.68)])
def test_noise_is_that_of_the_gaussian_mechanism(epsilon: float, sigma: float) -> None:
    found = noise_multiplier(plan_of(epsilon=epsilon, rounds=20))
    assert found == pytest.approx(sigma, rel=2e-3)
    assert found == pytest.approx(math.sqrt(20) / gaussian_mu(epsilon, 1e-5), rel=1e-3)


def test_institution_calibrates_the_noise_that_the_coordinator_counts_on() -> None:
    plan = plan_of(epsilon=3, rounds=12, spare_rounds=4)
    told = build_institution(plan).handle("query", build_request(plan, tensors=None)).figures
    assert told["noise_multiplier"] == noise_multiplier(plan)
    assert told["sampling_rate"] == 1.0
    assert noise_multiplier(plan) == calibrate(
        target_epsilon=3, delta=1e-5, sampling_rate=1.0, steps=16
    )


# The rule


@pytest.mark.parametrize("epsilon", [0.3, 1, 3, 8, 50])
@pytest.mark.parametrize("cohort", [[160, 220, 90, 180], [5000], [20] * 9])
def test_step_is_half_that_of_one_logit_on_rows_scaled_to_norm_one(
    epsilon: float, cohort: list[int]
) -> None:
    plan = plan_of(epsilon=epsilon)
    n, institutions, rounds, radius = sum(cohort), len(cohort), 50, math.sqrt(10.0)
    mu = gaussian_mu(epsilon, 1e-5)
    of_one_logit = min(1.2 * mu * n / (math.sqrt(institutions) * rounds) * (1 - 0.9), 8.0)
    found = step_size(plan, cohort, **RULE)
    assert found == pytest.approx(of_one_logit / 2 / radius**2, rel=2e-3)


def test_without_privacy_the_step_is_the_longest_that_is_safe() -> None:
    assert step_size(plan_of(epsilon=None), [100], **RULE) == pytest.approx(0.4)


def test_shorter_gradients_allow_longer_steps() -> None:
    long, short = (plan_of(epsilon=1, clipping_norm=c) for c in (4.0, 2.0))
    assert step_size(short, [300], **RULE) == pytest.approx(2 * step_size(long, [300], **RULE))


@pytest.mark.parametrize("rounds", [50, 200])
def test_noise_of_a_whole_run_gives_logits_the_declared_deviation(rounds: int) -> None:
    plan, cohort, width = plan_of(epsilon=1, rounds=rounds), [300, 500, 200], 20_000
    # Independent columns, each a run of its own: rows of norm R, so that a logit has R times the
    # deviation of a weight, and a difference of two logits sqrt(2) times that of a logit
    deviation = noise_multiplier(plan) * plan.privacy.clipping_norm * math.sqrt(3) / 1000
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(width, generator=generator) * deviation for _ in range(rounds)]
    weights = steps([{"w": n} for n in noise], plan, cohort, momentum=0.0)[-1]
    logits = float(weights.std()) * row_radius(plan) * math.sqrt(2.0)
    assert logits == pytest.approx(1.2, rel=0.02)


# What it rests on


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_no_gradient_is_longer_and_no_loss_more_curved_than_the_rule_says(
    classes: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(classes)
    radius, model = math.sqrt(10.0), Mlp([5, classes], row_norm=3.0).double()
    rows = torch.randn((40, 5), generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(0, classes, (40,), generator=generator)
    parameters = list(model.parameters())
    for spread in (0.0, 1.0, 30.0):
        for parameter in parameters:
            torch.nn.init.normal_(parameter, std=spread) if spread else parameter.data.zero_()
        longest = max(
            _norm(torch.autograd.grad(_loss(model, rows[i : i + 1], labels[i : i + 1]), parameters))
            for i in range(40)
        )
        assert longest <= math.sqrt(2.0) * radius * (1 + 1e-9)
        assert spread or longest <= radius * (1 + 1e-9)
        assert _largest_curvature(model, rows, labels) <= radius**2 / 2 * (1 + 1e-9)


def _loss(model: torch.nn.Module, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(model(rows), labels)


def _norm(gradients: Sequence[torch.Tensor]) -> float:
    return math.sqrt(sum(float(g.square().sum()) for g in gradients))


def _largest_curvature(model: torch.nn.Module, rows: torch.Tensor, labels: torch.Tensor) -> float:
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split([v.numel() for v in values])
        named = {n: p.view_as(v) for n, p, v in zip(names, parts, values, strict=True)}
        outputs = torch.func.functional_call(model, named, (rows,))
        return torch.nn.functional.cross_entropy(outputs, labels)

    at = torch.cat([v.detach().flatten() for v in values])
    hessian = torch.autograd.functional.hessian(loss, at)
    return float(torch.linalg.eigvalsh(hessian)[-1])


def test_rows_of_zeros_stay() -> None:
    model = Mlp([3, 2], row_norm=3.0)
    rows = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2e-3, 0.0]])
    logits = model(rows)
    assert logits[0].tolist() == model.layers[0].bias.tolist()
    expected = 3.0 * model.layers[0].weight[:, 1] + model.layers[0].bias
    assert logits[1].tolist() == pytest.approx(expected.tolist())


# Rounds by hand


def steps(
    updates: Sequence[Tensors],
    plan: TrainingPlan,
    cohort: Sequence[int],
    *,
    momentum: float = 0.9,
    averaged: float = 0.5,
    mean_last: bool = False,
) -> list[torch.Tensor]:
    """Return the global tensor after each round; of the last, the iterate unless told otherwise."""
    algorithm = gradient_sum(momentum=momentum, logit_noise=1.2, averaged=averaged)
    params: Tensors = {"w": torch.zeros_like(updates[0]["w"])}
    state, path = algorithm.first_state(params), []
    for server_round, update in enumerate(updates, start=1):
        stepped: list[Tensors] = []

        def step(change: Tensors, before: Tensors = params, to: Any = stepped) -> ServerResult:
            to.append({"w": before["w"] + change["w"]})
            return ServerResult(params=to[0], optimizer_state={})

        result = algorithm.server(
            ServerRound(
                params=params,
                update=update,
                extra={},
                state=state,
                participation=took_part("a", 1),
                cohort=cohort,
                server_round=server_round,
                plan=plan,
            ),
            step,
        )
        params, state = stepped[0], result.state
        path.append(result.params["w"] if mean_last else params["w"])
    return path


def test_momentum_and_mean_by_hand() -> None:
    # Steps of 0.4, momentum 0.5; v = 1, 2.5, 1.25, 4.625; w = 0.4, 1.4, 1.9, 3.75
    updates = [{"w": torch.tensor([value])} for value in (1.0, 2.0, 0.0, 4.0)]
    plan = plan_of(epsilon=None, rounds=4)
    path = steps(updates, plan, [10], momentum=0.5, mean_last=True)
    assert [float(w) for w in path] == pytest.approx([0.4, 1.4, 1.9, (1.9 + 3.75) / 2])


@pytest.mark.parametrize(
    ("rounds", "averaged", "last"),
    [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 2), (5, 1.0, 5), (5, 0.1, 1)],
)
def test_mean_is_over_the_last_share_of_rounds_and_of_one_at_least(
    rounds: int, averaged: float, last: int
) -> None:
    updates = [{"w": torch.tensor([float(i + 1)])} for i in range(rounds)]
    plan = plan_of(epsilon=None, rounds=rounds)
    iterates = steps(updates, plan, [10], averaged=averaged)
    found = steps(updates, plan, [10], averaged=averaged, mean_last=True)[-1]
    assert float(found) == pytest.approx(sum(map(float, iterates[-last:])) / last)


# Runs


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def simulated(
        *overrides: str, name: str = "run", stop: int = 0, resume: bool = False
    ) -> dict[str, Any]:
        config = compose([*HEART, "server.num_rounds=6", *overrides])
        return simulate(config, tmp_path / name, progress=StopAfter(stop), resume=resume)

    return simulated


@pytest.mark.parametrize("stop", [1, 3, 5, 6])
def test_run_that_was_stopped_ends_with_the_same_bits(
    run: Callable[..., dict[str, Any]], tmp_path: Path, stop: int
) -> None:
    expected = run(*PRIVATE, name="undisturbed")
    with pytest.raises(Stopped):
        run(*PRIVATE, stop=stop)
    summary = run(*PRIVATE, resume=True)
    assert summary["model_sha256"] == expected["model_sha256"]
    assert summary["federated"] == expected["federated"]
    held = CheckpointStore(tmp_path / "run" / "checkpoints", kept=3).latest()
    assert held is not None
    assert {name.split("/")[1] for name in held.state.strategy_state} == {"velocity", "mean"}


def test_worker_processes_give_the_same_bits(run: Callable[..., dict[str, Any]]) -> None:
    inline = run(*PRIVATE, name="inline")
    process = run(*PRIVATE, "simulation.engine=process", "simulation.workers=2", name="process")
    assert process["model_sha256"] == inline["model_sha256"]


def test_private_table_learns_and_spends_what_it_says(run: Callable[..., dict[str, Any]]) -> None:
    summary = run(*PRIVATE, "server.num_rounds=50")
    assert summary["rounds"] == 50
    assert summary["federated"]["auc"] > 0.86
    assert summary["failures"] == {}
    for client in summary["clients"].values():
        assert 2.99 < client["epsilon"] <= 3.0


def test_groups_and_texts_train_by_it(run: Callable[..., dict[str, Any]]) -> None:
    grouped = run("privacy=group", "privacy.epsilon=3", "data.group_column=age")
    assert grouped["privacy"]["unit"] == "group"
    assert grouped["failures"] == {}


def test_one_institution_alone_follows_the_same_recipe(
    run: Callable[..., dict[str, Any]],
) -> None:
    summary = run(*PRIVATE, "simulation.baselines=[local,pooled]")
    assert all(line["auc"] > 0.5 for line in summary["baselines"]["local"].values())
    assert summary["baselines"]["pooled"]["auc"] > 0.8
    config = compose([*HEART])
    plan, _ = alone(plan_of(epsilon=1), config.server, "ward")
    assert plan.objective == GradientSumConfig()


# What contradicts itself


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("client.local_steps=2", "local_steps=2"),
        ("client.sampling_rate=0.5", "sampling_rate=0.5"),
        ("client.optimizer.learning_rate=0.1", "learning_rate=0.1"),
        ("client.optimizer.momentum=0.9", "momentum=0.9"),
        ("strategy/server_optimizer=adam", "server_optimizer.kind=adam"),
        ("strategy.server_optimizer.learning_rate=2", "takes steps of its own"),
        ("strategy.aggregator.weighting=uniform", "num_examples"),
        ("backbone.row_norm=null", "backbone.row_norm=3"),
        ("backbone=mlp", "a linear model alone"),
        ("server.patience=3", "server.patience=null"),
    ],
)
def test_what_breaks_the_rule_is_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match="strategy") as caught:
        compose([*HEART, *PRIVATE, override])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("override", "named", "unnamed"),
    [
        ("strategy.server_optimizer.learning_rate=0.5", "learning_rate=0.5", "kind=sgd"),
        ("strategy.server_optimizer.momentum=0.9", "momentum=0.9", "learning_rate"),
        ("strategy/server_optimizer=yogi", "kind=yogi", "learning_rate"),
        ("client.local_steps=5", "set local_steps=1, or", "weight_decay"),
        ("backbone=mlp", "client=table strategy=fedavg", "tuning=head"),
    ],
)
def test_what_is_refused_is_what_was_typed_and_where_the_rest_comes_from(
    override: str, named: str, unnamed: str
) -> None:
    private_table = [*HEART, "privacy=record", "client=private_table"]
    with pytest.raises(ConfigError, match="client=private_table") as caught:
        compose([*private_table, override])
    assert named in str(caught.value)
    assert unnamed not in str(caught.value)
    choice = ["client=table", "strategy=fedavg"]
    if not override.startswith("strategy/"):  # that is a part of the strategy that is chosen
        compose([*private_table, override, *choice])


def test_an_institution_refuses_a_plan_whose_update_is_no_gradient() -> None:
    plan = plan_of(epsilon=3)
    text = plan.to_json().replace('"local_steps":1', '"local_steps":4')
    assert text != plan.to_json()
    with pytest.raises(ProtocolError, match="mean gradient"):
        TrainingPlan.from_json(text)


def test_plans_without_a_norm_of_rows_read_as_before() -> None:
    assert "row_norm" not in build_plan(task=build_task()).to_json()
    plan = plan_of(epsilon=1)
    assert TrainingPlan.from_json(plan.to_json()) == plan
