"""A coordinator's metrics: rounds, who is in them and who is not, and what it runs on."""

from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import Metric

from confide.monitoring.parts import shared_samples
from confide.monitoring.samples import SHARED, Metered, Sample, families
from confide.protocol.refusals import NOT_AFFORDED
from confide.server.deployment.watched import WAITING
from confide.server.monitoring.snapshot import CoordinatorSnapshot
from confide.server.monitoring.tally import PHASES

METRICS: dict[str, Metered] = {
    **SHARED,
    "confide_rounds_total": Metered("counter", "rounds that ended, over all runs"),
    "confide_round": Metered("gauge", "rounds that the newest run has done"),
    "confide_rounds_planned": Metered("gauge", "rounds that the newest run's plan has"),
    "confide_phase_seconds_total": Metered(
        "counter", "seconds of runs: until all are enrolled, rounds, scores at the end", ("phase",)
    ),
    "confide_bytes_total": Metered(
        "counter", "bytes of updates (up) and of models (down)", ("direction",)
    ),
    "confide_updates_accepted_total": Metered(
        "counter", "updates that went into rounds", ("institution",)
    ),
    "confide_refusals_total": Metered(
        "counter",
        "times that an institution was not in a round or a run, by why",
        ("institution", "code"),
    ),
    "confide_run_under_way": Metered(
        "gauge", "1 while a run is not done and was not told to end, 0 otherwise"
    ),
    "confide_last_progress_timestamp_seconds": Metered(
        "gauge", "time at which the newest run went on last, in seconds since 1970"
    ),
    "confide_institution_online": Metered(
        "gauge", "1 if the institution is connected, 0 if not; absent if unknown", ("institution",)
    ),
    "confide_institution_last_seen_timestamp_seconds": Metered(
        "gauge", "time at which it was connected last, in seconds since 1970", ("institution",)
    ),
    "confide_institutions_waited_for": Metered(
        "gauge", "institutions that were asked and have not answered"
    ),
    "confide_superlink_messages_waiting": Metered(
        "gauge", "messages that no institution has fetched yet"
    ),
    "confide_superlink_database_bytes": Metered("gauge", "size of SuperLink's database"),
    "confide_connections_refused": Metered(
        "gauge", "connections that the front refused in the last hour, by its log"
    ),
}
"""Every metric of a coordinator."""


def metrics(snapshot: CoordinatorSnapshot) -> Iterable[Metric]:
    """Return a snapshot's metrics."""
    return families(METRICS, _samples(snapshot))


def _samples(snapshot: CoordinatorSnapshot) -> Iterator[Sample]:
    yield from shared_samples(
        version=snapshot.version,
        processes=snapshot.processes,
        certificates=snapshot.certificates,
        disks=snapshot.disks,
    )
    audit = snapshot.audit
    yield "confide_audit_log_readable", (), float(not audit.problem)
    yield "confide_audit_log_events_total", (), audit.events
    yield "confide_rounds_total", (), audit.rounds
    for phase in PHASES:
        yield "confide_phase_seconds_total", (phase,), round(audit.seconds.get(phase, 0.0), 3)
    for direction in ("up", "down"):
        yield "confide_bytes_total", (direction,), audit.bytes[direction]
    yield from _run(snapshot)
    yield from _institutions(snapshot)
    if snapshot.link is not None:
        yield "confide_superlink_messages_waiting", (), snapshot.link.waiting
        yield "confide_superlink_database_bytes", (), snapshot.link.size
    yield "confide_connections_refused", (), snapshot.knocks.total()


def _run(snapshot: CoordinatorSnapshot) -> Iterator[Sample]:
    run = snapshot.run
    yield "confide_run_under_way", (), float(run is not None and run.is_under_way)
    if run is not None:
        yield "confide_round", (), run.server_round
        yield "confide_rounds_planned", (), run.rounds
        yield "confide_last_progress_timestamp_seconds", (), run.changed


def _institutions(snapshot: CoordinatorSnapshot) -> Iterator[Sample]:
    for seen in snapshot.institutions:
        name = (seen.name,)
        online = None if seen.is_online is None else float(seen.is_online)
        yield "confide_institution_online", name, online
        yield "confide_institution_last_seen_timestamp_seconds", name, seen.last_seen
        yield "confide_updates_accepted_total", name, seen.accepted
        # At 0 before the first one, so that an alert sees it come
        counts = dict.fromkeys(NOT_AFFORDED, 0) | dict(seen.refusals)
        for code, count in sorted(counts.items()):
            yield "confide_refusals_total", (seen.name, code), count
    asked = snapshot.under_way.asked.values() if snapshot.under_way else ()
    waited_for = sum(one.state == WAITING for one in asked)
    yield "confide_institutions_waited_for", (), waited_for


__all__ = ["METRICS", "metrics"]
