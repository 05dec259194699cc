"""Grafana boards of both sides, as tables of panels: what each shows, by which expressions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

_SCHEMA = 36
_WIDTH, _HEIGHT, _COLUMNS = 8, 7, 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows.
        shown: expression -> legend, with labels in double braces.
        unit: Grafana's name of the unit.
        kind: curves, or the newest values as numbers.
    """

    title: str
    shown: dict[str, str]
    unit: str = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"


_PROCESSES = Panel("Processes (1 up, 0 down)", {"confide_process_up": "{{process}}"}, kind="stat")
_SHARED = (
    Panel(
        "Starts an hour",
        {"sum by (process) (increase(confide_process_starts_total[1h]))": "{{process}}"},
    ),
    Panel(
        "Days left of certificates",
        {"(confide_certificate_expiry_timestamp_seconds - time()) / 86400": "{{file}}"},
        kind="stat",
    ),
    Panel("Disk free", {"confide_disk_free_bytes": "{{folder}}"}, unit="bytes"),
    Panel("Audit log readable", {"confide_audit_log_readable": "readable"}, kind="stat"),
)

INSTITUTION: tuple[Panel, ...] = (
    _PROCESSES,
    Panel(
        "Lifetime epsilon",
        {
            "confide_epsilon_spent": "{{budget}}: spent",
            "confide_epsilon_committed": "{{budget}}: committed",
            "confide_epsilon_budget": "{{budget}}: budget",
        },
    ),
    Panel("Epsilon left", {"confide_epsilon_left": "{{budget}}"}, kind="stat"),
    Panel("Jobs that wait for approval", {"confide_approvals_waiting": "waiting"}, kind="stat"),
    Panel(
        "Requests an hour",
        {
            "sum by (request, outcome) (increase(confide_requests_total[1h]))": (
                "{{request}}: {{outcome}}"
            )
        },
    ),
    Panel("Refusals an hour", {"sum by (code) (increase(confide_refusals_total[1h]))": "{{code}}"}),
    Panel(
        "Seconds a request",
        {
            "sum by (request) (increase(confide_request_seconds_total[1h])) / sum by (request)"
            " (increase(confide_requests_total[1h]))": "{{request}}"
        },
        unit="s",
    ),
    Panel("Rounds an hour", {"increase(confide_rounds_total[1h])": "rounds"}),
    Panel("Drift (1 alarm, 0 none)", {"confide_drift_alarm": "{{model}}"}, kind="stat"),
    Panel(
        "Days since a check for drift",
        {"(time() - confide_drift_checked_timestamp_seconds) / 86400": "{{model}}"},
        kind="stat",
    ),
    Panel(
        "Bytes a second",
        {"sum by (direction) (rate(confide_bytes_total[1h]))": "{{direction}}"},
        unit="Bps",
    ),
    Panel(
        "Since the last request",
        {"time() - confide_last_request_timestamp_seconds": "seconds"},
        unit="s",
        kind="stat",
    ),
    Panel(
        "Run (1 yes, 0 no)",
        {
            "confide_run_unfinished": "has rounds left",
            "confide_round_under_way": "a round is under way",
            "confide_coordinator_connected": "connected",
        },
        kind="stat",
    ),
    Panel("Ledger sound", {"confide_ledger_sound": "sound"}, kind="stat"),
    *_SHARED,
)
COORDINATOR: tuple[Panel, ...] = (
    _PROCESSES,
    Panel(
        "Rounds of the newest run",
        {"confide_round": "done", "confide_rounds_planned": "planned"},
        kind="stat",
    ),
    Panel(
        "Run (1 yes, 0 no)",
        {
            "confide_run_under_way": "under way",
            "confide_institutions_waited_for": "institutions waited for",
        },
        kind="stat",
    ),
    Panel(
        "Institutions connected (1 yes, 0 no)",
        {"confide_institution_online": "{{institution}}"},
        kind="stat",
    ),
    Panel(
        "Since institutions were seen",
        {"time() - confide_institution_last_seen_timestamp_seconds": "{{institution}}"},
        unit="s",
    ),
    Panel(
        "Since the run went on",
        {"time() - confide_last_progress_timestamp_seconds": "seconds"},
        unit="s",
        kind="stat",
    ),
    Panel(
        "Seconds a round",
        {
            'sum (increase(confide_phase_seconds_total{phase="round"}[1h])) / sum'
            " (increase(confide_rounds_total[1h]))": "seconds"
        },
        unit="s",
    ),
    Panel(
        "Seconds an hour, by phase",
        {"sum by (phase) (increase(confide_phase_seconds_total[1h]))": "{{phase}}"},
        unit="s",
    ),
    Panel(
        "Bytes a second",
        {"sum by (direction) (rate(confide_bytes_total[1h]))": "{{direction}}"},
        unit="Bps",
    ),
    Panel(
        "Updates accepted an hour",
        {"sum by (institution) (increase(confide_updates_accepted_total[1h]))": "{{institution}}"},
    ),
    Panel(
        "Refusals an hour",
        {
            "sum by (institution, code) (increase(confide_refusals_total[1h]))": (
                "{{institution}}: {{code}}"
            )
        },
    ),
    Panel(
        "SuperLink",
        {
            "confide_superlink_messages_waiting": "messages waiting",
            "confide_connections_refused": "connections refused in the last hour",
        },
        kind="stat",
    ),
    Panel("SuperLink's database", {"confide_superlink_database_bytes": "size"}, unit="bytes"),
    *_SHARED,
)


def board_text(title: str, uid: str, panels: Sequence[Panel]) -> str:
    """Write a board as Grafana imports it; its source of data is chosen there.

    Args:
        title: title of the board.
        uid: what tells it from other boards: imported again, it takes its own place.
        panels: what is on it.
    """
    board = {
        "uid": uid,
        "title": title,
        "tags": ["confide"],
        "timezone": "browser",
        "editable": True,
        "schemaVersion": _SCHEMA,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(board, indent=1) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    across = _COLUMNS // _WIDTH
    place = {"x": number % across * _WIDTH, "y": number // across * _HEIGHT}
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {**place, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
            }
            for index, (expression, legend) in enumerate(panel.shown.items())
        ],
    }


__all__ = ["COORDINATOR", "INSTITUTION", "Panel", "board_text"]
