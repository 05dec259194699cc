"""An institution seen from its files: what it did, what waits, what is down, what is unknown."""

import datetime
import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asgi_asked import asked
from prometheus_client.parser import text_string_to_metric_families
from small_kit import NAME, PLAIN, PRIVATE, RECORDS, TASK, ask, make_kit, write_kit

from confide.client.commands.client import main as client
from confide.client.deployment.audited import AuditedHandler, watched
from confide.client.deployment.job_files import keep_plan
from confide.client.deployment.kit import InstitutionKit
from confide.client.deployment.kit_audit import (
    DRIFT_CHECKED,
    log_decision,
    log_start,
    open_audit_log,
)
from confide.client.deployment.served import DeployedInstitution
from confide.client.monitoring.judge import health, ready
from confide.client.monitoring.metrics import METRICS, metrics
from confide.client.monitoring.site import make
from confide.client.monitoring.snapshot import InstitutionSnapshot, InstitutionWatch
from confide.client.service.remembered import ReplyCache
from confide.client.training.deadline import Deadline
from confide.deployment.lifetime import PROCESSES, STARTS
from confide.deployment.logs import log_tail
from confide.flower.explain import explain
from confide.monitoring.parts import processes_in
from confide.monitoring.samples import exposition
from confide.protocol.plan import plan_sha256
from confide.security import certificates, ec_keys
from confide.server.provisioning.provision import provision, read_federation

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def open_door(kit: InstitutionKit) -> AuditedHandler:
    log = open_audit_log(kit)
    institution = DeployedInstitution(kit, deadline=Deadline())
    log_start(log, kit, institution.ledger_events)
    return AuditedHandler(
        ReplyCache(institution), log, watched(kit, lambda: institution.ledger_events)
    )


def run_as(kit: InstitutionKit, folder: str = "logs", **pids: int) -> None:
    """Write what a supervisor with these programs writes."""
    logs = kit.state / folder
    logs.mkdir(parents=True, exist_ok=True)
    (logs / PROCESSES).write_text(json.dumps({"supervisor": os.getpid(), **pids}))
    (logs / STARTS).write_text(json.dumps({"trainer": 3, "executor": 1, "supernode": 2}))


def run_all(kit: InstitutionKit) -> None:
    run_as(kit, trainer=11, executor=12, supernode=13)
    (kit.state / "logs" / "supernode.log").write_text("Starting Flower SuperNode\n")


def values(snapshot: InstitutionSnapshot) -> Values:
    text, _ = exposition(metrics(snapshot), "")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(found: Values, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def states(snapshot: InstitutionSnapshot) -> dict[str, str]:
    return {process.name: process.state for process in snapshot.processes}


# --- what it did


def test_a_run_is_seen_from_its_requests_to_its_budget(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    door, watch = open_door(kit), InstitutionWatch(tmp_path)
    before = time.time()
    for server_round in (1, 2):
        assert door.handle("train", ask(PRIVATE, server_round)).refusal is None
    seen = watch()
    found = values(seen)
    assert value(found, "confide_requests_total", request="train", outcome="answered") == 2
    assert value(found, "confide_rounds_total") == 2
    for direction in ("in", "out"):
        assert (value(found, "confide_bytes_total", direction=direction) or 0) > 0
    seconds = value(found, "confide_request_seconds_total", request="train")
    assert seconds is not None
    assert 0 < seconds < 600
    last = value(found, "confide_last_request_timestamp_seconds")
    assert last is not None
    assert before - 1 <= last <= time.time() + 1
    population = kit.population
    assert value(found, "confide_epsilon_budget", budget=population) == 20
    committed = value(found, "confide_epsilon_committed", budget=population)
    assert committed is not None
    assert 0 < committed <= 4.01
    assert value(found, "confide_epsilon_left", budget=population) == 20 - committed
    assert value(found, "confide_ledger_sound") == 1
    assert value(found, "confide_audit_log_readable") == 1
    (job,) = seen.audit.jobs
    assert (job.job, job.standing, job.server_round, job.rounds) == (
        "trial",
        "answered",
        2,
        PRIVATE.num_rounds,
    )
    assert job.plan == plan_sha256(PRIVATE.to_json())


def test_a_run_with_rounds_left_is_unfinished_until_it_ends_or_is_stopped(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    door, watch = open_door(kit), InstitutionWatch(tmp_path)

    def unfinished() -> float | None:
        return value(values(watch()), "confide_run_unfinished")

    assert unfinished() == 0
    door.handle("train", ask(PRIVATE, 1))
    assert unfinished() == 1
    keep_plan(kit, PRIVATE.job, PRIVATE.to_json())
    client(["stop", PRIVATE.job, str(tmp_path)])
    assert unfinished() == 0
    client(["approve", PRIVATE.job, str(tmp_path), "--yes"])
    door.handle("train", ask(PRIVATE, 2))
    assert unfinished() == 0


def test_the_newest_check_for_drift_of_each_model_is_told(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    for model, verdict in [
        ("a", "drift"),
        ("b", "drift"),
        ("a", "no drift"),
        ("c", "too few records"),
    ]:
        content = {"model": model * 64, "tests": 9, "verdict": verdict, "alarms": 0}
        log_decision(kit, DRIFT_CHECKED, content)
    found = values(InstitutionWatch(kit.folder)())
    alarms = {name: value(found, "confide_drift_alarm", model=name * 12) for name in "abc"}
    assert alarms == {"a": 0.0, "b": 1.0, "c": None}
    for name in "abc":
        checked = value(found, "confide_drift_checked_timestamp_seconds", model=name * 12)
        assert checked == pytest.approx(time.time(), abs=60)


def test_counts_outlive_the_one_who_counts(tmp_path: Path) -> None:
    door = open_door(make_kit(tmp_path))
    door.handle("train", ask(PRIVATE, 1))
    door.handle("train", ask(replace(PRIVATE, task=replace(TASK, label_column="other"))))
    watch = InstitutionWatch(tmp_path)
    before = values(watch())
    assert value(before, "confide_refusals_total", code="task_not_served") == 1
    again = values(InstitutionWatch(tmp_path)())
    sums = {key: found for key, found in before.items() if key[0].endswith("_total")}
    assert {key: again.get(key) for key in sums} == sums
    door.handle("train", ask(PRIVATE, 2))
    assert value(values(watch()), "confide_rounds_total") == 2
    newest = watch().audit.newest_refusals[0]
    assert (newest.code, newest.request) == ("task_not_served", "train")


def test_what_waits_for_approval_is_counted_and_named(tmp_path: Path) -> None:
    policy = {"budget": {"epsilon": 20.0}, "min_records": 50, "approval": "manual"}
    kit = make_kit(tmp_path, policy=policy)
    door, watch = open_door(kit), InstitutionWatch(tmp_path)
    assert str(door.handle("train", ask(PRIVATE)).refusal) == "policy_approval"
    assert [job.job for job in watch().waiting] == ["trial"]
    assert value(values(watch()), "confide_approvals_waiting") == 1
    keep_plan(kit, PRIVATE.job, PRIVATE.to_json())
    client(["approve", PRIVATE.job, str(tmp_path), "--yes"])
    assert [job.standing for job in watch().audit.jobs] == ["approved"]
    assert value(values(watch()), "confide_approvals_waiting") == 0


# --- what it never tells


def test_neither_counts_of_records_nor_columns_nor_scores_nor_jobs_are_told(
    tmp_path: Path,
) -> None:
    write_kit(tmp_path)
    kit = make_kit(tmp_path)
    door = open_door(kit)
    door.handle("train", ask(PRIVATE, 1))
    door.handle("evaluate", replace(ask(PRIVATE, 0), splits=("test",)))
    run_all(kit)
    app = make(tmp_path, [])
    told = {path: asked(app, path).text for path in ("/metrics", "/health", "/ready")}
    for path, text in told.items():
        for secret in (TASK.label_column, "records.csv", PRIVATE.job, NAME, "yes", "accuracy"):
            assert not re.search(rf"\b{re.escape(secret)}\b", text), (path, secret)
    numbers = set(re.findall(r" ([\d.e+-]+)$", told["/metrics"], flags=re.MULTILINE))
    shares = {RECORDS, 0.7 * RECORDS, 0.8 * RECORDS, 0.9 * RECORDS, 0.1 * RECORDS, 0.15 * RECORDS}
    assert not {float(number) for number in numbers} & shares


def test_labels_are_from_fixed_lists(tmp_path: Path) -> None:
    door = open_door(make_kit(tmp_path))
    hostile = replace(PRIVATE, job='x"}\nconfide_evil 1')
    door.handle("train", ask(hostile))
    door.handle("query", replace(ask(PRIVATE), plan='no plan "} 1\n'))
    found = values(InstitutionWatch(tmp_path)())
    assert {name for name, _ in found} <= set(METRICS)
    for name, labels in found:
        assert tuple(sorted(METRICS[name].labels)) == tuple(key for key, _ in labels), name
        assert not any("evil" in text or "no plan" in text for _, text in labels)


def test_nothing_is_written(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    open_door(kit).handle("train", ask(PRIVATE))
    run_all(kit)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    app = make(tmp_path, [])
    for path in ("/metrics", "/health", "/ready"):
        asked(app, path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# --- what runs


def test_processes_and_their_starts_are_seen(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    watch = InstitutionWatch(tmp_path)
    assert set(states(watch()).values()) == {"down"}
    assert [finding.status for finding in health(watch())] == ["error"] * 3
    run_all(kit)
    seen = watch()
    assert set(states(seen).values()) == {"up"}
    assert {finding.status for finding in health(seen)} == {"ok"}
    assert value(values(seen), "confide_process_starts_total", process="trainer") == 3
    assert value(values(seen), "confide_coordinator_connected") == 1
    run_as(kit, trainer=11, executor=12)
    seen = watch()
    assert states(seen)["supernode"] == "down"
    assert value(values(seen), "confide_process_up", process="supernode") == 0
    assert value(values(seen), "confide_coordinator_connected") == 0


def test_services_of_their_own_are_seen_together(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    for role, pid in (("trainer", 11), ("executor", 12), ("supernode", 13)):
        run_as(kit, role, **{role: pid})
    assert set(states(InstitutionWatch(tmp_path)()).values()) == {"up"}


def test_processes_of_another_user_are_unknown_and_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = make_kit(tmp_path)
    run_as(kit, "trainer", trainer=11)
    for role in ("executor", "supernode"):
        (kit.state / role).mkdir()
    hidden = {kit.state / "executor", kit.state / "supernode"}
    plain = os.access

    def access(path: Any, mode: int) -> bool:  # root may read everything
        return Path(path) not in hidden and plain(path, mode)

    monkeypatch.setattr(os, "access", access)
    seen = InstitutionWatch(tmp_path)()
    assert states(seen) == {"trainer": "up", "executor": "unknown", "supernode": "unknown"}
    assert [finding.status for finding in health(seen)] == ["ok", "warning", "warning"]
    found = values(seen)
    assert value(found, "confide_process_up", process="executor") is None
    assert value(found, "confide_coordinator_connected") is None


def test_a_supernode_that_waits_says_for_what(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    run_all(kit)
    log = "Starting Flower SuperNode\nWARNING : Connection attempt failed, retrying in 4 seconds\n"
    (kit.state / "logs" / "supernode.log").write_text(log)
    seen = InstitutionWatch(tmp_path)()
    assert seen.link.is_connected is False
    assert "does not answer" in seen.link.problem
    findings = {finding.check: finding for finding in ready(seen)}
    assert findings["coordinator"].status == "warning"


# --- what is wrong, missing or half-written


def test_a_kit_as_it_was_made_can_take_part_once_its_processes_run(tmp_path: Path) -> None:
    (tmp_path / "fed.yaml").write_text(
        "name: t\nhosts: [127.0.0.1]\ninstitutions: [ward]\nconfig: [experiment=heart_disease]\n"
    )
    federation, config = read_federation(tmp_path / "fed.yaml")
    provision(federation, config, tmp_path / "kits")
    folder = tmp_path / "kits" / "institutions" / "ward"
    path = folder / "client.yaml"
    text = path.read_text()
    app = make(folder, [])
    answer = asked(app, "/ready")
    assert answer.status_code == 503
    assert any("client.yaml: has 2 mistakes" in it for it in answer.json()["reasons"])
    assert "data.path" not in answer.text
    path.write_text(text.replace('path: "???"', "path: x.csv").replace('"???"', "8"))
    watch = InstitutionWatch(folder)
    kit = watch().kit
    assert kit is not None
    run_all(kit)
    told = {finding.check: finding.status for finding in ready(watch())}
    assert told.pop("disk") in ("ok", "warning")
    assert set(told.values()) == {"ok"}
    assert {"ca.crt", "trainer.crt", "trainer", "executor", "supernode"} <= set(told)


def test_certificates_that_end_are_told_by_their_day(tmp_path: Path) -> None:
    make_kit(tmp_path)
    seen = InstitutionWatch(tmp_path)()
    (unreadable,) = seen.certificates
    assert unreadable.finding.status == "error"
    assert (
        value(values(seen), "confide_certificate_expiry_timestamp_seconds", file="ca.crt") is None
    )
    key = ec_keys.make_key()
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(
        days=certificates.AUTHORITY_DAYS - 10
    )
    authority = certificates.make_authority("t", key, now=long_ago)
    (tmp_path / "ca.crt").write_text(certificates.certificate_pem(authority))
    seen = InstitutionWatch(tmp_path)()
    (read,) = seen.certificates
    assert (read.finding.status, read.expires) == (
        "warning",
        authority.not_valid_after_utc.timestamp(),
    )


def test_a_kit_that_breaks_is_told_and_what_ran_by_it_stays(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    run_all(kit)
    open_door(kit).handle("train", ask(PRIVATE))
    watch = InstitutionWatch(tmp_path)
    before = watch()
    (tmp_path / "client.yaml").write_text("name: [half\n")
    seen = watch()
    assert seen.kit_problems != ()
    assert set(states(seen).values()) == {"up"}
    assert seen.ledger == before.ledger
    assert "client.yaml" in [it.check for it in ready(seen) if it.status == "error"]
    (tmp_path / "client.yaml").unlink()
    assert "cannot be read" in watch().kit_problems[0]


def test_a_key_that_is_gone_keeps_an_institution_from_being_ready(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    watch = InstitutionWatch(tmp_path)
    key = kit.path(kit.config.coordinator.key)
    key.parent.mkdir(exist_ok=True)
    key.write_text("held")
    assert "node.key" not in [it.check for it in ready(watch())]
    key.unlink()
    told = [it for it in ready(watch()) if it.check == "node.key"]
    assert [it.status for it in told] == ["error"]


def test_a_key_of_masked_sums_is_needed_where_policy_requires_them(tmp_path: Path) -> None:
    make_kit(tmp_path)
    assert "trainer.key" not in InstitutionWatch(tmp_path)().missing_keys
    watch = InstitutionWatch(tmp_path, ["policy.secure.required=true"])
    assert {"trainer.key", "trainer.crt"} <= set(watch().missing_keys)


def test_a_kit_that_could_never_be_read_is_unknown_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "client.yaml").write_text("defaults: [institution\n")
    seen = InstitutionWatch(tmp_path)()
    assert seen.kit is None
    assert set(states(seen).values()) == {"unknown"}
    assert seen.ledger.condition == "unknown"
    assert value(values(seen), "confide_build_info", version=seen.version) == 1
    assert [finding.status for finding in ready(seen)].count("error") >= 1


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"supervisor": "x"}', '{"trainer": null}', "ÿ"])
def test_half_written_files_make_a_state_unknown_and_raise_nothing(
    tmp_path: Path, text: str
) -> None:
    kit = make_kit(tmp_path)
    logs = kit.state / "logs"
    logs.mkdir(parents=True)
    for path in (logs / PROCESSES, logs / STARTS, logs / "supernode.log", kit.anchor):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="latin-1")
    seen = InstitutionWatch(tmp_path)()
    assert set(states(seen).values()) == {"down"}
    assert len(list(ready(seen))) > 3
    assert values(seen)


def test_a_damaged_ledger_or_log_is_an_error(tmp_path: Path) -> None:
    kit = make_kit(tmp_path)
    open_door(kit).handle("train", ask(PRIVATE))
    watch = InstitutionWatch(tmp_path)
    watch()
    kit.anchor.unlink()
    (log,) = kit.audit_log.glob("audit-*.jsonl")
    log.write_text(log.read_text().replace("answered", "refused", 1))
    for seen in (watch(), InstitutionWatch(tmp_path)()):
        checks = {finding.check: finding for finding in ready(seen) if finding.status == "error"}
        assert "anchor" in checks["ledger"].message
        assert value(values(seen), "confide_ledger_sound") == 0
    assert "audit log" in checks
    assert value(values(seen), "confide_audit_log_readable") == 0


def test_without_a_budget_there_is_no_ledger_to_read(tmp_path: Path) -> None:
    policy = {"budget": {"epsilon": None}, "required_unit": "none", "min_records": 50}
    kit = make_kit(tmp_path, policy=policy, task={})
    open_door(kit).handle("train", ask(PLAIN))
    seen = InstitutionWatch(tmp_path)()
    assert (seen.ledger.condition, seen.account, seen.population) == ("none", None, "")
    assert value(values(seen), "confide_ledger_sound") is None


# --- what another user of the machine may put where its processes write


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_folder(path: Path) -> None:
    path.mkdir()


ODD: dict[str, str | Callable[[Path], None]] = {
    "deep": "[" * 60_000,
    "deep object": '{"supervisor":' * 3_000,
    "huge": '{"supervisor": 1%s}' % ("0" * 400),
    "too long a number": '{"supervisor": 1%s}' % ("0" * 5_000),
    "infinite": '{"supervisor": 1e999}',
    "no number": '{"supervisor": NaN}',
    "a group": '{"supervisor": -1}',
    "a list": "[]",
    "texts": '{"supervisor": "x"}',
    "no text": "\udcff\udcfe",
    "large": '{"supervisor": "%s"}' % ("x" * 2**20),
    "slow to search": "Starting Flower \n" + "Exit Code: 606\n" * 1_100,
    "pipe": put_pipe,
    "device": put_device,
    "folder": put_folder,
}


@pytest.mark.parametrize("name", [PROCESSES, STARTS, "supernode.log"])
def test_what_a_process_of_another_user_leaves_hangs_and_breaks_nothing(
    name: str, tmp_path: Path
) -> None:
    kit = make_kit(tmp_path / "kit")
    signal.alarm(60)  # a test that hangs ends with it
    try:
        for number, put in enumerate(ODD.values()):
            folder = kit.state / f"{number}"
            run_as(kit, folder.name, supernode=13)
            (folder / name).unlink(missing_ok=True)
            if isinstance(put, str):
                (folder / name).write_text(put, errors="surrogateescape")
            else:
                put(folder / name)
            (seen,) = processes_in([folder], ["supernode"])
            assert seen.state == ("down" if name == PROCESSES else "up")
            assert explain(log_tail(folder / "supernode.log"), 1) is None
    finally:
        signal.alarm(0)
