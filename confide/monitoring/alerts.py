"""Alert rules of both sides, in Prometheus's form: when people should look, and at what."""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

_MANUAL = "docs/operations.md, Metrics, health, readiness"


@dataclass(frozen=True)
class Alert:
    """One rule.

    Attributes:
        name: its name.
        expression: what holds while it should fire.
        lasting: how long it has to hold.
        severity: warning, or critical where a run stands still.
        summary: what is wrong, in one sentence, with labels in Prometheus's templates.
    """

    name: str
    expression: str
    lasting: str
    severity: str
    summary: str


_CERTIFICATE = Alert(
    "ConfideCertificateExpires",
    "(confide_certificate_expiry_timestamp_seconds - time()) / 86400 < 30",
    "1h",
    "warning",
    "{{ $labels.file }} ends in {{ $value | humanize }} days",
)
# Of a program that cannot run at all, pauses between starts grow to 15 s
_RESTARTS = "increase(confide_process_starts_total[15m]) > 3"

INSTITUTION: tuple[Alert, ...] = (
    _CERTIFICATE,
    Alert(
        "ConfideBudgetNearlySpent",
        "confide_epsilon_left / confide_epsilon_budget < 0.1",
        "5m",
        "warning",
        "less than a tenth of the lifetime epsilon of {{ $labels.budget }} is left",
    ),
    Alert(
        "ConfideProcessDown",
        f"confide_process_up == 0 or {_RESTARTS}",
        "5m",
        "critical",
        "{{ $labels.process }} is down, or is started again and again",
    ),
    Alert(
        "ConfideDrift",
        "confide_drift_alarm == 1",
        "0m",
        "warning",
        "records are no longer like those that model {{ $labels.model }} was trained on",
    ),
    Alert(
        "ConfideNobodyAsks",
        "confide_run_unfinished == 1 and time() - confide_last_request_timestamp_seconds > 7200",
        "5m",
        "warning",
        "a run has rounds left, and the coordinator has asked nothing for two hours",
    ),
)
COORDINATOR: tuple[Alert, ...] = (
    _CERTIFICATE,
    Alert(
        "ConfideBudgetRefused",
        "sum by (job, instance, institution) (increase(confide_refusals_total{code=~"
        '"budget_exhausted|budget_with_peers|rounds_spent"}[1h])) > 0',
        "0m",
        "warning",
        "{{ $labels.institution }} declined: its budget does not cover what was asked",
    ),
    Alert(
        "ConfideProcessDown",
        "(confide_process_up == 0 and on (job, instance) confide_run_under_way == 1) or"
        f" {_RESTARTS}",
        "5m",
        "critical",
        "{{ $labels.process }} is down during a run, or is started again and again",
    ),
    Alert(
        "ConfideNoRoundEnds",
        "confide_run_under_way == 1 and time() - confide_last_progress_timestamp_seconds > 7200",
        "5m",
        "critical",
        "a run is under way, and for two hours no round ended and nothing was scored",
    ),
)


def rules_text(alerts: Sequence[Alert]) -> str:
    """Write alert rules as Prometheus loads them."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": alert.lasting,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "description": _MANUAL},
        }
        for alert in alerts
    ]
    text: str = yaml.safe_dump({"groups": [{"name": "confide", "rules": rules}]}, sort_keys=False)
    return text


__all__ = ["COORDINATOR", "INSTITUTION", "Alert", "rules_text"]
