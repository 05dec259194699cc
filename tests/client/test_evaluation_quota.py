"""Exact scores are few over all runs, and paid for: many of them would tell a label."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_kit import PRIVATE, ask, make_kit, start

from confide.client.deployment.served import DeployedInstitution
from confide.client.evaluation_quota import Evaluations
from confide.client.training.deadline import Deadline
from confide.errors import DeniedError, UnreadableError
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import encode

EXACT = {
    "budget": {"epsilon": 20.0},
    "min_records": 50,
    "min_support": 1,
    "metrics_privacy": "exact",
}


def score(door: DeployedInstitution, shift: float, plan: TrainingPlan = PRIVATE) -> Reply:
    arrays = encode({name: tensor + shift for name, tensor in start().items()})
    return door.handle("evaluate", Request(plan=plan.to_json(), arrays=arrays, splits=("test",)))


def test_who_has_not_trained_has_nothing_scored_exactly(tmp_path: Path) -> None:
    door = DeployedInstitution(make_kit(tmp_path, policy=EXACT), deadline=Deadline())
    reply = score(door, 0.0)
    assert reply.refusal == "not_trained"
    assert reply.evaluations == {}


def test_rounds_evaluations_and_runs_share_one_count_and_a_repeat_is_free(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, policy=EXACT | {"max_evaluations": 3})
    door = DeployedInstitution(kit, deadline=Deadline())
    assert door.handle("train", ask()).evaluations  # the first of three
    assert [score(door, shift).refusal for shift in (0.0, 0.1, 0.0, 0.1)] == [None] * 4
    reply = score(door, 0.2)
    assert (reply.refusal, reply.figures) == (
        "policy_max_evaluations",
        {"asked": 4.0, "allowed": 3.0},
    )
    again = DeployedInstitution(kit, deadline=Deadline())
    assert score(again, 0.3).refusal == "policy_max_evaluations"
    # Another run is trained without scores
    trained = again.handle("train", ask(replace(PRIVATE, job="another")))
    assert (trained.refusal, trained.evaluations) == (None, {})


def test_a_job_gets_the_exact_counts_of_one_model_a_split(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, policy=EXACT)
    door = DeployedInstitution(kit, deadline=Deadline())
    assert door.handle("train", ask()).tallies == {}  # a round uses up nothing
    first = score(door, 0.0)
    assert first.tallies["test"].sums
    again = DeployedInstitution(kit, deadline=Deadline())
    assert score(again, 0.1).tallies == {}
    assert score(again, 0.1).evaluations  # metrics are told all the same
    assert score(again, 0.0).tallies == first.tallies


def test_counts_that_were_given_are_known_after_a_crash_and_told_apart(tmp_path: Path) -> None:
    for _ in range(2):
        evaluations = Evaluations(tmp_path / "own" / "scores", most=2)
        assert evaluations.admits_counts("a", "test", "model")
        assert evaluations.admits_counts("a", "validation", "another")
        assert evaluations.admits_counts("b", "test", "third")
        assert not evaluations.admits_counts("a", "test", "another")
    (tmp_path / "own" / "scores.counts").write_text("{")
    with pytest.raises(UnreadableError, match="how many exact scores were given is not known"):
        evaluations.admits_counts("a", "test", "model")


def test_jobs_are_counted_together(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "own" / "scores", most=2)
    for job in ("a", "b"):
        evaluations.admit(job, "model")
    with pytest.raises(
        DeniedError, match=r"policy\.max_evaluations: asked 3 exact scores, allowed 2"
    ):
        evaluations.admit("b", "another")
    assert (tmp_path / "own" / "scores").stat().st_mode & 0o777 == 0o600


def test_a_damaged_count_lets_nobody_through(tmp_path: Path) -> None:
    (tmp_path / "scores").write_text("{")
    with pytest.raises(UnreadableError, match="how many exact scores were given is not known"):
        Evaluations(tmp_path / "scores", most=1).admit("a", "model")
