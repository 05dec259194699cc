"""SCAFFOLD against the paper's own lines, by hand, and at an institution's door."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from builders import build_institution, build_plan, workload_of
from small_strategies import compose_strategy, given, local_sgd, took_part

from confide.client.algorithm_state import ClientStates
from confide.client.institution import Institution
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import ObjectiveConfig, ScaffoldConfig
from confide.errors import ConfigError
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode, encode, flatten
from confide.strategies.algorithm import join_extra
from confide.strategies.algorithms.fedavg import fedavg
from confide.strategies.algorithms.scaffold import scaffold
from confide.strategies.composed import Strategy
from confide.strategies.strategy import ClientUpdate, RoundStart

STEPS, RATE = 3, 0.1
EVERYBODY = (0, 1, 2)


@dataclass(frozen=True)
class Quadratic:
    """A client whose loss is ``curvature / 2 (w - optimum)^2``."""

    curvature: float
    optimum: float

    def gradient(self, w: float) -> float:
        return self.curvature * (w - self.optimum)

    def gradient_of(self, params: Tensors) -> Tensors:
        return {name: self.curvature * (value - self.optimum) for name, value in params.items()}


CLIENTS = (Quadratic(1.0, 2.0), Quadratic(4.0, -1.0), Quadratic(0.5, 6.0))
OPTIMUM = (1.0 * 2.0 + 4.0 * -1.0 + 0.5 * 6.0) / (1.0 + 4.0 + 0.5)


def run_scaffold(
    cohorts: Sequence[Sequence[int]],
    *,
    clients: Sequence[Quadratic] = CLIENTS,
    server_rate: float = 1.0,
    arrive: int = 1,
) -> tuple[list[float], list[float]]:
    """Return the global tensor after each round, and the clients' control variates in the end."""
    composed = compose_strategy(
        "strategy=scaffold", f"strategy.server_optimizer.learning_rate={server_rate}"
    )
    params: Tensors = {"w": torch.zeros(1)}
    state, path = composed.init(params), []
    kept: list[Tensors] = [{"w": torch.zeros(1)} for _ in clients]
    for server_round, cohort in enumerate(cohorts, start=1):
        sent = composed.request(params, state)
        under_way = composed.begin(
            RoundStart(
                params=params,
                state=state,
                cohort=[9] * len(cohort),
                max_value=1024.0,
                server_round=server_round,
            )
        )
        for k in cohort[::arrive]:
            known = given(
                params,
                kept=kept[k],
                extra={"w": sent["extra/w"]},
                steps=STEPS,
                learning_rate=RATE,
            )
            result = local_sgd(scaffold(), known, clients[k].gradient_of)
            kept[k] = result.kept
            tensors = join_extra(result.update, result.extra)
            under_way.add(ClientUpdate(client=str(k), tensors=tensors, num_examples=k + 1))
        params, state = under_way.finish(took_part(cohort, len(clients)))
        path.append(float(params["w"]))
    return path, [float(one["w"]) for one in kept]


def algorithm_1(
    cohorts: Sequence[Sequence[int]], *, server_rate: float = 1.0
) -> tuple[list[float], list[float]]:
    """Algorithm 1 of Karimireddy et al. 2020, line by line, option II."""
    x, c, path = 0.0, 0.0, []
    variates = [0.0] * len(CLIENTS)
    for cohort in cohorts:
        moves, changes = [], []
        for i in cohort:
            y = x
            for _ in range(STEPS):
                y -= RATE * (CLIENTS[i].gradient(y) - variates[i] + c)
            new = variates[i] - c + (x - y) / (STEPS * RATE)
            moves.append(y - x)
            changes.append(new - variates[i])
            variates[i] = new
        x += server_rate / len(cohort) * sum(moves)
        c += len(cohort) / len(CLIENTS) * sum(changes) / len(cohort)
        path.append(x)
    return path, variates


@pytest.mark.parametrize("server_rate", [1.0, 0.5])
@pytest.mark.parametrize(
    "cohorts",
    [[EVERYBODY] * 3, [(0, 1), (1, 2), (0, 2)], [(2,), (0,), (2,)], [EVERYBODY, (1,), (0, 2)]],
    ids=["full", "two of three", "one of three", "mixed"],
)
def test_rounds_follow_algorithm_1(cohorts: list[tuple[int, ...]], server_rate: float) -> None:
    path, kept = run_scaffold(cohorts, server_rate=server_rate)
    expected_path, expected_kept = algorithm_1(cohorts, server_rate=server_rate)
    assert path == pytest.approx(expected_path, abs=1e-5)
    assert kept == pytest.approx(expected_kept, abs=1e-5)


def test_a_client_part_by_hand() -> None:
    # Gradient 2 everywhere, c_k = 0.5, c = 1: each of 2 steps goes 0.1 * (2 - 0.5 + 1) = 0.25 down.
    # Update -0.5; c_k+ = 0.5 - 1 + 0.5 / (2 * 0.1) = 2; the change that is sent is 1.5.
    known = given(
        {"w": torch.tensor([3.0])},
        kept={"w": torch.tensor([0.5])},
        extra={"w": torch.tensor([1.0])},
        steps=2,
        learning_rate=0.1,
    )
    result = local_sgd(scaffold(), known, lambda params: {"w": torch.tensor([2.0])})
    assert result.update["w"].item() == pytest.approx(-0.5, abs=1e-6)
    assert result.kept["w"].item() == pytest.approx(2.0, abs=1e-5)
    assert result.extra["w"].item() == pytest.approx(1.5, abs=1e-5)


def test_server_part_by_hand() -> None:
    # Two of four clients: mean update 2, mean change 3; x = 1 + 2, c = 0 + 2/4 * 3.
    composed, params = compose_strategy("strategy=scaffold"), {"w": torch.ones(1)}
    under_way = composed.begin(
        RoundStart(
            params=params, state=composed.init(params), cohort=[1, 9], max_value=8.0, server_round=1
        )
    )
    for client, update, change in (("a", 1.0, 2.0), ("b", 3.0, 4.0)):
        tensors = {"w": torch.tensor([update]), "extra/w": torch.tensor([change])}
        under_way.add(ClientUpdate(client=client, tensors=tensors, num_examples=7))
    params, state = under_way.finish(took_part("ab", 4))
    assert params["w"].item() == 3.0
    assert composed.request(params, state)["extra/w"].item() == 1.5


def test_with_zero_control_variates_it_is_fedavg() -> None:
    path, _ = run_scaffold([EVERYBODY])
    uniform, params = fedavg(weighting="uniform"), {"w": torch.zeros(1)}
    under_way = uniform.begin(
        RoundStart(params=params, state={}, cohort=[1, 1, 1], max_value=1024.0, server_round=1)
    )
    for k, client in enumerate(CLIENTS):
        w = 0.0
        for _ in range(STEPS):
            w -= RATE * client.gradient(w)
        under_way.add(ClientUpdate(client=str(k), tensors={"w": torch.tensor([w])}, num_examples=1))
    after, _ = under_way.finish(took_part(EVERYBODY, 3))
    assert path == pytest.approx([after["w"].item()], abs=1e-6)


def test_one_client_is_local_sgd() -> None:
    path, _ = run_scaffold([(0,)] * 4, clients=CLIENTS[:1])
    w, expected = 0.0, []
    for _ in range(4):
        for _ in range(STEPS):
            w -= RATE * CLIENTS[0].gradient(w)
        expected.append(w)
    assert path == pytest.approx(expected, abs=1e-6)


def test_order_of_arrival_does_not_matter() -> None:
    cohorts = [EVERYBODY, (0, 2), EVERYBODY]
    assert run_scaffold(cohorts) == run_scaffold(cohorts, arrive=-1)


def test_scaffold_finds_the_optimum_that_fedavg_keeps_away_from() -> None:
    path, kept = run_scaffold([EVERYBODY] * 200)
    assert path[-1] == pytest.approx(OPTIMUM, abs=1e-3)
    assert kept == pytest.approx([client.gradient(OPTIMUM) for client in CLIENTS], abs=1e-2)


def test_scaffold_finds_it_with_one_client_a_round_too() -> None:
    order = itertools.islice(itertools.cycle((0, 2, 1)), 900)
    assert run_scaffold([(k,) for k in order])[0][-1] == pytest.approx(OPTIMUM, abs=1e-2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strategy.aggregator.weighting=num_examples"], "SCAFFOLD is defined for uniform weights"),
        (["client.optimizer.momentum=0.9"], r"kind=scaffold takes the update .* momentum=0\.9"),
        (["client.optimizer.kind=adam"], r"kind=scaffold takes the update .* kind=adam"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=heart_disease", "strategy=scaffold", *overrides])


# At the door

PLAN = build_plan(
    objective=ScaffoldConfig(),
    client=ClientConfig(batch_size=8, local_steps=3, optimizer=OptimizerConfig(kind="sgd")),
    num_rounds=4,
)
PRIVATE = replace(PLAN, privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3))
START: Tensors = trainable_tensors(workload_of(PLAN).model)
ZERO = {name: torch.zeros_like(value) for name, value in START.items()}
SHAPES = scaffold().reply_shapes({name: tuple(value.shape) for name, value in START.items()})


def institution(folder: Path, plan: TrainingPlan) -> Institution:
    return build_institution(plan, states=ClientStates(folder, kept=3))


def train(
    asked: Institution,
    server_round: int,
    plan: TrainingPlan = PLAN,
    *,
    control: Tensors = ZERO,
) -> Reply:
    arrays = encode(join_extra(START, control))
    request = Request(plan=plan.to_json(), server_round=server_round, arrays=arrays)
    return asked.handle("train", request)


def sent(reply: Reply) -> Tensors:
    assert reply.refusal is None
    assert reply.arrays is not None
    return decode(reply.arrays, SHAPES, max_value=1e9).tensors


def update_of(reply: Reply) -> torch.Tensor:
    return flatten(sent(reply), START)


@pytest.mark.parametrize("plan", [PLAN, PRIVATE], ids=["plain", "private"])
def test_institution_keeps_a_function_of_its_updates(plan: TrainingPlan, tmp_path: Path) -> None:
    """Of nothing else: with noise in the update, the control variate has the same noise."""
    reply = sent(train(institution(tmp_path, plan), 1, plan))
    kept = ClientStates(tmp_path, kept=3).load(plan.job, before=2)
    assert kept is not None
    rate = plan.client.optimizer.learning_rate
    for name in START:
        expected = -reply[name] / (3 * rate)
        torch.testing.assert_close(kept[name], expected, rtol=1e-5, atol=1e-6)
        assert reply[f"extra/{name}"].equal(kept[name])


@pytest.mark.parametrize("plan", [PLAN, PRIVATE], ids=["plain", "private"])
def test_round_asked_again_gives_the_same_answer(plan: TrainingPlan, tmp_path: Path) -> None:
    asked = institution(tmp_path, plan)
    train(asked, 1, plan)
    first, again = sent(train(asked, 2, plan)), sent(train(asked, 2, plan))
    assert all(first[name].equal(again[name]) for name in SHAPES)


def test_another_control_variate_is_another_mechanism_with_noise_of_its_own(
    tmp_path: Path,
) -> None:
    """The same round, plan and model: were the noise equal, it would cancel in the difference."""
    asked = institution(tmp_path, PRIVATE)
    first = train(asked, 1, PRIVATE)
    other = {name: torch.full_like(value, 1e-6) for name, value in START.items()}
    second = train(asked, 1, PRIVATE, control=other)
    assert asked.spent(PRIVATE.job).count == 2
    assert (update_of(first) - update_of(second)).norm() > 1e-2


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({}, "tensor_names"),
        ({**ZERO, "more": torch.zeros(1)}, "tensor_names"),
        ({name: torch.zeros(7) for name in START}, "tensor_shape"),
        (
            {name: torch.full_like(value, torch.inf) for name, value in START.items()},
            "tensor_values",
        ),
    ],
    ids=["missing", "more", "shape", "infinite"],
)
def test_extra_tensors_that_were_not_declared_are_refused(
    extra: Tensors, code: str, tmp_path: Path
) -> None:
    asked = institution(tmp_path, PLAN)
    assert train(asked, 1, control=extra).refusal == code
    assert ClientStates(tmp_path, kept=3).version(PLAN.job, before=9) is None


def test_plain_plan_takes_no_extra_tensors(tmp_path: Path) -> None:
    plan = replace(PLAN, objective=ObjectiveConfig())
    assert train(institution(tmp_path, plan), 1, plan).refusal == "tensor_names"


def test_plan_with_an_optimizer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    adam = replace(PLAN, client=ClientConfig(optimizer=OptimizerConfig(kind="adam")))
    assert train(institution(tmp_path, PLAN), 1, adam).refusal == "plan_invalid"


def test_composed_strategy_declares_what_travels() -> None:
    composed = compose_strategy("strategy=scaffold")
    assert isinstance(composed, Strategy)
    state = composed.init(START)
    assert composed.request(START, state).keys() == SHAPES.keys()
    assert composed.reply_shapes({"w": (2,)}) == {"w": (2,), "extra/w": (2,)}
