"""An institution's metrics: states, times and sums of codes; no counts of records, no scores."""

from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import Metric

from confide.client.monitoring.snapshot import InstitutionSnapshot
from confide.client.monitoring.tally import DIRECTIONS
from confide.monitoring.parts import shared_samples
from confide.monitoring.samples import SHARED, Metered, Sample, families

_SHOWN = 12
"""Characters of a model's hash that name it."""
METRICS: dict[str, Metered] = {
    **SHARED,
    "confide_requests_total": Metered(
        "counter", "requests, by what came of them", ("request", "outcome")
    ),
    "confide_request_seconds_total": Metered(
        "counter", "seconds that the trainer worked on requests", ("request",)
    ),
    "confide_bytes_total": Metered(
        "counter", "bytes of models that came (in) and of updates that left (out)", ("direction",)
    ),
    "confide_refusals_total": Metered("counter", "refusals, by their code", ("code",)),
    "confide_rounds_total": Metered("counter", "rounds in which an update was sent"),
    "confide_last_request_timestamp_seconds": Metered(
        "gauge", "time of the newest request, in seconds since 1970"
    ),
    "confide_round_under_way": Metered(
        "gauge", "1 while a round is charged and not answered, 0 otherwise"
    ),
    "confide_run_unfinished": Metered(
        "gauge", "1 while the newest run has rounds left to ask for, 0 otherwise"
    ),
    "confide_approvals_waiting": Metered("gauge", "jobs that wait for people's approval"),
    "confide_coordinator_connected": Metered(
        "gauge", "1 if the SuperNode's log tells of no trouble, 0 if it does; absent if unknown"
    ),
    "confide_epsilon_budget": Metered("gauge", "lifetime epsilon of the budget", ("budget",)),
    "confide_epsilon_committed": Metered(
        "gauge", "epsilon of all runs, each whole, rounded up to 0.01", ("budget",)
    ),
    "confide_epsilon_spent": Metered(
        "gauge", "epsilon of the rounds computed so far, rounded up to 0.01", ("budget",)
    ),
    "confide_epsilon_left": Metered("gauge", "epsilon that a new run may cost", ("budget",)),
    "confide_drift_alarm": Metered(
        "gauge",
        "1 if the newest check for drift raised an alarm, 0 if not; absent after too few records",
        ("model",),
    ),
    "confide_drift_checked_timestamp_seconds": Metered(
        "gauge", "time of the newest check for drift, in seconds since 1970", ("model",)
    ),
    "confide_ledger_sound": Metered(
        "gauge", "1 if the ledger is whole, 0 if it is damaged; absent if there is none"
    ),
}
"""Every metric of an institution."""


def metrics(snapshot: InstitutionSnapshot) -> Iterable[Metric]:
    """Return a snapshot's metrics."""
    return families(METRICS, _samples(snapshot))


def _samples(snapshot: InstitutionSnapshot) -> Iterator[Sample]:
    audit = snapshot.audit
    yield from shared_samples(
        version=snapshot.version,
        processes=snapshot.processes,
        certificates=snapshot.certificates,
        disks=snapshot.disks,
    )
    yield "confide_audit_log_readable", (), float(not audit.problem)
    yield "confide_audit_log_events_total", (), audit.events
    for (request, outcome), count in sorted(audit.requests.items()):
        yield "confide_requests_total", (request, outcome), count
    for request, seconds in sorted(audit.seconds.items()):
        yield "confide_request_seconds_total", (request,), round(seconds, 3)
    for direction in DIRECTIONS:
        yield "confide_bytes_total", (direction,), audit.bytes[direction]
    for code, count in sorted(audit.refusals.items()):
        yield "confide_refusals_total", (code,), count
    yield "confide_rounds_total", (), audit.trained
    yield "confide_last_request_timestamp_seconds", (), audit.last_request
    is_known = snapshot.ledger.condition in ("sound", "damaged")
    yield (
        "confide_round_under_way",
        (),
        float(snapshot.ledger.under_way is not None) if is_known else None,
    )
    newest = next(iter(audit.jobs), None)
    yield "confide_run_unfinished", (), float(newest is not None and newest.is_unfinished)
    yield "confide_approvals_waiting", (), len(snapshot.waiting)
    connected = snapshot.link.is_connected
    yield "confide_coordinator_connected", (), None if connected is None else float(connected)
    for check in audit.drift:
        model = (check.model[:_SHOWN],)
        yield "confide_drift_checked_timestamp_seconds", model, check.time
        yield (
            "confide_drift_alarm",
            model,
            None if check.is_alarm is None else float(check.is_alarm),
        )
    yield from _budget(snapshot)


def _budget(snapshot: InstitutionSnapshot) -> Iterator[Sample]:
    condition, account = snapshot.ledger.condition, snapshot.account
    if condition in ("sound", "damaged"):
        yield "confide_ledger_sound", (), float(condition == "sound")
    if account is not None:
        name = (account.population,)
        yield "confide_epsilon_budget", name, account.budget
        yield "confide_epsilon_committed", name, account.committed
        yield "confide_epsilon_spent", name, account.spent
        yield "confide_epsilon_left", name, account.left


__all__ = ["METRICS", "metrics"]
