"""What is known of an institution now, from its kit's files alone.

Neither the trainer nor anything else is asked, so that nothing waits for whoever watches, and the
state of a side that is down can be seen too. What cannot be read is unknown, and never an error.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confide.client.deployment.kit import FILE, InstitutionKit, read_kit
from confide.client.deployment.launch import ROLES
from confide.client.deployment.supernode_log import supernode_told
from confide.client.monitoring.ledger_reader import Account, LedgerReader, LedgerSeen
from confide.client.monitoring.tally import DriftSeen, InstitutionTally, JobSeen, RefusalSeen
from confide.errors import ConfigError
from confide.monitoring.audit_reader import AuditReader
from confide.monitoring.parts import (
    CertificateSeen,
    DiskSeen,
    Process,
    certificates_in,
    disks_at,
    is_missing,
    processes_in,
)
from confide.security.chain import Event
from confide.version import __version__

_RENEW = "ask the coordinator to run `confide provision` again, and to send the file."


@dataclass(frozen=True, kw_only=True)
class Link:
    """The connection to the coordinator, as the SuperNode's log tells it.

    Attributes:
        is_connected: whether the SuperNode runs and waits for nothing; None if unknown.
        problem: what it waits for, or why it ended; '' if nothing is known to be wrong.
    """

    is_connected: bool | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """An audit log, and what it adds up to.

    Attributes:
        problem: what is wrong with the log; '' if nothing is.
        tail: its newest events, the newest last.
        events: number of its events.
        requests: (kind of request, answered or refused) -> number.
        seconds: kind of request -> seconds that were worked on it.
        bytes: in or out -> bytes of tensors.
        refusals: code -> number.
        trained: number of updates that were sent.
        last_request: time of the newest request, in seconds since 1970; None before any.
        jobs: jobs that asked here, the one with the newest event first.
        newest_refusals: the last refusals, the newest first.
        drift: the newest check for drift of each model, the newest first.
    """

    problem: str = ""
    tail: tuple[Event, ...] = ()
    events: int = 0
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: Mapping[str, float] = field(default_factory=dict)
    bytes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    trained: int = 0
    last_request: float | None = None
    jobs: tuple[JobSeen, ...] = ()
    newest_refusals: tuple[RefusalSeen, ...] = ()
    drift: tuple[DriftSeen, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InstitutionSnapshot:
    """An institution at one time.

    Attributes:
        taken: time of the snapshot, in seconds since 1970.
        version: release that took it.
        folder: folder of the kit.
        kit: the kit as it could be read last; None if it never could.
        kit_problems: mistakes of ``client.yaml`` as it is now.
        population: population whose budget the kit charges; '' if unknown, or without a budget.
        processes: trainer, executor and SuperNode.
        link: the connection to the coordinator.
        ledger: the ledger.
        audit: the audit log.
        certificates: certificates of the kit.
        missing_keys: names of files of keys that are not there, and that it takes to take part.
        disks: disks that are written to.
    """

    taken: float
    version: str
    folder: Path
    kit: InstitutionKit | None
    kit_problems: tuple[str, ...]
    population: str
    processes: tuple[Process, ...]
    link: Link
    ledger: LedgerSeen
    audit: Audit
    certificates: tuple[CertificateSeen, ...]
    missing_keys: tuple[str, ...]
    disks: tuple[DiskSeen, ...]

    @property
    def account(self) -> Account | None:
        """The account that the kit charges; None if there is none, or it is unknown."""
        return next((it for it in self.ledger.accounts if it.population == self.population), None)

    @property
    def waiting(self) -> tuple[JobSeen, ...]:
        """Jobs that wait for people to approve their plans."""
        return tuple(job for job in self.audit.jobs if job.standing == "waits")


class InstitutionWatch:
    """Takes snapshots of one kit; not by two threads at once.

    Args:
        folder: folder of the kit.
        overrides: changes of ``client.yaml``, as the kit is run with.
    """

    def __init__(self, folder: Path, overrides: Sequence[str] = ()) -> None:
        self._folder, self._overrides = folder, tuple(overrides)
        self._kit: InstitutionKit | None = None
        self._problems: tuple[str, ...] = ()
        self._stamp: int | None = None
        self._ledger_path, self._anchor_path = Path(), Path()
        self._ledger, self._audit = LedgerReader(), AuditReader(InstitutionTally)

    def __call__(self) -> InstitutionSnapshot:
        """Return what is known now."""
        self._read_kit()
        kit = self._kit
        ledger = self._read_ledger(kit)
        return InstitutionSnapshot(
            taken=time.time(),
            version=__version__,
            folder=self._folder,
            kit=kit,
            kit_problems=self._problems,
            population=_population(kit, ledger),
            processes=_processes(kit),
            link=_link(kit),
            ledger=ledger,
            audit=self._read_audit(kit),
            certificates=_certificates(kit),
            missing_keys=_missing_keys(kit),
            disks=_disks(kit),
        )

    def _read_kit(self) -> None:
        path = self._folder / FILE
        try:
            stamp = path.stat().st_mtime_ns
        except OSError as error:
            self._stamp, self._problems = None, (f"{path} cannot be read: {error.strerror}.",)
            return
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            kit, problems = read_kit(self._folder, self._overrides)
        except ConfigError as error:
            # What runs was started by the kit as it was
            self._problems = tuple(error.problems)
            return
        self._kit, self._problems = kit, tuple(problems)

    def _read_ledger(self, kit: InstitutionKit | None) -> LedgerSeen:
        if kit is None:
            return LedgerSeen(condition="unknown", problem=f"{FILE} cannot be read")
        if kit.config.policy.budget.epsilon is None:
            return LedgerSeen(condition="none")
        return self._ledger.read(kit.ledger, kit.anchor)

    def _read_audit(self, kit: InstitutionKit | None) -> Audit:
        if kit is None:
            return Audit(problem=f"{FILE} cannot be read")
        reader = self._audit
        reader.read(kit.audit_log)
        made = reader.made
        return Audit(
            problem=reader.problem,
            tail=tuple(reader.tail),
            events=made.events,
            requests=made.requests.copy(),
            seconds=dict(made.seconds),
            bytes=made.bytes.copy(),
            refusals=made.refusals.copy(),
            trained=made.trained,
            last_request=made.last_request,
            jobs=tuple(reversed(made.jobs.values())),
            newest_refusals=tuple(reversed(made.newest_refusals)),
            drift=tuple(reversed(made.drift.values())),
        )


def _population(kit: InstitutionKit | None, ledger: LedgerSeen) -> str:
    if kit is None or kit.config.policy.budget.epsilon is None:
        return ""
    # As `kit.population`, which would open the database
    if kit.config.policy.budget.id is not None:
        return kit.config.policy.budget.id
    return ledger.accounts[0].population if len(ledger.accounts) == 1 else ""


def _processes(kit: InstitutionKit | None) -> tuple[Process, ...]:
    if kit is None:
        return tuple(Process(name=role, state="unknown") for role in ROLES)
    # All roles in one supervisor write to `logs`; a role run as a service has its own folder
    return tuple(_process(kit, role) for role in ROLES)


def _process(kit: InstitutionKit, role: str) -> Process:
    return processes_in([kit.state / "logs", kit.state / role], [role])[0]


def _link(kit: InstitutionKit | None) -> Link:
    if kit is None or _process(kit, ROLES[-1]).state == "unknown":
        return Link(is_connected=None)
    told = supernode_told(kit)
    running = [one for one in told if one.runs]
    if running:
        why = next((one.why for one in running if one.why is not None), None)
        return Link(is_connected=why is None, problem=why or "")
    why = next((one.why for one in told if one.was_refused), None)
    return Link(is_connected=False, problem=why or "the SuperNode does not run")


def _certificates(kit: InstitutionKit | None) -> tuple[CertificateSeen, ...]:
    if kit is None:
        return ()
    coordinator = kit.config.coordinator
    paths = {"ca.crt": kit.path(coordinator.ca)}
    if kit.server_ca.name not in paths:
        paths[kit.server_ca.name] = kit.server_ca
    # Kits of earlier releases have none, and take part in no masked sum
    own = kit.path(coordinator.trainer_certificate)
    if own.exists():
        paths["trainer.crt"] = own
    return certificates_in(paths, _RENEW)


def _missing_keys(kit: InstitutionKit | None) -> tuple[str, ...]:
    if kit is None:
        return ()
    coordinator = kit.config.coordinator
    needed = [coordinator.key]
    if kit.config.policy.secure.required:
        needed += [coordinator.trainer_key, coordinator.trainer_certificate]
    return tuple(path.name for path in map(kit.path, needed) if is_missing(path))


def _disks(kit: InstitutionKit | None) -> tuple[DiskSeen, ...]:
    if kit is None:
        return ()
    return disks_at({"state": kit.state, "ledger": kit.path(kit.config.ledger)})


__all__ = ["Audit", "InstitutionSnapshot", "InstitutionWatch", "Link"]
