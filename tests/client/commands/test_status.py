"""How plans that asked stand, as an operator sees them."""

import dataclasses
import json
from pathlib import Path

import pytest

from confide.client.commands.status import show_plan, status
from confide.client.deployment.job_files import keep_plan, stop_mark
from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.config.composing.compose import compose
from confide.protocol.new_plan import make_plan
from confide.protocol.plan import TrainingPlan

OVERRIDES = ("privacy=record", "privacy.epsilon=3", "data.public=true", "job=j")


@pytest.fixture
def plan() -> TrainingPlan:
    return make_plan(compose(["experiment=heart_disease", *OVERRIDES]), backbone_sha256=None)


def kit_of(folder: Path, plan: TrainingPlan, *overrides: str) -> InstitutionKit:
    lines = [
        "defaults: [institution, _self_]",
        "name: ward",
        "coordinator: {address: '127.0.0.1:1'}",
        "data: {path: x.csv}",
        f"task: {json.dumps(dataclasses.asdict(plan.task))}",
    ]
    (folder / "client.yaml").write_text("\n".join(lines))
    kit = load_kit(folder, ["policy.budget.epsilon=16", *overrides])
    keep_plan(kit, plan.job, plan.to_json())
    return kit


@pytest.mark.parametrize(
    ("override", "stands"),
    [
        ("policy.max_epsilon=8", "allowed"),
        ("policy.max_epsilon=1", "denied by policy.max_epsilon"),
        ("policy.approval=manual", "waits for approval"),
    ],
)
def test_a_plan_that_asked_is_shown_as_it_stands(
    tmp_path: Path, plan: TrainingPlan, override: str, stands: str
) -> None:
    assert status(kit_of(tmp_path, plan, override))["jobs"] == {"j": stands}


def test_a_stopped_job_and_another_task_are_shown(tmp_path: Path, plan: TrainingPlan) -> None:
    kit = kit_of(tmp_path, plan)
    other = dataclasses.replace(plan.task, label_column="other")
    assert status(dataclasses.replace(kit, task=other))["jobs"]["j"].startswith("denied: its task")
    stop_mark(kit, "j").parent.mkdir()
    stop_mark(kit, "j").touch()
    assert status(kit)["jobs"] == {"j": "stopped"}


def test_a_plan_that_counts_on_others_says_against_whom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("aggregation=secure", "privacy.trust=peers", "privacy.honest_peers=3", *OVERRIDES)
    asked = make_plan(compose(["experiment=heart_disease", *words]), backbone_sha256=None)
    kit = kit_of(tmp_path, asked, "policy.max_epsilon=7")
    show_plan(kit, asked)
    told = " ".join(capsys.readouterr().out.split())
    assert "epsilon 3 at delta 1e-05 a record against a coordinator that sees sums alone" in told
    assert "if 3 of the institutions in each of them are honest" in told
    assert "at most policy.max_epsilon=7" in told
