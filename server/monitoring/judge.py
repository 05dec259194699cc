"""What keeps a coordinator's processes from running, and what keeps it from beginning a run.

Its processes live as long as a run: between two runs none is there, and nothing is wrong.
"""

from collections.abc import Iterator

from confide.deployment.checks import Finding, disk, gather, ok
from confide.monitoring.parts import process_findings
from confide.server.deployment.kit import FILE
from confide.server.monitoring.snapshot import CoordinatorSnapshot


def health(snapshot: CoordinatorSnapshot) -> Iterator[Finding]:
    """Say whether the processes of a run live."""
    if snapshot.is_running:
        yield from process_findings(snapshot.processes)
    elif snapshot.run is not None and snapshot.run.is_under_way:
        # It was not told to end: that would be in the log
        message = f"job {snapshot.run.job} is not done, and none of its processes runs"
        yield Finding("run", "error", message, "`confide server --resume RUN` goes on with it.")
    else:
        yield ok("run", "none is under way")


def ready(snapshot: CoordinatorSnapshot) -> Iterator[Finding]:
    """Say whether a run can begin or go on: what ``confide doctor`` checks in no time."""
    yield from health(snapshot)
    for problem in snapshot.kit_problems:
        yield Finding(FILE, "error", problem, "run `confide provision` again.")
    for certificate in snapshot.certificates:
        yield certificate.finding
    yield from gather(("disk", lambda: disk(*(seen.folder for seen in snapshot.disks))))
    if snapshot.audit.problem:
        fix = "`confide audit-log verify` says what is wrong."
        yield Finding("audit log", "error", snapshot.audit.problem, fix)
    absent = [seen.name for seen in snapshot.institutions if seen.is_online is False]
    if snapshot.is_running and absent:
        fix = "`confide doctor` on their side shows why."
        yield Finding("connected", "warning", f"not connected: {', '.join(absent)}", fix)


__all__ = ["health", "ready"]
