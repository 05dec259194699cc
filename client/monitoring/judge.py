"""What keeps an institution from working, and what keeps it from taking part."""

from collections.abc import Iterator

from confide.client.deployment.kit import FILE
from confide.client.monitoring.snapshot import InstitutionSnapshot
from confide.deployment.checks import Finding, disk, gather
from confide.monitoring.parts import process_findings


def health(snapshot: InstitutionSnapshot) -> Iterator[Finding]:
    """Say whether the institution's processes live."""
    yield from process_findings(snapshot.processes)


def ready(snapshot: InstitutionSnapshot) -> Iterator[Finding]:
    """Say whether the institution can take part: what ``confide doctor`` checks in no time."""
    yield from health(snapshot)
    if snapshot.kit_problems:
        # Their sentences name columns and paths, which other users of this machine must not read
        count = len(snapshot.kit_problems)
        message = f"has {count} mistake{'s' if count > 1 else ''}; `confide doctor KIT` names them"
        yield Finding(FILE, "error", message)
    if snapshot.link.is_connected is False:
        # It listens while it runs something: between two runs nobody answers there
        yield Finding("coordinator", "warning", snapshot.link.problem)
    for name in snapshot.missing_keys:
        fix = "bring it back; `confide doctor KIT` says where it comes from."
        yield Finding(name, "error", f"{name} is missing", fix)
    for certificate in snapshot.certificates:
        yield certificate.finding
    yield from gather(("disk", lambda: disk(*(seen.folder for seen in snapshot.disks))))
    yield from _ledger(snapshot)
    if snapshot.audit.problem:
        fix = "`confide audit-log verify` says what is wrong."
        yield Finding("audit log", "error", snapshot.audit.problem, fix)


def _ledger(snapshot: InstitutionSnapshot) -> Iterator[Finding]:
    ledger, account = snapshot.ledger, snapshot.account
    if ledger.condition == "damaged":
        fix = "bring the newest copy back; nothing is trained without it."
        yield Finding("ledger", "error", ledger.problem, fix)
    elif ledger.condition == "unknown":
        yield Finding("ledger", "warning", ledger.problem)
    if account is not None and account.left <= 0:
        fix = "let the institution's people decide on a larger one: `confide ledger budget`."
        yield Finding("budget", "warning", "epsilon 0 is left: private runs are declined", fix)


__all__ = ["health", "ready"]
