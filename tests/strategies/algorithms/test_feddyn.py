"""FedDyn against the paper's own formulas, by hand, and at an institution's door."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from builders import build_institution, build_plan, build_request, workload_of
from small_strategies import changed_gradients, compose_strategy, given, hook_of, took_part
from torch import nn

from confide.client.algorithm_state import ClientStates
from confide.client.institution import Institution
from confide.client.records.encoded import InstitutionData
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig
from confide.config.composing.compose import compose
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import FedDynConfig, ObjectiveConfig
from confide.errors import ConfigError
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode, flatten
from confide.strategies.algorithm import ServerResult, ServerRound
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.algorithms.feddyn import feddyn
from confide.strategies.composed import Strategy
from confide.strategies.strategy import ClientUpdate, RoundStart

ALPHA = 0.5
EVERYBODY = (0, 1, 2)


@dataclass(frozen=True)
class Quadratic:
    """A client whose loss is ``curvature / 2 (w - optimum)^2``."""

    curvature: float
    optimum: float

    def gradient(self, w: float) -> float:
        return self.curvature * (w - self.optimum)


CLIENTS = (Quadratic(1.0, 2.0), Quadratic(4.0, -1.0), Quadratic(0.5, 6.0))
OPTIMUM = (1.0 * 2.0 + 4.0 * -1.0 + 0.5 * 6.0) / (1.0 + 4.0 + 0.5)


# Ours: each part of the strategy called as the round loop and the trainer call it


def extra_gradient(kept: float, w: float, start: float, alpha: float) -> float:
    one = torch.tensor([start], dtype=torch.float64)
    hook = hook_of(
        feddyn(alpha=alpha), {"w": one}, {"w": torch.tensor([kept], dtype=torch.float64)}, {}
    )
    param = nn.Parameter(torch.tensor([w], dtype=torch.float64))
    param.grad = torch.zeros(1, dtype=torch.float64)
    return float(changed_gradients(hook, [param], [one])[0])


def solve(client: Quadratic, kept: float, start: float, alpha: float) -> float:
    """Minimise exactly: the gradient is linear in w, so one Newton step arrives."""
    slope = client.curvature + alpha
    w = start - (client.gradient(start) + extra_gradient(kept, start, start, alpha)) / slope
    left = client.gradient(w) + extra_gradient(kept, w, start, alpha)
    assert left == pytest.approx(0.0, abs=1e-9)
    return w


def kept_after(kept: Tensors, update: Tensors, *, alpha: float) -> Tensors:
    """Run the client part on a training that gives the update."""
    known = given({name: torch.zeros_like(value) for name, value in kept.items()}, kept=kept)
    return feddyn(alpha=alpha).client(known, lambda start, change=None: update).kept


def with_alpha(alpha: float) -> Strategy:
    return compose_strategy("strategy=feddyn", f"strategy.objective.alpha={alpha!r}")


def run_feddyn(
    cohorts: Sequence[Sequence[int]], *, alpha: float = ALPHA
) -> tuple[list[float], list[float]]:
    """Return the global tensor after each round, and what clients keep in the end."""
    composed = with_alpha(alpha)
    params: Tensors = {"w": torch.zeros(1)}
    state, kept, path = composed.init(params), [{"w": torch.zeros(1)} for _ in CLIENTS], []
    for server_round, cohort in enumerate(cohorts, start=1):
        under_way = composed.begin(
            RoundStart(
                params=params,
                state=state,
                cohort=[9] * len(cohort),
                max_value=1024.0,
                server_round=server_round,
            )
        )
        for k in cohort:
            w = solve(CLIENTS[k], float(kept[k]["w"]), float(params["w"]), alpha)
            update = {"w": torch.tensor([w]) - params["w"]}
            under_way.add(ClientUpdate(client=str(k), tensors=update, num_examples=k + 1))
            kept[k] = kept_after(kept[k], update, alpha=alpha)
        params, state = under_way.finish(took_part(cohort, len(CLIENTS)))
        path.append(float(params["w"]))
    return path, [float(one["w"]) for one in kept]


# The paper's: algorithm 1 of Acar et al. 2021, line by line


def algorithm_1(cohorts: Sequence[Sequence[int]]) -> tuple[list[float], list[float]]:
    """Return theta^t after each round, and the clients' gradients in the end."""
    m, theta, h, path = len(CLIENTS), 0.0, 0.0, []
    gradients = [0.0] * m
    for cohort in cohorts:
        before, local = theta, {}
        for k in cohort:
            # argmin L_k(theta) - <gradient_k, theta> + alpha / 2 ||theta - theta^(t-1)||^2
            client = CLIENTS[k]
            local[k] = (client.curvature * client.optimum + gradients[k] + ALPHA * before) / (
                client.curvature + ALPHA
            )
            gradients[k] -= ALPHA * (local[k] - before)
        h -= ALPHA / m * sum(local[k] - before for k in cohort)
        theta = sum(local.values()) / len(cohort) - h / ALPHA
        path.append(theta)
    return path, gradients


@pytest.mark.parametrize(
    "cohorts",
    [[EVERYBODY] * 2, [(0, 1), (1, 2)], [(2,), (0,), (2,)], [EVERYBODY, (1,), (0, 2), EVERYBODY]],
    ids=["full", "two of three", "one of three", "mixed"],
)
def test_rounds_follow_algorithm_1(cohorts: list[tuple[int, ...]]) -> None:
    path, kept = run_feddyn(cohorts)
    expected_path, expected_kept = algorithm_1(cohorts)
    assert path == pytest.approx(expected_path, abs=1e-5)
    assert kept == pytest.approx(expected_kept, abs=1e-5)


def test_two_rounds_of_two_clients_by_hand() -> None:
    # alpha 1, start 0; updates 1 and 3, so g = -1 and -3. Mean 2, h = 2, w = 0 + 2 + 2 = 4.
    # Then one of the two: update -2, so g = 1. Mean -2, h = 2 + 1/2 * -2 = 1, w = 4 - 2 + 1 = 3.
    composed, params = with_alpha(1.0), {"w": torch.zeros(1)}
    state, kept = composed.init(params), {"w": torch.zeros(1)}
    for updates, w, h in (([1.0, 3.0], 4.0, 2.0), ([-2.0], 3.0, 1.0)):
        under_way = composed.begin(
            RoundStart(
                params=params, state=state, cohort=[5] * len(updates), max_value=8.0, server_round=1
            )
        )
        for value in updates:
            under_way.add(
                ClientUpdate(client="c", tensors={"w": torch.tensor([value])}, num_examples=7)
            )
        params, state = under_way.finish(took_part(range(len(updates)), 2))
        kept = kept_after(kept, {"w": torch.tensor([updates[0]])}, alpha=1.0)
        assert (params["w"].item(), [tensor.item() for tensor in state.values()]) == (w, [h])
    assert kept["w"].item() == 1.0


def test_gradient_is_that_of_the_two_terms() -> None:
    start, kept = torch.tensor([1.0, 1.0]), torch.tensor([0.25, -3.0])
    param = nn.Parameter(torch.tensor([3.0, 0.0]))
    terms = -(kept @ param) + ALPHA / 2 * (param - start).square().sum()
    (expected,) = torch.autograd.grad(terms, [param])
    param.grad = torch.tensor([10.0, 20.0])
    hook = hook_of(feddyn(alpha=ALPHA), {"w": start}, {"w": kept}, {})
    changed_gradients(hook, [param], [start])
    assert param.grad.tolist() == (expected + torch.tensor([10.0, 20.0])).tolist()


def test_arguments_are_left_as_they_are() -> None:
    params, state, update = ({"w": torch.tensor([value])} for value in (1.0, 0.0, 2.0))

    def step(update: Tensors) -> ServerResult:
        return ServerResult(params={"w": params["w"] + update["w"]}, optimizer_state={})

    feddyn(alpha=ALPHA).server(
        ServerRound(
            params=params, update=update, extra={}, state=state, participation=took_part("a", 2)
        ),
        step,
    )
    kept_after(params, update, alpha=ALPHA)
    assert [part["w"].item() for part in (params, state, update)] == [1.0, 0.0, 2.0]


def test_fedavg_keeps_away_from_the_optimum_that_feddyn_finds() -> None:
    drifted = fedavg_of_many_steps(rounds=300)
    path, kept = run_feddyn([EVERYBODY] * 300)
    assert abs(drifted - OPTIMUM) > 0.5
    assert path[-1] == pytest.approx(OPTIMUM, abs=1e-3)
    assert kept == pytest.approx([client.gradient(OPTIMUM) for client in CLIENTS], abs=1e-2)


def test_feddyn_finds_the_optimum_with_one_client_a_round_too() -> None:
    path, _ = run_feddyn([((7 * t // 3) % 3,) for t in range(900)], alpha=2.0)
    assert path[-1] == pytest.approx(OPTIMUM, abs=1e-2)


def fedavg_of_many_steps(rounds: int, *, steps: int = 50, learning_rate: float = 0.1) -> float:
    uniform, params = fedavg(weighting="uniform"), {"w": torch.zeros(1)}
    for server_round in range(1, rounds + 1):
        under_way = uniform.begin(
            RoundStart(
                params=params,
                state={},
                cohort=[9] * len(CLIENTS),
                max_value=1024.0,
                server_round=server_round,
            )
        )
        for client in CLIENTS:
            w = float(params["w"])
            for _ in range(steps):
                w -= learning_rate * client.gradient(w)
            under_way.add(
                ClientUpdate(
                    client="c", tensors={"w": torch.tensor([w]) - params["w"]}, num_examples=1
                )
            )
        params, _ = under_way.finish(took_part(CLIENTS, len(CLIENTS)))
    return float(params["w"])


# What names it


def test_feddyn_is_fedavg_unweighted_with_a_part_on_either_side() -> None:
    composed = with_alpha(0.25)
    assert composed.objective == FedDynConfig(alpha=0.25)
    assert composed.aggregator == fedavg(weighting="uniform").aggregator


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["strategy=feddyn", "strategy.aggregator.weighting=num_examples"],
            r"weighting=num_examples: FedDyn is defined for uniform weights; set uniform",
        ),
        (
            ["strategy=feddyn", "strategy.objective.alpha=0"],
            r"strategy\.objective\.alpha=0\.0: expected > 0",
        ),
        (
            ["strategy=feddyn", "strategy.objective.proximal_mu=0.1"],
            r"there is no setting strategy\.objective\.proximal_mu",
        ),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(overrides)


# At the door

PLAIN = build_plan(
    job="dynamic",
    objective=FedDynConfig(alpha=ALPHA),
    client=ClientConfig(batch_size=8, local_steps=3),
    num_rounds=4,
)
PRIVATE = replace(PLAIN, privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3))


START: Tensors = trainable_tensors(workload_of(PLAIN).model)
TRAINERS = {private: Trainer(workload_of(PLAIN), private=private) for private in (False, True)}
DATA = InstitutionData(
    **{
        split: workload_of(PLAIN).synthetic(20, torch.Generator().manual_seed(1))
        for split in ("train", "validation", "test")
    }
)


def make_institution(folder: Path | None, plan: TrainingPlan = PLAIN) -> Institution:
    states = ClientStates(folder, kept=3) if folder else None
    return build_institution(plan, DATA, trainer=TRAINERS[plan.private], states=states)


def train(institution: Institution, server_round: int, plan: TrainingPlan = PLAIN) -> Reply:
    return institution.handle("train", build_request(plan, server_round, tensors=START))


def update_of(reply: Reply) -> Tensors:
    assert reply.refusal is None
    assert reply.arrays is not None
    return decode(reply.arrays, TRAINERS[False].shapes, max_value=1e9).tensors


def flat(tensors: Tensors) -> torch.Tensor:
    return flatten(tensors, START)


@pytest.mark.parametrize("plan", [PLAIN, PRIVATE], ids=["plain", "private"])
def test_institution_keeps_what_its_updates_add_up_to(plan: TrainingPlan, tmp_path: Path) -> None:
    institution = make_institution(tmp_path, plan)
    updates = [flat(update_of(train(institution, r, plan))) for r in (1, 2)]
    states = [ClientStates(tmp_path, kept=3).load(plan.job, before=r + 1) for r in (1, 2)]
    assert states[0] is not None
    assert states[1] is not None
    assert flat(states[0]).equal(-ALPHA * updates[0])
    assert flat(states[1]).equal(-ALPHA * updates[0] - ALPHA * updates[1])


def test_what_is_kept_changes_the_next_update(tmp_path: Path) -> None:
    fresh = update_of(train(make_institution(tmp_path / "fresh"), 2))
    institution = make_institution(tmp_path / "kept")
    train(institution, 1)
    assert not flat(update_of(train(institution, 2))).equal(flat(fresh))


@pytest.mark.parametrize("plan", [PLAIN, PRIVATE], ids=["plain", "private"])
def test_round_asked_again_gives_the_same_update(plan: TrainingPlan, tmp_path: Path) -> None:
    institution = make_institution(tmp_path, plan)
    train(institution, 1, plan)
    first, again = train(institution, 2, plan), train(institution, 2, plan)
    assert flat(update_of(first)).equal(flat(update_of(again)))
    assert again.figures == first.figures
    another_process = make_institution(tmp_path, plan)
    assert flat(update_of(train(another_process, 2, plan))).equal(flat(update_of(first)))


def test_another_kept_state_is_another_mechanism_with_noise_of_its_own(tmp_path: Path) -> None:
    """The same round, plan and tensors: were the noise equal, it would cancel in the difference."""
    institution, states = make_institution(tmp_path, PRIVATE), ClientStates(tmp_path, kept=3)
    first = train(institution, 2, PRIVATE)
    states.save(
        PRIVATE.job,
        1,
        {name: torch.full_like(tensor, 1e-6) for name, tensor in START.items()},
        plan=PRIVATE.sha256,
    )
    second = train(institution, 2, PRIVATE)
    assert institution.spent(PRIVATE.job).count == 2
    assert second.figures["epsilon"] > first.figures["epsilon"]
    assert (flat(update_of(first)) - flat(update_of(second))).norm() > 1e-2


def test_refused_round_keeps_nothing(tmp_path: Path) -> None:
    assert train(make_institution(tmp_path), 99).refusal == "rounds_spent"
    assert ClientStates(tmp_path, kept=3).version(PLAIN.job, before=100) is None


def test_institution_without_a_folder_declines() -> None:
    institution = make_institution(None)
    assert train(institution, 1).refusal == "no_state"
    assert institution.spent(PLAIN.job).count == 0


def test_other_objectives_need_no_folder_and_keep_nothing(tmp_path: Path) -> None:
    plan = replace(PLAIN, objective=ObjectiveConfig())
    assert train(make_institution(None, plan), 1, plan).refusal is None
    assert train(make_institution(tmp_path, plan), 1, plan).refusal is None
    assert list(tmp_path.iterdir()) == []


def test_damaged_state_is_a_refusal_and_not_a_fresh_start(tmp_path: Path) -> None:
    institution = make_institution(tmp_path)
    train(institution, 1)
    next(tmp_path.rglob("*.safetensors")).write_bytes(b"")
    assert train(institution, 2).refusal == "storage"
