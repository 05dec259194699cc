"""Personal algorithms against their papers' own lines, on quadratics of one to three numbers."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from builders import build_plan
from small_strategies import compose_strategy, given, local_sgd, took_part
from torch import nn

from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.strategies.personal import ApflConfig, FedRepConfig, FineTuningConfig
from confide.errors import ModelError
from confide.protocol.tensors import Shapes, Tensors, shapes_of
from confide.strategies.algorithm import Algorithm, GradientFn, Step
from confide.strategies.algorithms.fedavg import local_sgd as fedavg_client
from confide.strategies.composed import Strategy
from confide.strategies.personal.apfl import apfl
from confide.strategies.personal.ditto import ditto
from confide.strategies.personal.fedrep import fedrep, head_steps
from confide.strategies.personal.fine_tuning import fine_tuning
from confide.strategies.personal.layers import fedbn, fedper, head_of, norms_of
from confide.strategies.strategy import ClientUpdate, RoundStart

STEPS, RATE = 3, 0.1


@dataclass(frozen=True)
class Quadratic:
    """A client whose loss is ``sum curvature / 2 (w - optimum)^2`` over the model's numbers."""

    curvature: float
    optimum: float

    def gradient_of(self, params: Tensors) -> Tensors:
        return {name: self.curvature * (value - self.optimum) for name, value in params.items()}


CLIENTS = (Quadratic(1.0, 2.0), Quadratic(4.0, -1.0), Quadratic(0.5, 6.0))


def numbers(**values: float) -> Tensors:
    return {name.replace("_", "."): torch.tensor([value]) for name, value in values.items()}


@functools.cache
def _composed(words: str) -> Strategy:
    return compose_strategy("backbone=mlp", *words.split())


def run(  # noqa: PLR0913 - what a short run consists of
    strategy: str,
    algorithm: Algorithm,
    start: Tensors,
    *,
    rounds: int,
    clients: Sequence[Quadratic] = CLIENTS,
    cohorts: Sequence[Sequence[int]] = (),
    arrive: int = 1,
) -> tuple[Tensors, list[Tensors]]:
    """Return the global tensors after some rounds, and what each client predicts with."""
    composed = _composed(strategy)
    params, everybody = start, range(len(clients))
    state, plan = composed.init(params), replace(build_plan(), num_rounds=rounds)
    first = algorithm.first_kept or (lambda params: {})
    kept = [first(params) for _ in clients]
    for number in range(1, rounds + 1):
        cohort = cohorts[number - 1] if cohorts else everybody
        under_way = composed.begin(
            RoundStart(
                params=params,
                state=state,
                cohort=[9] * len(cohort),
                max_value=1024.0,
                server_round=number,
                plan=plan,
            )
        )
        for k in list(cohort)[::arrive]:
            known = given(params, kept=kept[k], steps=STEPS, learning_rate=RATE)
            known = replace(known, server_round=number, num_rounds=rounds)
            result = local_sgd(algorithm, known, clients[k].gradient_of)
            assert set(result.update) == set(algorithm.reply_shapes(shapes_of(params)))
            kept[k] = result.kept
            under_way.add(ClientUpdate(client=str(k), tensors=result.update, num_examples=9))
        params, state = under_way.finish(took_part(cohort, len(clients)))
    predict_with = algorithm.predict_with or (lambda params, kept: params)
    return params, [predict_with(params, own) for own in kept]


def near(found: Tensors, expected: Mapping[str, float]) -> None:
    told = {name: float(value) for name, value in found.items()}
    assert told == pytest.approx(dict(expected), abs=1e-5)


# FedPer and FedBN


def test_a_head_that_stays_by_hand() -> None:
    # Gradient 2 everywhere, 2 steps of 0.1: each number falls by 0.4. The head goes on from its
    # own 5 and is not sent; the body goes from the global 1.
    known = given(numbers(body_w=1.0, head_w=0.0), kept=numbers(head_w=5.0), steps=2)
    result = local_sgd(fedper(), known, lambda params: {n: v * 0 + 2 for n, v in params.items()})
    near(result.update, {"body.w": -0.4})
    near(result.kept, {"head.w": 4.6})


def test_heads_follow_each_client_and_the_body_follows_their_mean() -> None:
    start = numbers(body_w=0.0, head_w=0.0)
    params, own = run("strategy=fedper", fedper(), start, rounds=3)
    body, heads = 0.0, [0.0, 0.0, 0.0]
    for _ in range(3):
        moved = []
        for k, client in enumerate(CLIENTS):
            shrunk = (1 - RATE * client.curvature) ** STEPS
            moved.append(client.optimum + shrunk * (body - client.optimum) - body)
            heads[k] = client.optimum + shrunk * (heads[k] - client.optimum)
        body += sum(moved) / len(moved)
    near(params, {"body.w": body, "head.w": 0.0})
    for head, found in zip(heads, own, strict=True):
        near(found, {"body.w": body, "head.w": head})


@pytest.mark.parametrize(
    ("strategy", "algorithm", "stays"),
    [("fedper", fedper(), "head_w"), ("fedbn", fedbn(), "norm_weight")],
)
def test_with_one_client_it_is_fedavg(strategy: str, algorithm: Algorithm, stays: str) -> None:
    start = numbers(body_w=1.0, **{stays: 3.0})
    _, (own,) = run(f"strategy={strategy}", algorithm, start, rounds=4, clients=CLIENTS[:1])
    averaged, _ = run("strategy=fedavg", fedavg_client(), start, rounds=4, clients=CLIENTS[:1])
    for name, value in averaged.items():
        assert float(own[name]) == pytest.approx(float(value), abs=1e-6)


def test_which_layers_are_the_head_and_which_are_norms() -> None:
    one: Shapes = {"encoder.w": (2, 2), "head.weight": (2, 2), "head.bias": (2,)}
    assert head_of(one) == {"head.weight", "head.bias"}
    assert head_of({"layers.0.weight": (2, 2), "layers.2.bias": (2,), "layers.10.bias": (2,)}) == {
        "layers.10.bias"
    }
    with pytest.raises(ModelError, match="nothing but its head is trained"):
        head_of({"layers.0.weight": (2, 2), "layers.0.bias": (2,)})
    with pytest.raises(ModelError, match="no norms is trained"):
        norms_of({"layers.0.weight": (2, 2), "layers.2.bias": (2,)})


def test_norms_are_found_by_what_they_are_whatever_they_are_called() -> None:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.blocks = nn.LayerNorm(4), nn.Sequential(nn.Conv2d(1, 4, 3))
            self.blocks.append(nn.GroupNorm(2, 4))
            self.words, self.norm = nn.Embedding(5, 4), nn.RMSNorm(4)
            self.out = nn.Linear(4, 2)

    model = Called()
    norms = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if type(module).__name__.endswith("Norm")
        for name, _ in module.named_parameters()
    }
    assert len(norms) == 5
    assert norms_of(shapes_of(dict(model.named_parameters()))) == norms


# FedRep


def test_fedrep_by_hand() -> None:
    # Gradient 2, 3 steps of 0.1: with a share of 0.5 two steps move the head, one the body.
    known = given(numbers(body_w=1.0, head_w=0.0), kept=numbers(head_w=5.0), steps=3)

    def train(start: Tensors, change: GradientFn | None = None) -> Tensors:
        params = {name: nn.Parameter(value.clone()) for name, value in start.items()}
        for _ in range(3):
            for param in params.values():
                param.grad = torch.full((1,), 2.0)
            assert change is not None
            change(Step(params=list(params.values()), start=[], model=nn.Identity()))
            for param in params.values():
                if param.grad is not None:
                    param.data -= 0.1 * param.grad
        return {name: param.detach() - start[name] for name, param in params.items()}

    result = fedrep(head_share=0.5).client(known, train)
    near(result.update, {"body.w": -0.2})
    near(result.kept, {"head.w": 4.6})


def test_steps_of_a_head_are_some_and_not_all() -> None:
    assert [head_steps(n, 0.5) for n in (1, 2, 3, 10)] == [0, 1, 2, 5]
    assert [head_steps(10, share) for share in (0.01, 0.99)] == [1, 9]
    assert list(FedRepConfig().client_problems(ClientConfig(local_steps=1, batch_size=8)))


# Fine-tuning


def test_fine_tuning_is_fedavg_and_then_each_client_alone() -> None:
    start = numbers(a=0.0)
    tuned = fine_tuning(local_rounds=2)
    params, own = run(
        "strategy=fine_tuning strategy.objective.local_rounds=2", tuned, start, rounds=5
    )
    averaged, _ = run("strategy=fedavg", fedavg_client(), start, rounds=3)
    assert params["a"].equal(averaged["a"])
    for client, found in zip(CLIENTS, own, strict=True):
        shrunk = (1 - RATE * client.curvature) ** (2 * STEPS)
        expected = client.optimum + shrunk * (float(params["a"]) - client.optimum)
        near(found, {"a": expected})


def test_no_momentum_of_the_coordinator_moves_on_while_institutions_tune() -> None:
    start, words = numbers(a=0.0), "strategy.server_optimizer.momentum=0.5"
    tuned, _ = run(
        f"strategy=fine_tuning strategy.objective.local_rounds=2 {words}",
        fine_tuning(local_rounds=2),
        start,
        rounds=5,
    )
    averaged, _ = run(f"strategy=fedavg {words}", fedavg_client(), start, rounds=3)
    assert tuned["a"].equal(averaged["a"])


def test_rounds_that_leave_none_for_the_federation_are_a_problem() -> None:
    assert list(FineTuningConfig(local_rounds=3).round_problems(3))
    assert not list(FineTuningConfig(local_rounds=3).round_problems(4))


# Ditto


def ditto_by_hand(lam: float, rounds: int) -> tuple[float, list[float]]:
    """Algorithm 1 of Li et al. 2021, line by line."""
    w, own = 0.0, [0.0] * len(CLIENTS)
    for _ in range(rounds):
        ends = []
        for k, client in enumerate(CLIENTS):
            local = w
            for _ in range(STEPS):
                local -= RATE * client.curvature * (local - client.optimum)
                gradient = client.curvature * (own[k] - client.optimum)
                own[k] -= RATE * (gradient + lam * (own[k] - w))
            ends.append(local)
        w = sum(ends) / len(ends)
    return w, own


@pytest.mark.parametrize("lam", [0.0, 0.3, 2.0])
def test_ditto_follows_algorithm_1(lam: float) -> None:
    words = f"strategy=ditto strategy.objective.proximal_lambda={lam}"
    params, own = run(words, ditto(proximal_lambda=lam), numbers(a=0.0), rounds=4)
    w, expected = ditto_by_hand(lam, 4)
    near(params, {"a": w})
    for one, found in zip(expected, own, strict=True):
        near(found, {"a": one})


# APFL


def apfl_by_hand(alpha: float, rounds: int) -> tuple[float, list[float]]:
    """Algorithm 1 of Deng et al. 2020, line by line, with one alpha."""
    w, own = 0.0, [0.0] * len(CLIENTS)
    for _ in range(rounds):
        ends = []
        for k, client in enumerate(CLIENTS):
            local = w
            for _ in range(STEPS):
                mixture = alpha * own[k] + (1 - alpha) * local
                local -= RATE * client.curvature * (local - client.optimum)
                own[k] -= RATE * alpha * client.curvature * (mixture - client.optimum)
            ends.append(local)
        w = sum(ends) / len(ends)
    return w, [alpha * v + (1 - alpha) * w for v in own]


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_apfl_follows_algorithm_1(alpha: float) -> None:
    words = f"strategy=apfl strategy.objective.alpha={alpha}"
    params, own = run(words, apfl(alpha=alpha), numbers(a=0.0), rounds=4)
    w, expected = apfl_by_hand(alpha, 4)
    near(params, {"a": w})
    for one, found in zip(expected, own, strict=True):
        near(found, {"a": one})


def test_apfl_with_alpha_0_predicts_with_fedavgs_model() -> None:
    _, own = run(
        "strategy=apfl strategy.objective.alpha=0", apfl(alpha=0.0), numbers(a=0.0), rounds=3
    )
    averaged, _ = run("strategy=fedavg", fedavg_client(), numbers(a=0.0), rounds=3)
    assert all(one["a"].equal(averaged["a"]) for one in own)


def test_apfl_needs_plain_steps() -> None:
    adam = ClientConfig(batch_size=8, optimizer=OptimizerConfig(kind="adam", learning_rate=0.1))
    (problem,) = ApflConfig().client_problems(adam)
    assert "kind=adam" in problem


# All of them

ALL: dict[str, tuple[Algorithm, str]] = {
    "fedper": (fedper(), "strategy=fedper"),
    "fine_tuning": (fine_tuning(local_rounds=1), "strategy=fine_tuning"),
    "ditto": (ditto(proximal_lambda=0.1), "strategy=ditto"),
    "apfl": (apfl(alpha=0.5), "strategy=apfl"),
}


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_arrival_does_not_matter(name: str) -> None:
    algorithm, words = ALL[name]
    start = numbers(body_w=0.0, head_w=1.0)
    cohorts = [(0, 1, 2), (0, 2), (1, 2), (0, 1, 2)]
    (one, own), (other, owns) = (
        run(words, algorithm, start, rounds=4, cohorts=cohorts, arrive=arrive) for arrive in (1, -1)
    )
    for found, expected in itertools.chain([(one, other)], zip(own, owns, strict=True)):
        assert all(found[key].equal(expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["ditto", "apfl"])
def test_the_global_model_is_fedavgs_to_the_bit(name: str) -> None:
    algorithm, words = ALL[name]
    start = numbers(a=0.0, b=1.0)
    params, _ = run(words, algorithm, start, rounds=3)
    averaged, _ = run("strategy=fedavg", fedavg_client(), start, rounds=3)
    assert all(params[key].equal(averaged[key]) for key in averaged)
