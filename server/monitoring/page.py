"""A coordinator's page: who is there, the round under way, what was refused, the runs before."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from confide.audit_log.words import when
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
from confide.pages.board import Advice, Board, Drawing, Mark, Section
from confide.pages.page import Cell, PageTable, Row
from confide.protocol.refusals import NOT_YET
from confide.server.deployment.watched import ANSWERED, WAITING, Asked, KnownRun, UnderWay
from confide.server.monitoring.judge import ready
from confide.server.monitoring.reports import report_address
from confide.server.monitoring.snapshot import CoordinatorSnapshot, InstitutionSeen
from confide.server.monitoring.tally import RunSeen
from confide.server.run_folder import resume_command

_RUNS, _DRAWN = 20, 3
_STATES: dict[str, tuple[str, Mark]] = {
    "started": ("begins", "ok"),
    "planned": ("waits for institutions", "wait"),
    "begun": ("trains", "ok"),
    "finished": ("has its result", "ok"),
    "failed": ("failed", "bad"),
    "ended": ("was interrupted", "wait"),
}
DrawFn = Callable[[Path], Drawing | None]
"""Draws how the model of a run gets better; None where there is nothing to draw."""


def board(snapshot: CoordinatorSnapshot, draw_fn: DrawFn) -> Board:
    """Return the page of a coordinator.

    Args:
        snapshot: what is known of it.
        draw_fn: draws a run's convergence.
    """
    kit = snapshot.kit
    mark, state = _state(snapshot)
    hosts = f"{', '.join(kit.hosts)} port {kit.port}" if kit else "not known"
    return Board(
        title=kit.name if kit else snapshot.folder.name,
        subtitle=f"Coordinator of a federation; institutions reach it at {hosts}",
        mark=mark,
        state=state,
        written=when(snapshot.taken),
        sections=[
            _to_do(snapshot),
            _institutions(snapshot),
            _convergence(snapshot, draw_fn),
            _refusals(snapshot),
            _runs(snapshot),
            processes_section(snapshot.processes),
            certificates_section(snapshot.certificates, snapshot.taken),
            disks_section(snapshot.disks),
            audit_section(
                snapshot.audit.tail, snapshot.audit.problem, str(kit.audit_log) if kit else ""
            ),
        ],
    )


def _state(snapshot: CoordinatorSnapshot) -> tuple[Mark, str]:
    run, now = snapshot.run, snapshot.under_way
    if snapshot.kit is None:
        return "bad", "The kit cannot be read."
    if snapshot.is_running and now is not None and now.kind:
        return _asks(snapshot, now)
    if snapshot.is_running:
        job = f"Job {run.job}" if run is not None and run.is_under_way else "A run"
        return "wait", f"{job} begins, or looks who is connected."
    if run is None:
        return "ok", "No run was begun yet. `confide server KIT` begins one."
    words, mark = _STATES[run.state]
    if _is_cut_off(snapshot, run):
        return "bad", f"Job {run.job} is not done, and none of its processes runs."
    return mark, f"No run is under way. The last one, {run.job}, {words}: {when(run.changed)}."


def _asks(snapshot: CoordinatorSnapshot, now: UnderWay) -> tuple[Mark, str]:
    """Say what the run under way asks, and who is waited for."""
    run = snapshot.run
    rounds = f" of {run.rounds}" if run is not None and run.rounds else ""
    number = f", round {now.server_round}{rounds}" if now.server_round else ""
    waited = _waited_for(now)
    who = f" Waited for: {', '.join(waited)}." if waited else ""
    says = (
        f"Job {now.job}{number}: asks for {ASKED_FOR.get(now.kind, now.kind)} since"
        f" {lasting(snapshot.taken - now.since)}.{who}"
    )
    is_held_up = any(_current(now)[name].state in NOT_YET for name in waited)
    return "wait" if is_held_up else "ok", says


def _current(now: UnderWay) -> dict[str, Asked]:
    """Return name -> question of those who were asked what is asked now."""
    return {
        name: asked
        for name, asked in now.asked.items()
        if (asked.kind, asked.server_round) == (now.kind, now.server_round)
    }


def _waited_for(now: UnderWay) -> list[str]:
    return [name for name, asked in _current(now).items() if asked.state in (WAITING, *NOT_YET)]


def _is_cut_off(snapshot: CoordinatorSnapshot, run: RunSeen) -> bool:
    """Say whether a run's processes are gone without a word in the log."""
    # A kit has one run at a time: of the others none goes on
    is_there = snapshot.is_running and run is snapshot.run
    return run.is_under_way and not is_there


def _to_do(snapshot: CoordinatorSnapshot) -> Section:
    of_the_run = list(_go_on(snapshot))
    # What was cut off is told once, with the command that names its folder
    findings = [it for it in ready(snapshot) if not (of_the_run and it.check == "run")]
    return to_do_section([*of_the_run, *_strangers(snapshot)], findings)


def _go_on(snapshot: CoordinatorSnapshot) -> Iterator[Advice]:
    run = snapshot.run
    if run is None or snapshot.is_running:
        return
    if run.state == "failed":
        yield Advice(says=f"Job {run.job} failed: {run.failed.rstrip('.')}.")
    known = next((one for one in snapshot.runs if one.job == run.job), None)
    if known is not None and (run.is_under_way or run.state == "ended"):
        done = f" after round {run.server_round}" if run.server_round else ""
        mark: Mark = "bad" if _is_cut_off(snapshot, run) else "wait"
        says = f"Job {run.job} was interrupted{done}, and can go on."
        yield Advice(says=says, command=resume_command(Path(known.folder)), mark=mark)


def _strangers(snapshot: CoordinatorSnapshot) -> Iterator[Advice]:
    for client, times in snapshot.knocks.most_common():
        often = "once" if times == 1 else f"{times} times"
        yield Advice(
            says=f"Tried to connect in the last hour, {often}, and was refused: {client}.",
            fix="If it should take part: `confide doctor` there, and compare keys by telephone.",
            mark="wait",
        )


def _institutions(snapshot: CoordinatorSnapshot) -> Section:
    now = snapshot.under_way
    rows = [_institution_row(snapshot, it) for it in snapshot.institutions]
    headers = ("institution", "connection", "last seen", "in the run under way", "updates so far")
    return Section(
        name="institutions",
        title="Institutions",
        paragraphs=[_answers(now)] if now is not None and now.kind else (),
        table=PageTable(headers, rows, (3,), "Institutions"),
        empty="Not known: the kit cannot be read.",
        notes=["A connection that broke is told up to a minute late."] if rows else (),
    )


def _answers(now: UnderWay) -> str:
    """Say who has answered what is asked now, who is waited for, and who declined."""
    current, waited = _current(now), _waited_for(now)
    answered = [name for name, asked in current.items() if asked.state == ANSWERED]
    rest = [name for name in current if name not in (*answered, *waited)]
    groups = (("Answered", answered), ("Waited for", waited), ("Did not give it", rest))
    told = " ".join(f"{title}: {', '.join(names)}." for title, names in groups if names)
    return f"Asked for: {ASKED_FOR.get(now.kind, now.kind)}. {told}"


def _institution_row(snapshot: CoordinatorSnapshot, seen: InstitutionSeen) -> Row:
    connection = Cell("unknown", mark="wait")
    if not snapshot.is_running:
        connection = Cell("no run", "nobody connects")
    elif seen.is_online is not None:
        connection = Cell("connected", mark="ok") if seen.is_online else Cell("absent", mark="bad")
    last = seen.last_seen
    return Row(
        [
            Cell(seen.name),
            connection,
            Cell("never" if last is None else _ago(snapshot.taken - last)),
            _part(snapshot, seen.name),
            Cell(str(seen.accepted)),
        ]
    )


def _ago(seconds: float) -> str:
    return "now" if seconds < 60 else f"{lasting(seconds)} ago"


def _part(snapshot: CoordinatorSnapshot, name: str) -> Cell:
    """Say what an institution does in the run under way."""
    now, run = snapshot.under_way, snapshot.run
    if now is None:
        return Cell("none is under way")
    asked = now.asked.get(name)
    if run is not None and run.job == now.job and name in run.absent:
        return Cell("takes no part", run.absent[name], mark="bad")
    if asked is None:
        there = name in now.connected
        return Cell("not asked yet", "it is there" if there else "it was not there", mark="wait")
    what = ASKED_FOR.get(asked.kind, asked.kind)
    what += f", round {asked.server_round}" if asked.server_round else ""
    if asked.state == ANSWERED:
        return Cell("answered", what, mark="ok")
    if asked.state == WAITING:
        return Cell(f"waited for, {lasting(snapshot.taken - asked.since)}", what, mark="wait")
    return _refused_cell(name, asked, what)


def _refused_cell(name: str, asked: Asked, what: str) -> Cell:
    mark = "wait" if asked.state in NOT_YET else "bad"
    return Cell(words_of(asked.state, name), f"{what}: {asked.state}", mark=mark)


def _convergence(snapshot: CoordinatorSnapshot, draw_fn: DrawFn) -> Section:
    # Until the newest run has something to draw, the one before says most
    for run in snapshot.runs[:_DRAWN]:
        drawn = draw_fn(Path(run.folder))
        if drawn is not None:
            break
    else:
        drawn = None
    return Section(
        name="convergence",
        title="Quality during training",
        paragraphs=[f"Job {run.job}."] if drawn is not None else (),
        drawings=[drawn] if drawn is not None else (),
        empty="Nothing to draw: no scores of the newest runs were released yet.",
    )


class _Refused(NamedTuple):
    name: str
    told: str
    times: str
    newest: float | None


def _refusals(snapshot: CoordinatorSnapshot) -> Section:
    refused = sorted(_refused(snapshot), key=lambda it: -(it.newest or 0.0))
    rows = [
        Row(
            [
                Cell(it.name),
                Cell(words_of(it.told, it.name), it.told),
                Cell(it.times),
                Cell("" if it.newest is None else when(it.newest)),
                Cell(fix_of(it.told.partition(":")[0]).coordinator),
            ]
        )
        for it in refused
    ]
    headers = ("institution", "why", "how often", "newest", "what to do")
    return Section(
        name="refusals",
        title="Refusals",
        table=PageTable(headers, rows, (1, 4), "Refusals"),
        empty="None: whoever was asked has answered.",
    )


def _refused(snapshot: CoordinatorSnapshot) -> Iterator[_Refused]:
    """Yield who declines now, and who was not in a round or in a run before."""
    now, run = snapshot.under_way, snapshot.run
    absent = run.absent if run is not None else {}
    for name, asked in _current(now).items() if now is not None else ():
        if asked.state not in (WAITING, ANSWERED) and name not in absent:
            yield _Refused(name, asked.state, "asked now", asked.since)
    for seen in snapshot.institutions:
        # With the figures of the newest run, which the counts by code do not have
        figures = absent.get(seen.name, "")
        for code, times in seen.refusals.items():
            newest = seen.newest_refusal
            yield _Refused(
                seen.name,
                figures if figures.partition(":")[0] == code else code,
                "once" if times == 1 else f"{times} times",
                newest[1] if newest is not None and newest[0] == code else None,
            )


def _runs(snapshot: CoordinatorSnapshot) -> Section:
    states = {run.job: run for run in snapshot.audit.runs}
    rows = [_run_row(snapshot, one, states.get(one.job)) for one in snapshot.runs[:_RUNS]]
    headers = ("job", "started", "state", "rounds", "report", "folder")
    return Section(
        name="runs",
        title="Runs",
        table=PageTable(headers, rows, (5,), "Runs"),
        empty="None was started from this kit by this release.",
        notes=[f"The newest {_RUNS} of {len(snapshot.runs)}."]
        if len(snapshot.runs) > _RUNS
        else (),
    )


def _run_row(snapshot: CoordinatorSnapshot, known: KnownRun, seen: RunSeen | None) -> Row:
    address = report_address(known)
    report = Cell("read it", link=address) if address else Cell("none yet")
    if not Path(known.folder).is_dir():
        report = Cell("its folder is gone", mark="wait")
    rounds = ""
    state = Cell("unknown", mark="wait")
    if seen is not None:
        words, mark = _STATES[seen.state]
        if _is_cut_off(snapshot, seen):
            words, mark = "was cut off", "bad"
        state = Cell(words, mark=mark)
        rounds = f"{seen.server_round} of {seen.rounds}" if seen.rounds else str(seen.server_round)
    return Row(
        [
            Cell(known.job, "" if known.program == "server" else known.program),
            Cell(when(known.started)),
            state,
            Cell(rounds),
            report,
            Cell(known.folder),
        ]
    )


__all__ = ["DrawFn", "board"]
