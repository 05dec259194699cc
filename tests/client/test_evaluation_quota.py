"""Exact scores are few, and paid for: many of them would tell a label."""

from pathlib import Path

import pytest
from small_kit import PRIVATE, ask, make_kit, start

from confide.client.deployment.served import DeployedInstitution
from confide.client.evaluation_quota import Evaluations
from confide.client.training.deadline import Deadline
from confide.errors import DeniedError, UnreadableError
from confide.protocol.messages import Reply, Request
from confide.protocol.tensors import encode

BUDGET = {"budget": {"epsilon": 20.0}, "min_records": 50, "min_support": 1}


def asked(shift: float) -> Request:
    arrays = encode({name: tensor + shift for name, tensor in start().items()})
    return Request(plan=PRIVATE.to_json(), arrays=arrays, splits=("test",))


def score(door: DeployedInstitution, shift: float) -> Reply:
    return door.handle("evaluate", asked(shift))


def test_who_has_not_trained_has_nothing_scored(tmp_path: Path) -> None:
    door = DeployedInstitution(make_kit(tmp_path, policy=BUDGET), deadline=Deadline())
    reply = score(door, 0.0)
    assert reply.refusal == "not_trained"
    assert reply.evaluations == {}


def test_a_run_has_few_models_scored_and_the_same_one_as_often_as_it_asks(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, policy=BUDGET | {"max_evaluations": 2})
    door = DeployedInstitution(kit, deadline=Deadline())
    assert door.handle("train", ask()).refusal is None
    assert [score(door, shift).refusal for shift in (0.0, 0.1, 0.0, 0.1)] == [None] * 4
    reply = score(door, 0.2)
    assert (reply.refusal, reply.figures) == (
        "policy_max_evaluations",
        {"asked": 3.0, "allowed": 2.0},
    )
    assert (
        score(DeployedInstitution(kit, deadline=Deadline()), 0.3).refusal
        == "policy_max_evaluations"
    )


def test_a_job_of_its_own_is_counted_on_its_own(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "own" / "evaluations.json", most=1)
    for job in ("a", "b"):
        evaluations.admit(job, "model", has_trained=True)
    with pytest.raises(
        DeniedError, match=r"policy\.max_evaluations: job b had 1 models scored, allowed 1"
    ):
        evaluations.admit("b", "another", has_trained=True)
    assert (tmp_path / "own" / "evaluations.json").stat().st_mode & 0o777 == 0o600


def test_a_damaged_count_lets_nobody_through(tmp_path: Path) -> None:
    (tmp_path / "evaluations.json").write_text("{")
    with pytest.raises(UnreadableError, match="remove it if no run is under way"):
        Evaluations(tmp_path / "evaluations.json", most=1).admit("a", "model", has_trained=True)
