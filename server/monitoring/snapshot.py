"""What is known of a coordinator now, from its kit's and its runs' files alone.

Neither the rounds nor SuperLink is asked, so that nothing waits for whoever watches. What cannot be
read is unknown, and never an error.
"""

import datetime
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confide.errors import ConfideError, ConfigError
from confide.flower.database import LinkSeen, link_seen
from confide.monitoring.audit_reader import AuditReader
from confide.monitoring.parts import (
    CertificateSeen,
    DiskSeen,
    Process,
    certificates_in,
    disks_at,
    processes_in,
)
from confide.security.chain import Event
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.deployment.knocks import knocks
from confide.server.deployment.watched import KnownRun, UnderWay, read_runs, read_under_way
from confide.server.monitoring.tally import CoordinatorTally, RunSeen
from confide.version import __version__

PROCESSES = ("superlink", "front", "rounds")
_RENEW = (
    "run `confide provision` again where the authority's key is, bring coordinator/ here, and start"
    " again."
)
_RECENT = datetime.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class InstitutionSeen:
    """An institution, as the coordinator sees it.

    Attributes:
        name: its name.
        is_online: whether it is connected; None if unknown.
        last_seen: time at which it was, in seconds since 1970; None if never, or unknown.
        accepted: its updates that went into rounds.
        refusals: code -> times that it was not in a round.
        newest_refusal: code and time of the newest of these; None if there is none.
    """

    name: str
    is_online: bool | None = None
    last_seen: float | None = None
    accepted: int = 0
    refusals: Mapping[str, int] = field(default_factory=dict)
    newest_refusal: tuple[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Audit:
    """An audit log, and what it adds up to.

    Attributes:
        problem: what is wrong with the log; '' if nothing is.
        tail: its newest events, the newest last.
        events: number of its events.
        rounds: rounds that ended.
        seconds: phase -> seconds.
        bytes: up or down -> bytes.
        last_round: time at which the newest round ended, in seconds since 1970; None before any.
        runs: runs, the one with the newest event first.
    """

    problem: str = ""
    tail: tuple[Event, ...] = ()
    events: int = 0
    rounds: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    bytes: Counter[str] = field(default_factory=Counter)
    last_round: float | None = None
    runs: tuple[RunSeen, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CoordinatorSnapshot:
    """A coordinator at one time.

    Attributes:
        taken: time of the snapshot, in seconds since 1970.
        version: release that took it.
        folder: folder of the kit.
        kit: the kit as it could be read last; None if it never could.
        kit_problems: what is wrong with it now.
        processes: SuperLink, front and rounds.
        institutions: those of the federation.
        link: what SuperLink's database says; None if it cannot be read.
        audit: the audit log.
        under_way: what the run that is under way asks; None if none is, or it is unknown.
        runs: folders of runs that were started from the kit, the newest first.
        knocks: client and reason -> how often the front refused it in the last hour.
        certificates: certificates of the kit.
        disks: disks that are written to.
    """

    taken: float
    version: str
    folder: Path
    kit: CoordinatorKit | None
    kit_problems: tuple[str, ...]
    processes: tuple[Process, ...]
    institutions: tuple[InstitutionSeen, ...]
    link: LinkSeen | None
    audit: Audit
    under_way: UnderWay | None
    runs: tuple[KnownRun, ...]
    knocks: Counter[str]
    certificates: tuple[CertificateSeen, ...]
    disks: tuple[DiskSeen, ...]

    @property
    def run(self) -> RunSeen | None:
        """The newest run; None before any."""
        return next(iter(self.audit.runs), None)

    @property
    def is_running(self) -> bool:
        """Whether the processes of a run are there: between two runs none is."""
        return any(process.state == "up" for process in self.processes)


class CoordinatorWatch:
    """Takes snapshots of one kit; not by two threads at once.

    Args:
        folder: folder of the kit.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kit: CoordinatorKit | None = None
        self._audit = AuditReader(CoordinatorTally)

    def __call__(self) -> CoordinatorSnapshot:
        """Return what is known now."""
        problems: tuple[str, ...] = ()
        try:
            self._kit = load_coordinator_kit(self._folder)
        except ConfigError as error:
            problems = tuple(error.problems)
        kit, now = self._kit, time.time()
        tally = CoordinatorTally()
        if kit is not None:
            self._audit.read(kit.audit_log)
            tally = self._audit.made
        link = link_seen(kit.database, kit.institutions, now=now) if kit else None
        runs = tuple(read_runs(kit)) if kit else ()
        return CoordinatorSnapshot(
            taken=now,
            version=__version__,
            folder=self._folder,
            kit=kit,
            kit_problems=problems,
            processes=_processes(kit),
            institutions=_institutions(kit, link, tally),
            link=link,
            audit=_audit(self._audit, tally),
            under_way=read_under_way(kit) if kit else None,
            runs=runs,
            knocks=_knocks(kit),
            certificates=_certificates(kit),
            disks=_disks(kit, runs),
        )


def _audit(reader: AuditReader[CoordinatorTally], tally: CoordinatorTally) -> Audit:
    return Audit(
        problem=reader.problem,
        tail=tuple(reader.tail),
        events=tally.events,
        rounds=tally.rounds,
        seconds=dict(tally.seconds),
        bytes=tally.bytes.copy(),
        last_round=tally.last_round,
        runs=tuple(reversed(tally.runs.values())),
    )


def _processes(kit: CoordinatorKit | None) -> tuple[Process, ...]:
    if kit is None:
        return tuple(Process(name=name, state="unknown") for name in PROCESSES)
    return processes_in([kit.logs], PROCESSES)


def _institutions(
    kit: CoordinatorKit | None, link: LinkSeen | None, tally: CoordinatorTally
) -> tuple[InstitutionSeen, ...]:
    nodes = {node.name: node for node in link.nodes} if link else {}
    found = []
    for name in kit.institutions if kit else ():
        node = nodes.get(name)
        found.append(
            InstitutionSeen(
                name=name,
                is_online=node.is_online if node else None,
                last_seen=node.last_seen if node else None,
                accepted=tally.accepted[name],
                refusals={
                    code: count for (who, code), count in tally.refused.items() if who == name
                },
                newest_refusal=tally.newest_refusals.get(name),
            )
        )
    return tuple(found)


def _knocks(kit: CoordinatorKit | None) -> Counter[str]:
    try:
        return knocks(kit, within=_RECENT) if kit else Counter()
    except ConfideError:  # an institution's key, of which `kit_problems` tells
        return Counter()


def _certificates(kit: CoordinatorKit | None) -> tuple[CertificateSeen, ...]:
    if kit is None:
        return ()
    return certificates_in({path.name: path for path in kit.own_certificates}, _RENEW)


def _disks(kit: CoordinatorKit | None, runs: tuple[KnownRun, ...]) -> tuple[DiskSeen, ...]:
    if kit is None:
        return ()
    folders = {"state": kit.state}
    if runs:
        folders["run"] = Path(runs[0].folder)
    return disks_at(folders)


__all__ = [
    "PROCESSES",
    "Audit",
    "CoordinatorSnapshot",
    "CoordinatorWatch",
    "InstitutionSeen",
]
