"""What an institution's processes are started with: each has less reach than the one before."""

import dataclasses
import json
from pathlib import Path

import pytest
from small_kit import TASK

from confide.client.commands import client as cli
from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.client.deployment.launch import _PROGRAMS, ROLES, supervised
from confide.errors import ConfigError


@pytest.fixture
def kit(tmp_path: Path) -> InstitutionKit:
    (tmp_path / "client.yaml").write_text(
        "defaults: [institution, _self_]\nname: ward\ncoordinator: {address: 'localhost:1'}\n"
        "data: {path: records.csv}\npolicy: {budget: {epsilon: 5}}\n"
        f"task: {json.dumps(dataclasses.asdict(TASK))}\n"
    )
    return load_kit(tmp_path)


def test_only_the_trainer_sees_a_database_s_password(
    kit: InstitutionKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGPASSWORD", "WARD_DB", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    seen = {role: dict(_PROGRAMS[role](kit, 9).environment or {}) for role in ROLES}
    assert [role for role in ROLES if "s3cret" in seen[role].values()] == ["trainer"]
    assert seen["supernode"]["HTTPS_PROXY"] == "http://proxy:3128"
    assert {"PATH", "FLWR_HOME", "FLWR_TELEMETRY_ENABLED"} <= seen["executor"].keys()


@pytest.mark.parametrize("command", [[], ["status"], ["stop", "job"]])
def test_password_on_the_command_line_is_refused_masked(
    kit: InstitutionKit, command: list[str]
) -> None:
    with pytest.raises(ConfigError, match="password") as caught:
        cli.main([*command, str(kit.folder), "data.path=postgresql://ann:s3cret@db/ward"])
    assert "s3cret" not in str(caught.value)


def test_a_variable_stands_for_a_password_on_the_command_line(
    kit: InstitutionKit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WARD", "s3cret")
    path = "data.path='postgresql://ann:${oc.env:WARD}@db/ward'"
    assert cli.main(["status", str(kit.folder), path, "data.query='SELECT 1'"]) == 1
    assert "s3cret" not in capsys.readouterr().out
    again = load_kit(kit.folder, [path, "data.query='SELECT 1'"])
    # What the trainer's process is started with, and what everybody can read of it
    assert again.overrides[0] == path
    assert again.config.data.path == "postgresql://ann:s3cret@db/ward"


def test_flags_may_stand_between_kit_and_overrides(
    kit: InstitutionKit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        cli.main(["status", str(kit.folder), "--json", "policy.budget.epsilon=7"]) == 1
    )  # nothing runs
    assert '"institution": "ward"' in capsys.readouterr().out


# --- the dashboard


def test_a_kit_that_names_an_address_keeps_its_dashboard_running(kit: InstitutionKit) -> None:
    named = load_kit(kit.folder, ["dashboard=127.0.0.1:9108", "trainer.device=cpu"])
    with supervised(named) as supervisor:
        first, *others = supervisor.programs
    assert [one.name for one in others] == list(ROLES)
    assert first.name == "dashboard"
    words = ["dashboard", str(kit.folder), "dashboard=127.0.0.1:9108", "trainer.device=cpu"]
    assert list(first.command)[3:-1] == [*words, "--listen", "127.0.0.1:9108"]
    # Whatever becomes of it, the others go on
    assert first.is_ready is None
    assert first.most_failures is None
    assert not first.is_final


def test_neither_a_kit_without_an_address_nor_one_role_alone_has_a_dashboard(
    kit: InstitutionKit,
) -> None:
    named = load_kit(kit.folder, ["dashboard=127.0.0.1:9108", "runtime_port=9"])
    for one, only in ((kit, None), (named, "executor")):
        with supervised(one, only) as supervisor:
            assert "dashboard" not in [program.name for program in supervisor.programs]


def test_an_address_that_others_reach_is_a_mistake_of_the_kit(kit: InstitutionKit) -> None:
    with pytest.raises(ConfigError, match=r"dashboard=0\.0\.0\.0:9108: .* password"):
        load_kit(kit.folder, ["dashboard=0.0.0.0:9108"])
