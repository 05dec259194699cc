"""``confide client``: its words, what an operator sees, and how a job is approved and stopped."""

import contextlib
import io
import json
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_kit import NAME, PRIVATE, ask, make_kit, write_kit

import confide.cli
from confide.client.commands.client import main
from confide.client.commands.status import show_plan, status
from confide.client.deployment.job_files import plan_path
from confide.client.deployment.kit import InstitutionKit
from confide.client.deployment.launch import ROLES, secret_path, supervised
from confide.client.deployment.served import DeployedInstitution
from confide.client.training.deadline import Deadline
from confide.deployment.lifetime import PROCESSES
from confide.errors import ConfigError
from confide.protocol.masked_sums import MaskedSums
from confide.storage.files import locked

JOB = PRIVATE.job
MANUAL: dict[str, Any] = {"budget": {"epsilon": 20.0}, "min_records": 50, "approval": "manual"}
CHANGED = replace(PRIVATE, num_rounds=3)


def open_door(kit: InstitutionKit) -> DeployedInstitution:
    return DeployedInstitution(kit, deadline=Deadline())


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def told(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> dict[str, Any]:
    main([*words, "--json"])
    loaded: dict[str, Any] = json.loads(capsys.readouterr().out)
    return loaded


# --- words


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["help"], ["status", "--help"], ["approve", "job", "-h"]]
)
def test_help_shows_every_way_to_call_it(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(
        word in shown
        for word in ("client status", "client approve JOB", "client stop JOB", "--only ROLE")
    )


WRONG = {
    ("status", "--jsn"): "confide client status: unrecognized arguments: --jsn",
    ("approve",): "arguments are required: JOB",
    ("stop",): "arguments are required: JOB",
    ("a", "b"): "Expected one folder of a kit, got a b",
    ("--only", "cook", "a"): "invalid choice: 'cook'",
    ("nowhere",): r"nowhere holds no client\.yaml",
    (): r"This folder holds no client\.yaml; name the folder of a kit",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=WRONG[words]):
        main(words)


def test_a_wrong_word_is_an_exit_status_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert confide.cli.main(["client", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("confide client: ")


class Stopped:
    """A supervisor whose people press Ctrl-C, or whose service is stopped."""

    def __init__(self, number: int) -> None:
        self._number = number

    def run(self, stop: threading.Event) -> int:
        os.kill(os.getpid(), self._number)
        assert stop.wait(5)
        return 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_it_is_told_that_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    fake = contextlib.nullcontext(Stopped(number))
    monkeypatch.setattr("confide.client.commands.client.supervised", lambda *_: fake)
    monkeypatch.setattr("confide.client.commands.client.log_to_stderr", lambda: None)
    caplog.set_level("INFO")
    assert main([str(write_kit(tmp_path))]) == 0
    assert caplog.messages[-1].startswith(f"{NAME} was stopped and takes part no more")
    assert f"`confide client {tmp_path}` takes part again" in caplog.messages[-1]


@pytest.mark.parametrize("role", ROLES)
def test_only_the_trainer_looks_at_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, role: str
) -> None:
    """Of three users the others cannot."""
    fake = contextlib.nullcontext(Stopped(signal.SIGTERM))
    monkeypatch.setattr("confide.client.commands.client.supervised", lambda *_: fake)
    monkeypatch.setattr("confide.client.commands.client.log_to_stderr", lambda: None)
    caplog.set_level("INFO")
    main([str(write_kit(tmp_path)), "--only", role])
    assert any("Its budget is kept in" in text for text in caplog.messages) == (role == "trainer")


def test_one_role_alone_needs_a_port_to_meet_at(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set runtime_port in client\.yaml"):
        main([str(write_kit(tmp_path)), "--only", "executor", "trainer.device=cpu"])


def test_a_kit_that_runs_is_not_run_twice(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    (kit.state / "logs").mkdir(parents=True)
    busy = locked(kit.state / "logs" / ".lock", otherwise="")
    with busy, pytest.raises(ConfigError, match="This kit is running already"), supervised(kit):
        pass


def test_the_secret_between_supernode_and_executor_is_its_owners_alone(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    with supervised(kit):
        assert secret_path(kit).stat().st_mode & 0o777 == 0o600
        assert len(secret_path(kit).read_bytes()) == 32


def test_a_group_that_is_none_is_a_mistake_in_the_kit(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="runtime_group=no-such-group"),
        supervised(make_kit(tmp_path, runtime_group="no-such-group")),
    ):
        pass


@pytest.mark.slow
def test_a_trainer_whose_kit_is_wrong_ends_the_whole_and_is_not_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kit = make_kit(tmp_path, socket_group="no-such-group")
    with supervised(kit) as supervisor:
        assert supervisor.run(threading.Event()) == 2
    assert "trainer ended with status 2" in caplog.text
    assert "socket_group=no-such-group" in (kit.state / "logs" / "trainer.log").read_text()


# --- status


def test_status_without_processes_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(write_kit(tmp_path))]) == 1
    shown = capsys.readouterr().out
    assert NAME in shown
    assert shown.count("not running") == len(ROLES)


def test_status_as_json_has_plain_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = told(capsys, ["status", str(write_kit(tmp_path))])
    assert shown["institution"] == NAME
    assert shown["processes"] == dict.fromkeys(ROLES)
    assert (shown["now"], shown["budgets"], shown["jobs"]) == (None, {}, {})


def test_status_finds_processes_of_one_supervisor_or_of_three(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    for folder, role in (("logs", "executor"), ("supernode", "supernode")):
        (kit.state / folder).mkdir(parents=True)
        (kit.state / folder / PROCESSES).write_text(
            json.dumps({"supervisor": os.getpid(), role: 1})
        )
    assert status(kit)["processes"] == {"trainer": None, "executor": 1, "supernode": 1}


def test_status_of_one_process_is_an_exit_status_for_health_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit(tmp_path)
    words = ["status", str(tmp_path), "--only", "executor"]
    assert main(words) == 1
    (kit.state / "executor").mkdir(parents=True)
    file = kit.state / "executor" / PROCESSES
    file.write_text(json.dumps({"supervisor": os.getpid(), "executor": 7}))
    assert main(words) == 0
    # While the supervisor waits to start it again
    file.write_text(json.dumps({"supervisor": os.getpid()}))
    assert main(words) == 1
    running = "executor: runs as process 7"
    not_running = "executor: not running"
    assert capsys.readouterr().out.splitlines() == [not_running, running, not_running]


def test_status_tells_what_was_spent_and_who_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit(tmp_path)
    open_door(kit).handle("train", ask())
    shown = told(capsys, ["status", str(tmp_path)])
    budget = shown["budgets"]["everybody"]
    assert 0 < budget["spent"] <= budget["committed"] <= budget["epsilon"] == 20.0
    assert shown["jobs"] == {JOB: "allowed"}
    main(["status", str(tmp_path)])
    assert f"Job {JOB}: allowed." in capsys.readouterr().out


def test_status_passes_over_a_plan_of_another_release(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    path = plan_path(kit, "old")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"version": 0}))
    assert status(kit)["jobs"] == {}


def test_status_of_a_damaged_ledger_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit(tmp_path)
    open_door(kit).handle("train", ask())
    kit.ledger.write_bytes(b"torn")
    assert "error" in told(capsys, ["status", str(tmp_path)])["budgets"]
    assert main(["status", str(tmp_path)]) == 1
    assert "Ledger: " in capsys.readouterr().out


# --- approve and stop


def test_a_job_waits_until_it_is_approved_and_then_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit(tmp_path, policy=MANUAL)
    door = open_door(kit)
    assert door.handle("query", ask()).refusal == "policy_approval"
    assert status(kit)["jobs"] == {JOB: "waits for approval"}
    assert main(["approve", JOB, "--yes", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "epsilon 4 at delta 1e-05 a record" in shown
    assert "The coordinator sees each update." in shown
    assert f"Approved: job {JOB}." in shown
    assert status(kit)["jobs"] == {JOB: "allowed"}
    assert door.handle("train", ask()).refusal is None


def test_whoever_approves_reads_that_updates_leave_in_masked_sums(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit(tmp_path)
    show_plan(kit, replace(PRIVATE, sums=MaskedSums(max_value=1024.0)))
    shown = capsys.readouterr().out
    assert "The coordinator sees sums of updates and of scores alone." in shown


def test_what_was_approved_is_the_plan_and_not_its_name(tmp_path: Path) -> None:
    kit = make_kit(tmp_path, policy=MANUAL)
    door = open_door(kit)
    door.handle("query", ask())
    main(["approve", JOB, str(tmp_path), "--yes"])
    assert door.handle("query", ask(CHANGED)).refusal == "policy_approval"
    assert status(kit)["jobs"] == {JOB: "waits for approval"}


@pytest.mark.parametrize(("text", "code"), [("y\n", 0), ("YES\n", 0), ("n\n", 1), ("\n", 1)])
def test_whoever_approves_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int
) -> None:
    kit = make_kit(tmp_path, policy=MANUAL)
    open_door(kit).handle("query", ask())
    answer(monkeypatch, text)
    assert main(["approve", JOB, str(tmp_path)]) == code
    assert status(kit)["jobs"][JOB] == ("waits for approval" if code else "allowed")


def test_without_a_terminal_nothing_is_approved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = make_kit(tmp_path, policy=MANUAL)
    open_door(kit).handle("query", ask())
    answer(monkeypatch, "")
    with pytest.raises(ConfigError, match="give --yes"):
        main(["approve", JOB, str(tmp_path)])
    assert status(kit)["jobs"] == {JOB: "waits for approval"}


def test_a_job_that_never_asked_cannot_be_approved(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Job other has not asked here; `confide client status`"):
        main(["approve", "other", str(write_kit(tmp_path))])


def test_a_stopped_job_goes_on_once_it_is_approved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit(tmp_path)
    door = open_door(kit)
    door.handle("query", ask())
    assert main(["stop", JOB, str(tmp_path)]) == 0
    assert f"`confide client approve {JOB}` lets it continue" in capsys.readouterr().out
    assert status(kit)["jobs"] == {JOB: "stopped"}
    assert door.handle("query", ask()).refusal == "stopped"
    main(["approve", JOB, str(tmp_path), "--yes"])
    assert door.handle("query", ask()).refusal is None


@pytest.mark.parametrize("command", ["approve", "stop"])
def test_decisions_are_made_as_the_user_of_the_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """What root writes beside its files, the trainer of three users could not read."""
    kit = make_kit(tmp_path)
    kit.own.mkdir(parents=True)
    owner = kit.own.owner()
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(ConfigError, match=f"belongs to {owner}.*`runuser -u {owner} -- confide"):
        main([command, JOB, str(tmp_path)])
    assert list(kit.own.iterdir()) == []


def test_a_job_can_be_stopped_before_it_asks(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    main(["stop", JOB, str(tmp_path)])
    assert open_door(kit).handle("query", ask()).refusal == "stopped"
