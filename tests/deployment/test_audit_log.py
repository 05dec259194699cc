"""Both sides' audit logs of a real run verify, tell the same, and show an end that was cut off."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment_run import Deployment, confide

from confide.audit_log.files import files_of
from confide.audit_log.log import AuditLog
from confide.audit_log.verify import verify
from confide.client.ledger.names import ledgers_in
from confide.security.chain import Event
from confide.security.ec_keys import read_private_key

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = 2
LAST = "VA Long Beach"
"""Who declines: its policy allows no epsilon of 3."""


@pytest.fixture(name="ran", scope="module")
def run_once() -> Iterator[Deployment]:
    with Deployment() as deployment:
        for name in deployment.institutions:
            deployment.start_client(name, *(["policy.max_epsilon=1"] if name == LAST else []))
        deployment.start_server(
            f"server.num_rounds={ROUNDS}", "server.min_clients=2", "server.enrol_timeout_s=60"
        )
        assert deployment.wait_for_server(600) == 0, deployment.logs()
        for name in deployment.institutions:
            deployment.stop(name)
        yield deployment


def of_institution(ran: Deployment, name: str) -> Path:
    return ran.kit(name) / "state" / "trainer" / "audit"


def of_coordinator(ran: Deployment) -> Path:
    return ran.coordinator_kit / "state" / "audit"


def events(folder: Path, *kinds: str) -> list[Event]:
    taken: list[Event] = []
    assert verify(folder, take_fn=taken.append).problems == []
    return [event for event in taken if event.kind in kinds]


def test_both_sides_verify_and_tell_the_same(ran: Deployment) -> None:
    for name in ran.institutions:
        kit = ran.kit(name)
        words = ["--key", str(kit / "trainer.crt"), "--against", str(of_coordinator(ran))]
        for ledger in ledgers_in(kit / "ledger", kit / "ledger"):
            words += ["--ledger", str(ledger)]
        told = confide("audit-log", "verify", str(of_institution(ran, name)), *words).stdout
        assert f"whole. institution {name}, " in told
    told = confide(
        "audit-log",
        "verify",
        str(of_coordinator(ran)),
        "--against",
        str(of_institution(ran, ran.institutions[0])),
    ).stdout
    assert "whole. coordinator tests, " in told


def test_the_coordinators_log_says_who_took_part_and_who_did_not(ran: Deployment) -> None:
    folder = of_coordinator(ran)
    enrolled = [event.content["institution"] for event in events(folder, "enrolled")]
    assert sorted(enrolled) == sorted(set(ran.institutions) - {LAST})
    runs = {event.content["state"]: event.content for event in events(folder, "run")}
    assert runs["begun"]["absent"] == {LAST: "policy_max_epsilon: asked 3, allowed 1"}
    assert runs["finished"]["model_sha256"] == ran.summary()["model_sha256"]
    rounds = [event.content for event in events(folder, "round")]
    assert [one["round"] for one in rounds] == [*range(1, ROUNDS + 1)]
    assert all(sorted(one["accepted"]) == sorted(enrolled) for one in rounds)
    assert all(one["bytes_up"] > 0 for one in rounds)
    starts = [event.content["process"] for event in events(folder, "started", "ended")]
    assert starts == ["server", "server"]


def test_the_institutions_logs_say_what_was_answered_and_refused(ran: Deployment) -> None:
    planned = events(of_coordinator(ran), "run")
    plans = {event.content.get("plan") for event in planned}
    for name in ran.institutions:
        folder = of_institution(ran, name)
        refused = {event.content["code"] for event in events(folder, "refused")}
        trained = [e for e in events(folder, "answered") if e.content["request"] == "train"]
        assert refused == ({"policy_max_epsilon"} if name == LAST else set())
        assert len(trained) == (0 if name == LAST else ROUNDS)
        assert {event.content["plan"] for event in trained} <= plans
        assert [e.content["process"] for e in events(folder, "ended")] == ["trainer"]


def test_certificates_are_in_the_log_of_who_made_them(ran: Deployment) -> None:
    folder = ran.folder / "kits" / "audit"
    issued = {event.content["certificate"] for event in events(folder, "issued")}
    assert {"authority", "server", f"node of {LAST}", f"trainer of {LAST}"} <= issued


def test_an_end_that_was_cut_off_with_its_head_is_told_by_the_others(
    ran: Deployment, tmp_path: Path
) -> None:
    name = ran.institutions[0]
    kit = ran.kit(name)
    taken: list[Event] = []
    verify(of_institution(ran, name), take_fn=taken.append)
    last = next(e for e in taken if e.kind == "answered" and e.content["request"] == "train")
    # Whoever has the trainer's key signs the log anew without its last round
    key = read_private_key(kit / "trainer.key")
    log = AuditLog(tmp_path / "log", side="institution", name=name, key=key)
    for event in taken[1 : last.number]:
        log.append(event.kind, event.content)
    assert verify(log.folder).problems == []
    told = confide(
        "audit-log",
        "verify",
        str(log.folder),
        "--against",
        str(of_coordinator(ran)),
        check=False,
    )
    assert told.returncode == 1
    assert f"round {ROUNDS}: the coordinator accepted an update of {name}" in told.stderr
    (ledger,) = ledgers_in(kit / "ledger", kit / "ledger")
    told = confide("audit-log", "verify", str(log.folder), "--ledger", str(ledger), check=False)
    assert told.returncode == 1
    assert "is work of the trainer: the end of the log was cut off" in told.stderr


def test_a_changed_line_ends_the_command_with_its_place(ran: Deployment, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(of_coordinator(ran), copy)
    path = files_of(copy)[0]
    lines = path.read_text().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if json.loads(line)["kind"] == "round")
    lines[place] = lines[place].replace('"accepted":["', '"accepted":["X')
    path.write_text("".join(lines))
    told = confide("audit-log", "verify", str(copy), check=False)
    assert told.returncode == 1
    assert f"{path.name} line {place + 1}: not what was written" in told.stderr
