"""Exported events have what each class of OCSF 1.1.0 requires."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from confide.audit_log.log import AuditLog
from confide.audit_log.ocsf import Exporter, to_ocsf_line
from confide.audit_log.verify import verify
from confide.security import ec_keys
from confide.security.chain import Event

KEY = ec_keys.make_key()
REQUEST = {"by": "coordinator fed:8443", "request": "train", "job": "trial", "round": 1}
EVERY: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("answered", REQUEST),
    ("answered", {**REQUEST, "request": "query"}),
    ("refused", {**REQUEST, "code": "policy_max_epsilon"}),
    ("refused", {**REQUEST, "code": "ledger"}),
    ("opened", {"job": "trial", "digest": "ab", "survivors": ["A"]}),
    ("plan_seen", {"job": "trial", "plan": "cd"}),
    ("approved", {"job": "trial", "user": "ann"}),
    ("stopped", {"job": "trial", "user": "ann"}),
    ("settings", {"first": True, "changed": {}, "now": {}}),
    ("started", {"process": "trainer", "version": "1.0"}),
    ("ended", {"process": "trainer"}),
    ("enrolled", {"institution": "A", "job": "trial", "key": "SHA256:x"}),
    ("withdrawn", {"institution": "A", "job": "trial", "user": "ann"}),
    ("round", {"job": "trial", "round": 1, "accepted": ["A"], "refused": {}}),
    ("run", {"state": "failed", "job": "trial", "failed": "Nobody there."}),
    ("issued", {"certificate": "server", "user": "ann"}),
    ("renewed", {"certificate": "server", "user": "ann"}),
    ("revoked", {"certificate": "node of A", "user": "ann"}),
    ("another", {}),
)
BASE = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
CLASSES: dict[int, tuple[set[str], set[int]]] = {
    3002: ({"user", "service"}, {1, 2, 99}),
    3004: ({"entity"}, {1, 2, 3, 4, 99}),
    6002: ({"app"}, {3, 4, 99}),
    6003: ({"actor", "api", "src_endpoint"}, {1, 2, 3, 4, 99}),
}
"""Class -> attributes required, or at least one of which is, and its activities."""


@pytest.fixture(name="exported", scope="module")
def export_all(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("log")
    log = AuditLog(folder, side="institution", name="Mill", key=KEY)
    for kind, content in EVERY:
        log.append(kind, content)
    exporter, lines = Exporter(), list[str]()
    assert verify(folder, take_fn=lambda it: lines.append(to_ocsf_line(exporter, it))).last
    return [json.loads(line) for line in lines]


def test_every_event_has_what_its_class_requires(exported: list[dict[str, Any]]) -> None:
    assert len(exported) == 1 + len(EVERY)
    for event in exported:
        required, activities = CLASSES[event["class_uid"]]
        assert event.keys() >= BASE | required
        assert event["activity_id"] in activities
        assert event["category_uid"] == event["class_uid"] // 1000
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["severity_id"] in range(1, 6)
        assert isinstance(event["time"], int)
        assert event["time"] > 1.7e12  # milliseconds


def test_objects_in_it_have_what_theirs_require(exported: list[dict[str, Any]]) -> None:
    for event in exported:
        metadata = event["metadata"]
        assert metadata["version"] == "1.1.0"
        assert metadata["product"].keys() >= {"name", "vendor_name"}
        if event["class_uid"] == 6003:
            assert event["api"]["operation"]
            assert event["actor"]["app_name"]
            assert event["src_endpoint"]["name"]
        if event["class_uid"] == 3004:
            assert event["entity"]["name"]
        if event["class_uid"] == 6002:
            assert event["app"].keys() >= {"name", "vendor_name"}


def test_classes_activities_and_severities_are_what_happened(
    exported: list[dict[str, Any]],
) -> None:
    found = {
        (event["metadata"]["event_code"], event.get("status_code")): (
            event["class_uid"],
            event["activity_name"],
            event["severity_id"],
            event["status"],
        )
        for event in exported[1:2] + exported[3:]
    }
    assert found["answered", None] == (6003, "Train", 1, "Success")
    assert found["refused", "policy_max_epsilon"] == (6003, "Train", 2, "Failure")
    assert found["refused", "ledger"] == (6003, "Train", 4, "Failure")
    assert found["revoked", None] == (3004, "Delete", 3, "Success")
    assert found["enrolled", None] == (3002, "Logon", 1, "Success")
    assert found["run", None] == (6003, "Failed", 2, "Failure")
    assert found["ended", None] == (6002, "Stop", 1, "Success")


def test_who_did_it_and_what_it_was_done_to_are_named(exported: list[dict[str, Any]]) -> None:
    by_kind = {event["metadata"]["event_code"]: event for event in exported}
    assert by_kind["approved"]["actor"] == {"user": {"name": "ann"}}
    assert by_kind["approved"]["entity"] == {"type": "plan", "name": "trial"}
    assert by_kind["settings"]["entity"] == {"type": "settings", "name": "Mill"}
    assert by_kind["revoked"]["entity"]["name"] == "node of A"
    assert by_kind["refused"]["resources"] == [{"type": "job", "name": "trial"}]
    assert by_kind["round"]["metadata"]["log_name"] == "institution Mill"


@pytest.mark.parametrize("kind", [*dict.fromkeys(kind for kind, _ in EVERY), "begun"])
def test_an_event_that_says_less_is_exported_all_the_same(kind: str) -> None:
    event = Event(number=1, time=0.0, kind=kind, content={"code": []}, previous="")
    told = json.loads(to_ocsf_line(Exporter(), event))
    assert (told["metadata"]["uid"], told["unmapped"]) == (event.hash, {"code": []})
