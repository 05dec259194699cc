"""Parts that the pages of both sides have in common."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from confide.audit_log.words import in_words, when
from confide.deployment.checks import Finding
from confide.monitoring.parts import CertificateSeen, DiskSeen, Process
from confide.pages.board import Advice, Section
from confide.pages.page import Cell, PageTable, Row
from confide.security.chain import Event

_DAY_S, _HOUR_S, _MINUTE_S = 86400, 3600, 60
_GIB = 2**30
_SHOWN = 15
_LEFT_OUT = frozenset({"by", "config", "keys", "ledger", "plan", "told_head"})
"""What of an event is for auditors, and long."""
_HASH = re.compile(r"\b([0-9a-f]{10})[0-9a-f]{30,}\b")
ASKED_FOR = {
    "query": "taking part",
    "train": "training",
    "evaluate": "scores",
    "unmask": "shares of a masked sum",
}
"""Kinds of requests, as what is asked for."""
_MARKS = {"ok": "ok", "warning": "wait", "error": "bad"}


def lasting(seconds: float) -> str:
    """Return how long something has lasted, roughly.

    >>> lasting(3.2), lasting(200), lasting(7000), lasting(200000)
    ('3 s', '3 min', '1 h', '2 days')
    """
    whole = max(0, int(seconds))
    if whole < 2 * _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    if whole < 2 * _DAY_S:
        return f"{whole // _HOUR_S} h"
    return f"{whole // _DAY_S} days"


def to_do_section(own: Sequence[Advice], findings: Iterable[Finding]) -> Section:
    """Say what people have to do; what is wrong stands above what will be.

    Args:
        own: what a side's page adds.
        findings: of its checks.
    """
    found = [_advice(finding) for finding in findings if finding.status != "ok"]
    return Section(
        name="to-do",
        title="What needs you",
        advice=sorted([*own, *found], key=lambda it: it.mark != "bad"),
        empty="Nothing: every check of this kit is well.",
    )


def _advice(finding: Finding) -> Advice:
    fix = finding.fix[:1].upper() + finding.fix[1:]
    says = f"{finding.check}: {finding.message.rstrip('.')}."
    return Advice(says=says, fix=fix, mark="bad" if finding.status == "error" else "wait")


def processes_section(processes: Sequence[Process]) -> Section:
    """Say which processes run."""
    rows = [Row([Cell(it.name), _state(it), Cell(_starts(it))]) for it in processes]
    headers = ("process", "state", "started so far")
    table = PageTable(headers, rows, label="Processes")
    return Section(name="processes", title="What runs", table=table, narrow=True)


def _state(process: Process) -> Cell:
    if process.state == "up":
        return Cell("runs", f"process {process.pid}", mark="ok")
    if process.state == "down":
        return Cell("does not run", mark="bad")
    return Cell("unknown", "its files are another user's", mark="wait")


def _starts(process: Process) -> str:
    if process.starts is None:
        return "unknown"
    return "once" if process.starts == 1 else f"{process.starts} times"


def certificates_section(certificates: Sequence[CertificateSeen], now: float) -> Section:
    """Say how long certificates are valid."""
    rows = [Row([Cell(it.file), *_validity(it, now)]) for it in certificates]
    return Section(
        name="certificates",
        title="Certificates",
        table=PageTable(("file", "ends", "days left"), rows, label="Certificates"),
        empty="None is known: the kit cannot be read.",
        narrow=True,
    )


def _validity(certificate: CertificateSeen, now: float) -> tuple[Cell, Cell]:
    mark = _MARKS[certificate.finding.status]
    if certificate.expires is None:
        return Cell("unknown"), Cell("cannot be read", mark=mark)
    days = int((certificate.expires - now) // _DAY_S)
    left = str(days) if days >= 0 else "it has ended"
    return Cell(when(certificate.expires)[:10]), Cell(left, mark=mark)


def disks_section(disks: Sequence[DiskSeen]) -> Section:
    """Say how much may still be written."""
    rows = [
        Row([Cell(it.name), Cell(f"{it.free / _GIB:.1f} GiB"), Cell(f"{it.size / _GIB:.0f} GiB")])
        for it in disks
    ]
    return Section(
        name="disks",
        title="Disk",
        table=PageTable(("for", "free", "of"), rows, label="Disks"),
        empty="Unknown: the kit cannot be read.",
        narrow=True,
    )


def audit_section(tail: Sequence[Event], problem: str, folder: str) -> Section:
    """Show the newest events of an audit log, the newest first.

    Args:
        tail: newest events, the newest last.
        problem: what is wrong with the log; '' if nothing is.
        folder: of the log; '' if that is unknown.
    """
    rows = [_event_row(event) for event in list(reversed(tail))[:_SHOWN]]
    more = (
        f"The newest events, and not all that they say: `confide audit-log show {folder}` prints"
        " them; `confide audit-log verify` says whether they are what was written."
    )
    return Section(
        name="audit",
        title="Audit log",
        paragraphs=[problem] if problem else (),
        table=PageTable(("number", "time", "event", "what it says"), rows, (3,), "Audit log"),
        empty="" if problem else "No event yet: this side was not started before.",
        notes=[more] if folder and rows else (),
    )


def _event_row(event: Event) -> Row:
    told = {
        name: value
        for name, value in event.content.items()
        # What is nothing is left out too; 0 is a number, and stays
        if name not in _LEFT_OUT and value is not False and value not in ("", {}, [], None)
    }
    says = _HASH.sub(r"\1…", in_words(replace(event, content=told)))
    return Row([Cell(str(event.number)), Cell(when(event.time)), Cell(event.kind), Cell(says)])


__all__ = [
    "ASKED_FOR",
    "audit_section",
    "certificates_section",
    "disks_section",
    "lasting",
    "processes_section",
    "to_do_section",
]
