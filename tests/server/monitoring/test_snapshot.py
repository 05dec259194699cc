"""A coordinator seen from its files: its run, who is in it, what it runs on, what is unknown."""

import contextlib
import json
import os
import sqlite3
import time
from pathlib import Path

import pytest
from asgi_asked import asked
from builders import build_plan
from prometheus_client.parser import text_string_to_metric_families
from provisioned import FEDERATION

from confide.config.composing.compose import compose
from confide.deployment.lifetime import PROCESSES, STARTS
from confide.errors import ConfigError, RunFailedError
from confide.monitoring.samples import exposition
from confide.server.deployment.audited import RunAudit, open_audit_log, start_of
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.deployment.watched import KnownRun, note_run
from confide.server.monitoring.judge import health, ready
from confide.server.monitoring.metrics import METRICS, metrics
from confide.server.monitoring.site import make
from confide.server.monitoring.snapshot import CoordinatorSnapshot, CoordinatorWatch
from confide.server.provisioning.provision import provision
from confide.server.rounds.state import RoundRecord, RunState

CONFIG = compose(["experiment=heart_disease", "server.kit=coordinator"])
PLAN = build_plan(job="trial", num_rounds=3)
CLEVELAND, BEACH = FEDERATION.institutions
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(name="kit")
def make_kit(tmp_path: Path) -> CoordinatorKit:
    provision(FEDERATION, CONFIG, tmp_path / "kits")
    (tmp_path / "config.yaml").write_text("server: {}\n")
    return load_coordinator_kit(tmp_path / "kits" / "coordinator")


def begin(kit: CoordinatorKit, job: str = "trial") -> None:
    content = start_of(kit) | {"job": job, "program": "server"}
    open_audit_log(kit).append("started", content)


def audit(kit: CoordinatorKit) -> RunAudit:
    return RunAudit(open_audit_log(kit), kit, kit.folder.parent.parent, job=PLAN.job)


def after(*refused: str) -> RunState:
    """Return the state after as many rounds, in each of which one declined with this code."""
    history = tuple(
        RoundRecord(
            server_round=number,
            accepted=(CLEVELAND,),
            refused={BEACH: code},
            bytes_up=10,
            bytes_down=20,
            seconds=1.5,
        )
        for number, code in enumerate(refused, start=1)
    )
    return RunState(server_round=len(refused), params={}, strategy_state={}, history=history)


def run_as(kit: CoordinatorKit, **pids: int) -> None:
    kit.logs.mkdir(parents=True, exist_ok=True)
    (kit.logs / PROCESSES).write_text(json.dumps({"supervisor": os.getpid(), **pids}))
    (kit.logs / STARTS).write_text(json.dumps({"superlink": 2, "front": 2, "rounds": 5}))


def values(snapshot: CoordinatorSnapshot) -> Values:
    text, _ = exposition(metrics(snapshot), "")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(found: Values, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def errors(snapshot: CoordinatorSnapshot) -> dict[str, str]:
    return {it.check: it.message for it in ready(snapshot) if it.status == "error"}


# --- a run


def test_a_kit_without_a_run_is_well_and_ready(kit: CoordinatorKit) -> None:
    seen = CoordinatorWatch(kit.folder)()
    assert (seen.run, seen.is_running, seen.runs) == (None, False, ())
    assert {finding.status for finding in health(seen)} == {"ok"}
    assert errors(seen) == {}
    assert value(values(seen), "confide_run_under_way") == 0
    assert [(it.name, it.is_online) for it in seen.institutions] == [
        (CLEVELAND, None),
        (BEACH, None),
    ]


def test_a_run_is_seen_from_its_start_to_its_model(kit: CoordinatorKit) -> None:
    watch, told = CoordinatorWatch(kit.folder), audit(kit)
    begin(kit)
    run_as(kit, superlink=11, front=12, rounds=13)
    told.planned(PLAN)
    seen = watch()
    assert (seen.run and seen.run.state, seen.run and seen.run.rounds) == ("planned", 3)
    told.absent({BEACH: "policy_tasks"})
    told.started({CLEVELAND: 100})
    told.round_done(after("no_reply"))
    told.round_done(after("no_reply", "policy_hours"))
    found = values(watch())
    assert value(found, "confide_run_under_way") == 1
    assert (value(found, "confide_round"), value(found, "confide_rounds_planned")) == (2, 3)
    assert value(found, "confide_rounds_total") == 2
    assert value(found, "confide_phase_seconds_total", phase="round") == 3.0
    assert value(found, "confide_bytes_total", direction="up") == 20
    assert value(found, "confide_bytes_total", direction="down") == 40
    assert value(found, "confide_updates_accepted_total", institution=CLEVELAND) == 2
    for code in ("policy_tasks", "no_reply", "policy_hours"):
        assert value(found, "confide_refusals_total", institution=BEACH, code=code) == 1
    progress = value(found, "confide_last_progress_timestamp_seconds")
    assert progress is not None
    assert abs(progress - time.time()) < 60
    assert value(found, "confide_process_starts_total", process="rounds") == 5
    assert {finding.status for finding in health(watch())} == {"ok"}
    told.finished("abc")
    open_audit_log(kit).append("ended", {"process": "server", "job": "trial", "status": 0})
    seen = watch()
    assert (seen.run and seen.run.state) == "finished"
    assert value(values(seen), "confide_run_under_way") == 0
    assert values(CoordinatorWatch(kit.folder)())[("confide_rounds_total", ())] == 2


def test_seconds_of_phases_are_those_between_events(
    kit: CoordinatorKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_800_000_000.0]
    log = open_audit_log(kit)
    monkeypatch.setattr(log, "_now_fn", lambda: now[0])
    told = RunAudit(log, kit, kit.folder.parent.parent, job=PLAN.job)
    steps = [
        lambda: told.planned(PLAN),
        lambda: told.started({CLEVELAND: 1}),
        lambda: told.round_done(after("no_reply")),
        lambda: told.evaluated("test", 1, {CLEVELAND: {"num_examples": 5}}),
        lambda: told.finished("abc"),
    ]
    for step, seconds in zip(steps, (7, 3, 2, 4, 0), strict=True):
        step()
        now[0] += seconds
    found = values(CoordinatorWatch(kit.folder)())
    phases = {
        phase: value(found, "confide_phase_seconds_total", phase=phase)
        for phase in ("enrol", "round", "score")
    }
    assert phases == {"enrol": 7, "round": 1.5, "score": 6}


def test_a_run_that_was_told_to_end_or_failed_is_not_under_way(kit: CoordinatorKit) -> None:
    begin(kit)
    told = audit(kit)
    told.planned(PLAN)
    open_audit_log(kit).append("ended", {"process": "server", "job": "trial", "status": 130})
    seen = CoordinatorWatch(kit.folder)()
    assert (seen.run and seen.run.state) == "ended"
    assert errors(seen) == {}
    begin(kit)
    with pytest.raises(RunFailedError), told.told():
        raise RunFailedError("Nobody is left.")
    open_audit_log(kit).append("ended", {"process": "server", "job": "trial", "status": 1})
    seen = CoordinatorWatch(kit.folder)()
    assert seen.run is not None
    assert (seen.run.state, seen.run.failed) == ("failed", "Nobody is left.")
    assert value(values(seen), "confide_run_under_way") == 0


def test_a_run_whose_processes_were_killed_is_an_error(kit: CoordinatorKit) -> None:
    begin(kit)
    audit(kit).planned(PLAN)
    seen = CoordinatorWatch(kit.folder)()
    assert "none of its processes runs" in errors(seen)["run"]
    assert value(values(seen), "confide_run_under_way") == 1
    run_as(kit, superlink=11, front=12)
    seen = CoordinatorWatch(kit.folder)()
    assert set(errors(seen)) == {"rounds"}
    assert asked(make(kit.folder, []), "/health").status_code == 503


def test_a_code_that_nobody_knows_is_other(kit: CoordinatorKit) -> None:
    told = audit(kit)
    told.planned(PLAN)
    told.started({CLEVELAND: 1})
    told.round_done(after('evil"} 1\nconfide_x 1'))
    told.round_done(after("", "policy_max_rounds: asked 30, allowed 20"))
    found = values(CoordinatorWatch(kit.folder)())
    assert value(found, "confide_refusals_total", institution=BEACH, code="other") == 1
    assert value(found, "confide_refusals_total", institution=BEACH, code="policy_max_rounds") == 1
    assert {name for name, _ in found} <= set(METRICS)
    for name, labels in found:
        assert tuple(sorted(METRICS[name].labels)) == tuple(key for key, _ in labels), name


def test_the_first_refusal_of_a_budget_is_seen_to_come(kit: CoordinatorKit) -> None:
    found = values(CoordinatorWatch(kit.folder)())
    for name in FEDERATION.institutions:
        assert (
            value(found, "confide_refusals_total", institution=name, code="budget_exhausted") == 0
        )


def test_jobs_plans_and_scores_are_not_told(kit: CoordinatorKit) -> None:
    begin(kit)
    told = audit(kit)
    told.planned(PLAN)
    told.started({CLEVELAND: 4711})
    told.evaluated("test", 1, {CLEVELAND: {"auroc": 0.8125, "num_examples": 4711}})
    app = make(kit.folder, [])
    for path in ("/metrics", "/ready"):
        text = asked(app, path).text
        for secret in ("4711", "0.8125", "auroc", PLAN.task.label_column):
            assert secret not in text, (path, secret)
    assert PLAN.job not in asked(app, "/metrics").text


def test_nothing_is_written(kit: CoordinatorKit) -> None:
    begin(kit)
    audit(kit).planned(PLAN)
    run_as(kit, superlink=11, front=12, rounds=13)
    with contextlib.closing(sqlite3.connect(kit.database)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE node (public_key BLOB)")
    before = {path: path.stat().st_mtime_ns for path in kit.folder.rglob("*")}
    app = make(kit.folder, [])
    for path in ("/metrics", "/health", "/ready"):
        asked(app, path)
    assert {path: path.stat().st_mtime_ns for path in kit.folder.rglob("*")} == before


# --- what it runs on


def test_folders_of_runs_are_known_by_the_kit(kit: CoordinatorKit, tmp_path: Path) -> None:
    kit.state.mkdir()
    note_run(kit, KnownRun(job="trial", folder=str(tmp_path), program="server", started=1.0))
    seen = CoordinatorWatch(kit.folder)()
    assert [run.job for run in seen.runs] == ["trial"]
    assert value(values(seen), "confide_disk_free_bytes", folder="run") is not None


def test_who_was_refused_at_the_front_is_counted(kit: CoordinatorKit) -> None:
    kit.logs.mkdir(parents=True)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"{now},123 WARNING TLS with 10.0.0.9:5555 fails: it speaks HTTP without TLS (x).\n"
    (kit.logs / "front.log").write_text(3 * line)
    found = values(CoordinatorWatch(kit.folder)())
    assert value(found, "confide_connections_refused") == 3


def test_a_kit_that_lost_a_file_is_told_and_what_was_known_stays(kit: CoordinatorKit) -> None:
    begin(kit)
    watch = CoordinatorWatch(kit.folder)
    watch()
    (kit.folder / "server.crt").unlink()
    seen = watch()
    assert "lacks server.crt" in errors(seen)["federation.json"]
    assert (seen.run and seen.run.job) == "trial"
    fresh = CoordinatorWatch(kit.folder)()
    assert fresh.kit is None
    assert {process.state for process in fresh.processes} == {"unknown"}
    assert values(fresh)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"rounds": null}', "ÿ"])
def test_half_written_files_raise_nothing(kit: CoordinatorKit, text: str) -> None:
    kit.logs.mkdir(parents=True)
    files = [kit.logs / PROCESSES, kit.logs / STARTS, kit.logs / "front.log"]
    for path in (*files, kit.runs, kit.under_way, kit.database):
        path.write_text(text, encoding="latin-1")
    seen = CoordinatorWatch(kit.folder)()
    assert {process.state for process in seen.processes} == {"down"}
    assert (seen.link, seen.under_way, seen.runs) == (None, None, ())
    assert values(seen)
    assert list(ready(seen))


def test_overrides_are_a_wrong_command(kit: CoordinatorKit) -> None:
    with pytest.raises(ConfigError, match="takes no overrides"):
        make(kit.folder, ["port=1"])
