"""What an institution's log says of requests, starts and people, and what it never says."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_kit import NAME, PLAIN, PRIVATE, RECORDS, TASK, ask, make_kit

from confide.audit_log.command import main as audit_log
from confide.audit_log.compare import Told, ledger_problems
from confide.audit_log.verify import verify
from confide.client.commands.client import main as client
from confide.client.deployment.audited import AuditedHandler, watched
from confide.client.deployment.job_files import stop_mark
from confide.client.deployment.kit import InstitutionKit
from confide.client.deployment.kit_audit import log_start, open_audit_log
from confide.client.deployment.served import DeployedInstitution
from confide.client.service.remembered import ReplyCache
from confide.client.training.deadline import Deadline
from confide.protocol.messages import Request
from confide.protocol.plan import plan_sha256
from confide.security.chain import Event


def open_door(kit: InstitutionKit) -> AuditedHandler:
    log = open_audit_log(kit)
    institution = DeployedInstitution(kit, deadline=Deadline())
    log_start(log, kit, institution.ledger_events)
    return AuditedHandler(
        ReplyCache(institution), log, watched(kit, lambda: institution.ledger_events)
    )


def events(kit: InstitutionKit, *kinds: str) -> list[Event]:
    taken: list[Event] = []
    assert verify(kit.audit_log, take_fn=taken.append).problems == []
    return [event for event in taken if not kinds or event.kind in kinds]


def test_an_answer_is_told_by_hashes_and_names_the_ledger(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    door = open_door(kit)
    reply = door.handle("train", ask(PRIVATE))
    assert reply.refusal is None
    (told,) = events(kit, "answered")
    content = dict(told.content)
    ledger = content.pop("ledger")
    assert content.pop("seconds") > 0
    # A model came, and an update of its shapes left
    assert content["bytes_in"] == content.pop("bytes_out") > 0
    assert content.pop("bytes_in") == ask(PRIVATE).arrays.count_bytes()  # type: ignore[union-attr]
    assert content == {
        "by": "coordinator 127.0.0.1:8443",
        "request": "train",
        "job": PRIVATE.job,
        "round": 1,
        "plan": plan_sha256(ask(PRIVATE).plan),
        "told_head": reply.ledger_head.partition(":")[0],
    }
    assert {"reserve", "settle"} <= set(ledger["new"])
    newest = DeployedInstitution(kit, deadline=Deadline()).ledger_events[-1]
    assert (ledger["number"], ledger["hash"]) == (newest.number, newest.hash)


def test_a_refusal_is_told_by_its_code(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    door = open_door(kit)
    door.handle("train", ask(replace(PRIVATE, task=replace(TASK, label_column="other"))))
    stop_mark(kit, PRIVATE.job).parent.mkdir(parents=True)
    stop_mark(kit, PRIVATE.job).touch()
    door.handle("train", ask(PRIVATE))
    door.handle("query", Request(plan='{"job": "no plan"}'))
    told = [(event.content["job"], event.content["code"]) for event in events(kit, "refused")]
    assert told == [("trial", "task_not_served"), ("trial", "stopped"), ("", "plan_version")]


def test_a_plan_is_told_when_it_is_first_seen_and_when_it_changes(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    changed = replace(PRIVATE, num_rounds=1)
    door = open_door(kit)
    for plan in (PRIVATE, PRIVATE, changed):
        door.handle("query", ask(plan))
    open_door(kit).handle("query", ask(changed))
    first, second = (event.content for event in events(kit, "plan_seen"))
    assert (first["epsilon"], first["unit"], first["rounds"]) == (4.0, "record", 2)
    assert second["instead_of"] == first["plan"] == plan_sha256(ask(PRIVATE).plan)


def test_nothing_of_records_is_in_the_log(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    door = open_door(kit)
    for kind in ("query", "train", "evaluate"):
        door.handle(kind, replace(ask(PRIVATE), splits=("validation",)))
    text = "".join(path.read_text() for path in kit.audit_log.glob("audit-*.jsonl"))
    assert TASK.label_column not in text
    assert f": {RECORDS}" not in text
    assert "num_examples" not in text
    assert "records.csv" not in text


def test_what_cannot_be_written_is_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = make_kit(tmp_path)
    door = open_door(kit)

    def full(handle: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", full)
        reply = door.handle("train", ask(PRIVATE))
        assert (reply.refusal, reply.arrays) == ("storage", None)
    again = door.handle("train", ask(PRIVATE))
    assert again.refusal is None
    (told,) = events(kit, "answered")
    # Charged once: the second answer is the first one, from the ledger's replies
    assert told.content["ledger"]["new"].count("reserve") == 1


def test_a_start_tells_which_settings_changed_and_hides_what_may_be_secret(tmp_path: Path) -> None:
    open_door(make_kit(tmp_path))
    open_door(make_kit(tmp_path))
    other = tmp_path / "other.csv"
    other.write_bytes((tmp_path / "records.csv").read_bytes())
    kit = make_kit(tmp_path, f"data.path={other}", "policy.max_epsilon=3", "trainer.num_threads=2")
    open_door(kit)
    first, second = (event.content for event in events(kit, "settings"))
    assert (first["first"], first["changed"]) == (True, {})
    changed = dict[str, Any](second["changed"])
    path = changed.pop("data.path")
    assert path["old"] != path["new"]
    assert all(value.startswith("hmac:") for value in path.values())
    assert changed == {
        "policy.max_epsilon": {"old": "8.0", "new": "3.0"},
        "trainer.num_threads": {"old": "1", "new": "2"},
    }
    started = events(kit, "started")[-1].content
    assert started["process"] == "trainer"
    assert started["keys"]["audit head"].startswith("SHA256:")


def test_decisions_of_people_are_told_with_who_made_them(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    open_door(kit).handle("query", ask(PRIVATE))
    client(["stop", PRIVATE.job, str(tmp_path)])
    client(["approve", PRIVATE.job, str(tmp_path), "--yes"])
    stopped, approved = events(kit, "stopped", "approved")
    assert (stopped.content["job"], stopped.content["cancelled"]) == (PRIVATE.job, False)
    assert approved.content["plan"] == plan_sha256(ask(PRIVATE).plan)
    assert approved.content["user"]


def test_a_ledger_that_goes_on_without_the_log_is_told(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    door = open_door(kit)
    door.handle("train", ask(PRIVATE))
    told = Told()
    verify(kit.audit_log, take_fn=told.take)
    institution = DeployedInstitution(kit, deadline=Deadline())
    assert list(ledger_problems(told, institution.ledger_events)) == []
    institution.handle("train", ask(PRIVATE, 2))
    (problem,) = ledger_problems(told, institution.ledger_events)
    assert "is work of the trainer: the end of the log was cut off" in problem
    open_door(kit)
    verify(kit.audit_log, take_fn=told.take)
    assert list(ledger_problems(told, institution.ledger_events)) == []
    told.ledger[1] = "0" * 64
    assert "event 1 of the ledger by another hash" in str(
        list(ledger_problems(told, institution.ledger_events))
    )


def test_the_command_verifies_shows_and_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = {"budget": {"epsilon": None}, "required_unit": "none", "min_records": 50}
    kit = make_kit(tmp_path, policy=policy, task={})
    open_door(kit).handle("train", ask(PLAIN))
    folder = str(kit.audit_log)
    assert audit_log(["verify", folder]) == 0
    assert f"institution {NAME}, " in capsys.readouterr().out
    audit_log(["show", folder, "--last", "1"])
    assert 'answered  by "coordinator 127.0.0.1:8443", request "train"' in capsys.readouterr().out
    audit_log(["export", folder])
    whole = b"".join(path.read_bytes() for path in sorted(kit.audit_log.glob("audit-*.jsonl")))
    assert capsys.readouterr().out.encode() == whole
    audit_log(["export", folder, "--format", "ocsf"])
    exported = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["class_uid"] for event in exported] == [3004, 6002, 3004, 3004, 6003]
    path = next(kit.audit_log.glob("audit-*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":2'))
    assert audit_log(["verify", folder]) == 1
    assert f"{path.name} line 5: not what was written" in capsys.readouterr().err
