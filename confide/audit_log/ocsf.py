"""An audit log's events in the Open Cybersecurity Schema Framework (OCSF), which SIEMs read.

Mapped at export alone: what is signed stays as it was written. Classes and their required
attributes are those of OCSF 1.1.0: requests and rounds are API Activity (6003), starts and stops
Application Lifecycle (6002), institutions that take part Authentication (3002), and what people,
settings, keys and plans change Entity Management (3004). Activities are those that all of 1.x has.
What has no attribute there is under ``unmapped``, as it stands in the log.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from confide.audit_log.compare import ANSWERED, ENROLLED, REFUSED, ROUND, RUN
from confide.audit_log.log import BEGUN
from confide.protocol.refusals import Refusal
from confide.security.chain import Event
from confide.version import __version__

VERSION = "1.1.0"
LIFECYCLE, API, AUTHENTICATION, ENTITY = 6002, 6003, 3002, 3004
INFORMATIONAL, LOW, MEDIUM, HIGH = 1, 2, 3, 4
"""Severities."""
_OTHER = 99
_CATEGORIES = {3: "Identity & Access Management", 6: "Application Activity"}
_CLASSES = {
    LIFECYCLE: "Application Lifecycle",
    API: "API Activity",
    AUTHENTICATION: "Authentication",
    ENTITY: "Entity Management",
}
_REQUESTS = {"query": (2, "Read"), "evaluate": (2, "Read")}
"""Requests that change nothing; another one (train, unmask) is an activity of its own name."""
_GRAVE = frozenset({Refusal.LEDGER, Refusal.PRIVACY, Refusal.SUM_SHARES, Refusal.SUM_SURVIVORS})
"""Refusals behind which an attack, or a damaged account, may be."""
_ENTITIES: Mapping[str, tuple[str, int, str, int]] = {
    # kind of event -> what is changed, activity
    "approved": ("plan", 3, "Update", INFORMATIONAL),
    "begun": ("audit log", 1, "Create", INFORMATIONAL),
    "clock": ("clock", 3, "Update", MEDIUM),
    "continued": ("audit log", 3, "Update", INFORMATIONAL),
    "drift_checked": ("model", 2, "Read", INFORMATIONAL),
    "issued": ("certificate", 1, "Create", INFORMATIONAL),
    "opened": ("masked sum", 2, "Read", INFORMATIONAL),
    "plan_seen": ("plan", 1, "Create", INFORMATIONAL),
    "renewed": ("certificate", 3, "Update", INFORMATIONAL),
    "revoked": ("certificate", 4, "Delete", MEDIUM),
    "settings": ("settings", 3, "Update", LOW),
    "signer": ("signing key", 3, "Update", MEDIUM),
    "stopped": ("plan", 3, "Update", LOW),
    "torn": ("audit log", 3, "Update", MEDIUM),
    "withdrawn": ("institution", 3, "Update", LOW),
}
_STARTS = {"started": (3, "Start"), "ended": (4, "Stop")}
_NAMES = ("institution", "certificate", "job", "digest", "file", "name")
"""What an event may name, the most telling first."""


class Exporter:
    """Maps the events of one log, oldest first."""

    def __init__(self) -> None:
        self._owner = self._side = ""

    def export(self, event: Event) -> dict[str, Any]:
        """Return an event of OCSF.

        Args:
            event: of the log.
        """
        if event.kind == BEGUN:
            self._owner, self._side = _text(event, "name"), _text(event, "side")
        class_uid, attributes = self._mapped(event)
        activity = attributes["activity_id"]
        failed = event.kind == REFUSED or "failed" in event.content
        return {
            "category_uid": class_uid // 1000,
            "category_name": _CATEGORIES[class_uid // 1000],
            "class_uid": class_uid,
            "class_name": _CLASSES[class_uid],
            "type_uid": class_uid * 100 + activity,
            "time": round(event.time * 1000),
            "status_id": 2 if failed else 1,
            "status": "Failure" if failed else "Success",
            "metadata": self._metadata(event),
            "unmapped": dict(event.content),
            **attributes,
        }

    def _metadata(self, event: Event) -> dict[str, Any]:
        return {
            "version": VERSION,
            "product": {"name": "confide", "vendor_name": "confide", "version": __version__},
            "log_name": f"{self._side} {self._owner}".strip(),
            "uid": event.hash,
            "sequence": event.number,
            "event_code": event.kind,
        }

    def _mapped(self, event: Event) -> tuple[int, dict[str, Any]]:
        """Return the class of an event, and the attributes that are this class's own."""
        by_kind: dict[str, Callable[[Event], tuple[int, dict[str, Any]]]] = {
            ANSWERED: self._request,
            REFUSED: self._request,
            ROUND: self._round,
            RUN: self._round,
            ENROLLED: self._enrolled,
            **dict.fromkeys(_STARTS, self._lifecycle),
        }
        return by_kind.get(event.kind, self._entity)(event)

    def _request(self, event: Event) -> tuple[int, dict[str, Any]]:
        asked, code = _text(event, "request"), event.content.get("code")
        number, name = _REQUESTS.get(asked, (_OTHER, asked.title()))
        severity = INFORMATIONAL if code is None else HIGH if str(code) in _GRAVE else LOW
        attributes = {
            **_activity(number, name, severity),
            "actor": {"app_name": _text(event, "by")},
            "api": {"operation": asked, "service": {"name": "confide trainer"}},
            "src_endpoint": {"name": _text(event, "by")},
            "resources": [{"type": "job", "name": _text(event, "job")}],
        }
        return API, attributes if code is None else {**attributes, "status_code": str(code)}

    def _round(self, event: Event) -> tuple[int, dict[str, Any]]:
        is_trouble = bool(event.content.get("refused")) or "failed" in event.content
        operation = str(event.content.get("state", ROUND))
        return API, {
            **_activity(_OTHER, operation.title(), LOW if is_trouble else INFORMATIONAL),
            "actor": {"app_name": "confide server"},
            "api": {"operation": operation, "service": {"name": "confide server"}},
            "src_endpoint": {"name": self._owner or "coordinator"},
            "resources": [{"type": "job", "name": _text(event, "job")}],
        }

    def _enrolled(self, event: Event) -> tuple[int, dict[str, Any]]:
        return AUTHENTICATION, {
            **_activity(1, "Logon", INFORMATIONAL),
            "user": {"name": _text(event, "institution")},
            "service": {"name": "confide server"},
            "is_remote": True,
        }

    def _lifecycle(self, event: Event) -> tuple[int, dict[str, Any]]:
        number, name = _STARTS[event.kind]
        app = {"name": _text(event, "process"), "vendor_name": "confide"}
        return LIFECYCLE, {
            **_activity(number, name, LOW if "failed" in event.content else INFORMATIONAL),
            "app": {**app, "version": str(event.content.get("version", __version__))},
        }

    def _entity(self, event: Event) -> tuple[int, dict[str, Any]]:
        kind, number, name, severity = _ENTITIES.get(
            event.kind, (event.kind, _OTHER, event.kind.title(), LOW)
        )
        named = next((event.content[it] for it in _NAMES if it in event.content), self._owner)
        attributes: dict[str, Any] = {
            **_activity(number, name, severity),
            "entity": {"type": kind, "name": str(named) or kind},
            "comment": event.kind,
        }
        if "user" in event.content:
            attributes["actor"] = {"user": {"name": str(event.content["user"])}}
        return ENTITY, attributes


def _text(event: Event, name: str) -> str:
    """Return what an event names; "unknown" where one of another release does not."""
    return str(event.content.get(name, "unknown"))


def _activity(number: int, name: str, severity: int) -> dict[str, Any]:
    return {"activity_id": number, "activity_name": name, "severity_id": severity}


def to_ocsf_line(exporter: Exporter, event: Event) -> str:
    """Return an event of OCSF as one line of JSON."""
    return json.dumps(exporter.export(event), allow_nan=False)


__all__ = ["VERSION", "Exporter", "to_ocsf_line"]
