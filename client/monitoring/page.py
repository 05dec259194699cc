"""An institution's page: what runs, what it costs, what waits for its people.

Neither records nor counts of them, names of columns, or scores: whoever is on this machine may read
a page on loopback.
"""

import shlex
from collections.abc import Iterator, Sequence

from confide.audit_log.words import when
from confide.client.deployment.job_files import plan_path
from confide.client.deployment.plan_words import asked, cost, seen
from confide.client.monitoring.judge import ready
from confide.client.monitoring.snapshot import InstitutionSnapshot
from confide.client.monitoring.tally import JobSeen, RefusalSeen
from confide.errors import ConfideError
from confide.monitoring.fixes import fix_of, words_of
from confide.monitoring.sections import (
    ASKED_FOR,
    audit_section,
    certificates_section,
    disks_section,
    lasting,
    processes_section,
    to_do_section,
)
from confide.pages.board import Advice, Board, Budget, Mark, Section
from confide.pages.page import Cell, PageTable, Row
from confide.protocol.plan import TrainingPlan, plan_sha256
from confide.protocol.refusals import Refusal

_JOBS, _REFUSALS = 10, 10
_STANDS: dict[str, tuple[str, Mark]] = {
    "seen": ("its plan was seen", "ok"),
    "answered": ("answered", "ok"),
    "refused": ("refused", "bad"),
    "waits": ("waits for your approval", "wait"),
    "approved": ("approved, not asked again yet", "ok"),
    "stopped": ("stopped by your people", "wait"),
}
_BUDGET_NOTE = (
    "Spent is what rounds have cost so far; committed is what all runs that began will have cost. A"
    " new run has to fit into what is left, and may commit more than its own epsilon: across runs,"
    " whose plans may depend on earlier outputs, the ledger adds up by a filter."
)


def board(snapshot: InstitutionSnapshot) -> Board:
    """Return the page of an institution."""
    kit = snapshot.kit
    name = kit.config.name if kit else snapshot.folder.name
    address = kit.config.coordinator.address if kit else "not known"
    mark, state = _state(snapshot, name)
    folder = str(kit.audit_log) if kit else ""
    return Board(
        title=name,
        subtitle=f"Institution; its coordinator is {address}",
        mark=mark,
        state=state,
        written=when(snapshot.taken),
        sections=[
            to_do_section([_approval(snapshot, job) for job in snapshot.waiting], ready(snapshot)),
            _plans(snapshot),
            _budget(snapshot),
            processes_section(snapshot.processes),
            _refusals(snapshot, name),
            certificates_section(snapshot.certificates, snapshot.taken),
            disks_section(snapshot.disks),
            audit_section(snapshot.audit.tail, snapshot.audit.problem, folder),
        ],
    )


def _state(snapshot: InstitutionSnapshot, name: str) -> tuple[Mark, str]:
    down = [it.name for it in snapshot.processes if it.state == "down"]
    if down:
        verb = "does" if len(down) == 1 else "do"
        return "bad", f"{name} takes no part: {', '.join(down)} {verb} not run."
    if snapshot.ledger.condition == "damaged":
        return "bad", f"{name} takes no part: its ledger cannot be trusted."
    if snapshot.waiting:
        jobs = ", ".join(job.job for job in snapshot.waiting)
        return "wait", f"{name} takes part; a plan waits for your approval: {jobs}."
    if snapshot.link.is_connected is False:
        return "wait", (
            f"{name} runs, and is not connected to its coordinator; between two runs that is to be"
            " expected."
        )
    if any(it.state == "unknown" for it in snapshot.processes):
        return "wait", f"What runs at {name} is not known to this user."
    under_way = snapshot.ledger.under_way
    if under_way is not None:
        return "ok", (
            f"{name} trains: job {under_way.job}, round {under_way.server_round}, for"
            f" {lasting(snapshot.taken - under_way.since)}."
        )
    newest = next(iter(snapshot.audit.jobs), None)
    if newest is not None and newest.standing == "refused":
        return "wait", f"{name} takes part; it refused job {newest.job} ({newest.code})."
    last = snapshot.audit.last_request
    asked_last = "" if last is None else f" Last asked {lasting(snapshot.taken - last)} ago."
    return "ok", f"{name} takes part, and waits to be asked.{asked_last}"


def _approval(snapshot: InstitutionSnapshot, job: JobSeen) -> Advice:
    plan = _plan(snapshot, job)
    what = "." if plan is None else f": {_asks(plan)} It costs {_costs(snapshot, plan)}."
    folder = shlex.quote(str(snapshot.folder))
    return Advice(
        says=f"Job {job.job} waits for your approval{what}",
        fix="This shows the plan with what your policy says to it, and asks whether it may begin:",
        command=f"confide client approve {shlex.quote(job.job)} {folder}",
        mark="wait",
    )


def _plan(snapshot: InstitutionSnapshot, job: JobSeen) -> TrainingPlan | None:
    """Return the plan of a job as it is kept; None if it is gone, or of another release."""
    if snapshot.kit is None:
        return None
    try:
        text = plan_path(snapshot.kit, job.job).read_text()
        return TrainingPlan.from_json(text) if plan_sha256(text) == job.plan else None
    except (OSError, ValueError, ConfideError):
        return None


def _asks(plan: TrainingPlan) -> str:
    sees = seen(plan)
    return f"{asked(plan)}." + (f" The coordinator sees {sees}." if sees else "")


def _costs(snapshot: InstitutionSnapshot, plan: TrainingPlan) -> str:
    assert snapshot.kit is not None
    return cost(plan, snapshot.kit.config.policy) or "nothing: it protects nothing"


def _plans(snapshot: InstitutionSnapshot) -> Section:
    jobs = snapshot.audit.jobs
    rows = [_plan_row(snapshot, job) for job in jobs[:_JOBS]]
    headers = ("job", "where it stands", "last event", "what it asks for", "what it costs")
    return Section(
        name="plans",
        title="Plans",
        table=PageTable(headers, rows, (3, 4), "Plans"),
        empty="No plan came yet: no run was begun with this institution.",
        notes=[f"The newest {_JOBS} of {len(jobs)}."] if len(jobs) > _JOBS else (),
    )


def _plan_row(snapshot: InstitutionSnapshot, job: JobSeen) -> Row:
    plan = _plan(snapshot, job)
    words, mark = _STANDS[job.standing]
    aside = f"round {job.server_round}" if job.server_round else ""
    if job.standing == "refused":
        aside = job.code
    return Row(
        [
            Cell(job.job),
            Cell(words, aside, mark=mark),
            Cell(when(job.time)),
            Cell("Its plan is not kept here any more." if plan is None else _asks(plan)),
            Cell("" if plan is None else _costs(snapshot, plan)),
        ]
    )


def _budget(snapshot: InstitutionSnapshot) -> Section:
    ledger = snapshot.ledger
    empty = "Nothing was ever spent: the ledger is not begun."
    if ledger.problem:
        empty = f"The ledger cannot be read: {ledger.problem.rstrip('.')}."
    elif snapshot.kit is not None and snapshot.kit.config.policy.budget.epsilon is None:
        empty = "This kit has no budget (policy.budget.epsilon=null): it protects nothing."
    budgets = [
        Budget(
            name=f"Lifetime epsilon of {it.population}, for each {it.unit}, at delta {it.delta:g}",
            spent=it.spent,
            committed=it.committed,
            limit=it.budget,
        )
        for it in ledger.accounts
    ]
    return Section(
        name="budget",
        title="Privacy budget",
        budgets=budgets,
        empty=empty,
        notes=[_BUDGET_NOTE] if budgets else (),
        narrow=True,
    )


def _refusals(snapshot: InstitutionSnapshot, name: str) -> Section:
    alike = list(_distinct(snapshot.audit.newest_refusals))
    rows = [_refusal_row(one, name) for one in alike[:_REFUSALS]]
    headers = ("newest", "job", "asked for", "why", "what to do")
    return Section(
        name="refusals",
        title="Last refusals",
        table=PageTable(headers, rows, (3, 4), "Last refusals"),
        empty="Nothing was refused here.",
        notes=["With all figures: state/logs/trainer.log, which the trainer's user alone reads."]
        if rows
        else (),
    )


def _distinct(refusals: Sequence[RefusalSeen]) -> Iterator[RefusalSeen]:
    """Yield the newest of those alike; what waits for approval is no refusal."""
    told = set()
    for one in refusals:
        key = (one.job, one.request, one.code)
        if key not in told and one.code != Refusal.POLICY_APPROVAL:
            told.add(key)
            yield one


def _refusal_row(one: RefusalSeen, name: str) -> Row:
    return Row(
        [
            Cell(when(one.time)),
            Cell(one.job or "no plan"),
            Cell(
                ASKED_FOR.get(one.request, one.request),
                f"round {one.server_round}" if one.server_round else "",
            ),
            Cell(words_of(one.code, name), one.code),
            Cell(fix_of(one.code).institution),
        ]
    )


__all__ = ["board"]
