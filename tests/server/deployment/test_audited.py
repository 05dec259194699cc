"""What the coordinator's log says of runs, and what provisioning did to certificates."""

import dataclasses
import datetime
from pathlib import Path

import pytest
from builders import build_plan
from provisioned import FEDERATION, LONGER

from confide.audit_log.verify import verify
from confide.config.composing.compose import compose
from confide.errors import ConfigError, FlowerError, RunFailedError
from confide.security.chain import Event
from confide.server.deployment.audited import RunAudit, open_audit_log, start_of
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.provisioning.audited import audited
from confide.server.provisioning.provision import provision
from confide.server.rounds.state import RoundRecord, RunState

CONFIG = compose(["experiment=heart_disease", "server.kit=coordinator"])
PLAN = build_plan(job="trial")
NAMES = FEDERATION.institutions


@pytest.fixture(name="kit")
def make_kit(tmp_path: Path) -> CoordinatorKit:
    provision(FEDERATION, CONFIG, tmp_path / "kits")
    (tmp_path / "config.yaml").write_text("server: {}\n")
    return load_coordinator_kit(tmp_path / "kits" / "coordinator")


def audit(kit: CoordinatorKit) -> RunAudit:
    run_dir = kit.folder.parent.parent
    return RunAudit(open_audit_log(kit), kit, run_dir, job=PLAN.job)


def state(rounds: int) -> RunState:
    history = tuple(
        RoundRecord(
            server_round=number,
            accepted=(NAMES[0],),
            refused={NAMES[1]: "policy_hours"},
            bytes_up=10 * number,
            bytes_down=20,
        )
        for number in range(1, rounds + 1)
    )
    return RunState(server_round=rounds, params={}, strategy_state={}, history=history)


def events(folder: Path, *kinds: str) -> list[Event]:
    taken: list[Event] = []
    assert verify(folder, take_fn=taken.append).problems == []
    return [event for event in taken if not kinds or event.kind in kinds]


def test_a_run_is_told_from_its_plan_to_its_model(kit: CoordinatorKit) -> None:
    told = audit(kit)
    told.planned(PLAN)
    told.absent({NAMES[1]: "policy_max_epsilon: asked 3, allowed 1"})
    told.started({NAMES[0]: 77})
    told.round_done(state(1))
    told.evaluated("test", 1, {NAMES[0]: {"accuracy": 0.9375}})
    told.finished("ab" * 32)
    kinds = [(event.kind, event.content.get("state")) for event in events(kit.audit_log)]
    assert kinds == [
        ("begun", None),
        ("run", "planned"),
        ("enrolled", None),
        ("run", "begun"),
        ("round", None),
        ("run", "scored"),
        ("run", "finished"),
    ]
    (begun,) = (e for e in events(kit.audit_log, "run") if e.content["state"] == "begun")
    assert begun.content["absent"] == {NAMES[1]: "policy_max_epsilon: asked 3, allowed 1"}
    (enrolled,) = events(kit.audit_log, "enrolled")
    assert enrolled.content["key"].startswith("SHA256:")
    (done,) = events(kit.audit_log, "round")
    assert done.content["refused"] == {NAMES[1]: "policy_hours"}
    assert (done.content["bytes_up"], done.content["by_arrival"]) == (10, False)
    text = "".join(path.read_text() for path in kit.audit_log.glob("audit-*.jsonl"))
    assert "0.9375" not in text
    assert ":77" not in text


def test_rounds_that_a_killed_process_did_not_write_are_written_on_resuming(
    kit: CoordinatorKit,
) -> None:
    audit(kit).round_done(state(1))
    resumed = audit(kit)
    resumed.resumed(state(3))
    resumed.round_done(state(4))
    audit(kit).resumed(state(4))
    assert [event.content["round"] for event in events(kit.audit_log, "round")] == [1, 2, 3, 4]


def test_a_run_that_fails_is_told_and_one_that_flower_broke_off_is_not(
    kit: CoordinatorKit,
) -> None:
    for error in (FlowerError("SuperLink is gone."), RunFailedError("Nobody " + 600 * "x")):
        with pytest.raises(type(error)), audit(kit).told():
            raise error
    (failed,) = events(kit.audit_log, "run")
    assert failed.content["failed"].startswith("Nobody xxx")
    assert len(failed.content["failed"]) == 503


def test_a_start_tells_the_fingerprints_of_keys(kit: CoordinatorKit) -> None:
    keys = start_of(kit)["keys"]
    assert set(keys) == {"ca.crt", "server.crt", "loopback.crt", "audit head"}
    kit.heads.unlink()
    assert start_of(kit)["keys"]["audit head"] != keys["audit head"]


def test_certificates_that_were_issued_renewed_and_revoked_are_told(tmp_path: Path) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=FEDERATION.days - 10)
    for federation, now in ((LONGER, None), (LONGER, None), (FEDERATION, later)):
        with audited(federation, tmp_path):
            provision(federation, CONFIG, tmp_path, now=now)
    folder = tmp_path / "audit"
    issued = [event.content["certificate"] for event in events(folder, "issued")]
    assert len(issued) == len(set(issued)) == 3 + 2 * len(LONGER.institutions)
    renewed = [event.content["certificate"] for event in events(folder, "renewed")]
    assert {"server", f"trainer of {NAMES[0]}"} <= set(renewed)
    assert "loopback" not in renewed  # it lives as long as the authority
    assert "node of Hungary" in [e.content["certificate"] for e in events(folder, "revoked")]


def test_provisioning_that_breaks_off_is_told_as_far_as_it_came(tmp_path: Path) -> None:
    with audited(FEDERATION, tmp_path):
        provision(FEDERATION, CONFIG, tmp_path)
    before = len(events(tmp_path / "audit"))
    other = dataclasses.replace(FEDERATION, name="another")
    with pytest.raises(ConfigError), audited(other, tmp_path):
        provision(other, CONFIG, tmp_path)
    assert len(events(tmp_path / "audit")) == before
