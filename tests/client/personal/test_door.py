"""Personal algorithms at an institution's door: what leaves, what is charged, what is checked."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import POLICY, build_institution, build_ledger, build_plan, workload_of

from confide.client.algorithm_state import ClientStates
from confide.client.institution import Institution
from confide.client.ledger.file import LedgerFile
from confide.client.schedule import make_schedule, score_schedules
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.objectives import ObjectiveConfig
from confide.config.strategies.personal import (
    ApflConfig,
    DittoConfig,
    FedPerConfig,
    FedRepConfig,
    FineTuningConfig,
)
from confide.models.networks import trainable_tensors
from confide.protocol.messages import PERSONAL, Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode, encode
from confide.storage.tensor_files import sha256

STEPS = 3
LOCAL = ClientConfig(
    local_steps=STEPS,
    sampling_rate=0.25,
    optimizer=OptimizerConfig(kind="sgd", learning_rate=0.1),
)
PRIVATE = PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3)


def plan_of(objective: ObjectiveConfig, **fields: object) -> TrainingPlan:
    chosen = {"backbone": MlpConfig(), "client": LOCAL, "num_rounds": 3, **fields}
    return build_plan(objective=objective, **chosen)


def start_of(plan: TrainingPlan) -> Tensors:
    return trainable_tensors(workload_of(plan).model)


def ask(
    institution: Institution, plan: TrainingPlan, params: Tensors, number: int, **fields: object
) -> Reply:
    request = Request(
        plan=plan.to_json(),
        server_round=number,
        arrays=encode(params),
        **fields,  # type: ignore[arg-type]
    )
    return institution.handle("evaluate" if "splits" in fields else "train", request)


def states(folder: Path) -> ClientStates:
    return ClientStates(folder, kept=3)


def shapes(tensors: Tensors) -> Mapping[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


@pytest.mark.parametrize("privacy", [PrivacyConfig(unit="none"), PRIVATE], ids=["plain", "private"])
@pytest.mark.parametrize("objective", [FedPerConfig(), FedRepConfig()], ids=["fedper", "fedrep"])
def test_the_head_stays_and_does_not_travel(
    objective: ObjectiveConfig, privacy: PrivacyConfig, tmp_path: Path
) -> None:
    plan = plan_of(objective, privacy=privacy)
    start = start_of(plan)
    head = {name for name in start if name.startswith("layers.2.")}
    assert head
    institution = build_institution(plan, states=states(tmp_path))
    reply = ask(institution, plan, start, 1)
    assert reply.refusal is None
    shared = {name: shape for name, shape in shapes(start).items() if name not in head}
    assert reply.arrays is not None
    sent = decode(reply.arrays, shared, max_value=1e6).tensors
    assert not set(sent) & head
    assert all(value.abs().max() > 0 for value in sent.values())
    kept = states(tmp_path).load(plan.job, before=2)
    assert kept is not None
    assert set(kept) == head
    assert all(not kept[name].equal(start[name]) for name in head)


@pytest.mark.parametrize("objective", [DittoConfig(), ApflConfig()], ids=lambda one: one.kind)
def test_two_private_trainings_are_charged_for_both_before_the_first_step(
    objective: ObjectiveConfig, tmp_path: Path
) -> None:
    plan = plan_of(objective, privacy=PRIVATE)
    once = replace(plan, objective=ObjectiveConfig())
    double = replace(once, client=replace(LOCAL, local_steps=2 * STEPS))
    found, expected = (make_schedule(it, num_examples=40) for it in (plan, double))
    assert found.steps == STEPS
    assert found.noise_multiplier == expected.noise_multiplier
    assert found.noise_multiplier > make_schedule(once, num_examples=40).noise_multiplier
    # The ledger has the steps of both, at that noise
    ledger = build_ledger(tmp_path / "ledger", epsilon=8.0, delta=1e-3)
    institution = build_institution(
        plan, ledger=ledger, key_fn=None, states=states(tmp_path / "states")
    )
    reply = ask(institution, plan, start_of(plan), 1)
    assert reply.refusal is None
    (run,) = LedgerFile(tmp_path / "ledger").state.populations["ward"].runs.values()
    assert run.terms.steps == 2 * STEPS
    assert run.terms.noise_multiplier == expected.noise_multiplier
    assert reply.figures["epsilon"] == pytest.approx(
        expected.epsilon_after(1, delta=1e-3, accountant=PRIVATE.accountant)
    )


def test_a_policy_counts_the_passes_of_both_trainings(tmp_path: Path) -> None:
    plan = plan_of(DittoConfig())
    policy = replace(POLICY, max_epochs=1.0)
    institution = build_institution(plan, policy=policy, states=states(tmp_path))
    assert ask(institution, plan, start_of(plan), 1).refusal == "policy_max_epochs"
    once = plan_of(FedPerConfig())
    institution = build_institution(once, policy=policy, states=states(tmp_path))
    assert ask(institution, once, start_of(once), 1).refusal is None


def test_fedrep_costs_what_fedavg_costs() -> None:
    plan = plan_of(FedRepConfig(), privacy=PRIVATE)
    plain = replace(plan, objective=ObjectiveConfig())
    assert make_schedule(plan, num_examples=40) == make_schedule(plain, num_examples=40)


@pytest.mark.parametrize(
    "objective",
    [FedPerConfig(), FedRepConfig(), DittoConfig(), ApflConfig(), FineTuningConfig()],
    ids=lambda one: one.kind,
)
def test_a_round_that_is_asked_again_is_the_same_round(
    objective: ObjectiveConfig, tmp_path: Path
) -> None:
    plan = plan_of(objective, privacy=PRIVATE)
    start, place = start_of(plan), states(tmp_path)
    first = build_institution(plan, states=place)
    for number in (1, 2, 3):
        ask(first, plan, start, number)
    kept = place.load(plan.job, before=4)
    assert kept is not None
    # Another process, which has the files alone, and is asked for the last round again
    again = build_institution(plan, states=place)
    assert ask(again, plan, start, 3).refusal is None
    repeated = place.load(plan.job, before=4)
    assert repeated is not None
    assert sha256(repeated) == sha256(kept)


@pytest.mark.parametrize("objective", [DittoConfig(), FedPerConfig()], ids=lambda one: one.kind)
def test_what_was_kept_is_checked_as_what_comes_is(
    objective: ObjectiveConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(objective, privacy=PRIVATE)
    start, place = start_of(plan), states(tmp_path)
    institution = build_institution(plan, states=place)
    assert ask(institution, plan, start, 1).refusal is None
    kept = place.load(plan.job, before=2)
    assert kept is not None
    checked: list[str] = []
    trainer = institution._trainer
    check = trainer.check_rows

    def counted(tensors: Tensors, schedule: object) -> None:
        checked.append(sha256(tensors))
        check(tensors, schedule)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "check_rows", counted)
    ask(institution, plan, start, 2)
    assert sha256(start | kept) in checked
    # Beyond the policy's bound of what comes a round is refused, and the figure stays
    large = {name: torch.full_like(value, 1e9) for name, value in kept.items()}
    place.save(plan.job, 2, large, plan=plan.sha256)
    reply = ask(institution, plan, start, 3)
    assert (reply.refusal, reply.figures) == ("privacy", {})


def test_own_and_global_model_are_scored_on_the_same_test_records(tmp_path: Path) -> None:
    plan = plan_of(DittoConfig(proximal_lambda=0.0))
    start = start_of(plan)
    institution = build_institution(plan, states=states(tmp_path))
    before = ask(institution, plan, start, 0, splits=("test", PERSONAL)).evaluations
    assert before["test"] == before[PERSONAL]  # nothing is kept yet
    ask(institution, plan, start, 1)
    after = ask(institution, plan, start, 0, splits=("validation", "test", PERSONAL)).evaluations
    assert after["test"] == before["test"]
    assert after[PERSONAL] != before[PERSONAL]
    # An algorithm without a model of its own tells nothing under that name
    plain = replace(plan, objective=ObjectiveConfig())
    institution = build_institution(plain)
    ask(institution, plain, start, 1)
    told = ask(institution, plain, start, 0, splits=("test", PERSONAL)).evaluations
    assert set(told) == {"test"}


def test_noisy_scores_of_both_are_two_declared_releases() -> None:
    both = score_schedules(plan_of(DittoConfig(), privacy=PRIVATE))
    one = score_schedules(plan_of(FedPerConfig(), privacy=PRIVATE))
    assert (both["test"].steps, one["test"].steps) == (2, 1)
    assert both["test"].noise_multiplier > one["test"].noise_multiplier
