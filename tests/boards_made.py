"""Kits in the states that a side's page shows, made by what makes them in a federation."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import uvicorn
import yaml
from provisioned import FEDERATION
from small_kit import PRIVATE, ask, make_kit
from starlette.types import ASGIApp

from confide.audit_log.log import AuditLog
from confide.client.deployment.audited import AuditedHandler, watched
from confide.client.deployment.kit import InstitutionKit, load_kit
from confide.client.deployment.kit_audit import log_start, open_audit_log
from confide.client.deployment.served import DeployedInstitution
from confide.client.training.deadline import Deadline
from confide.config.composing.compose import compose
from confide.monitoring.address import listening, shown
from confide.protocol.messages import RequestKind
from confide.protocol.plan import TrainingPlan
from confide.security import certificates, ec_keys
from confide.server.deployment import audited
from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.deployment.watched import KnownRun, UnderWay, note_run
from confide.server.provisioning.provision import provision

HOSTILE = "<img src=x onerror=alert(1)>"
CONFIG = compose(["experiment=heart_disease", "server.kit=coordinator"])
_WARD, _VA = FEDERATION.institutions


def put_up(folder: Path, *names: str) -> None:
    """Say that processes run, as this one does: what their supervisor writes."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = dict.fromkeys(("supervisor", *names), os.getpid())
    (folder / "processes.json").write_text(json.dumps(ids))
    (folder / "starts.json").write_text(json.dumps(dict.fromkeys(names, 1)))


def institution(folder: Path, *, up: bool = True, **settings: object) -> InstitutionKit:
    """Make a kit, with its key and its authority's certificate, whose processes run."""
    kit = make_kit(folder, **settings)
    authority = certificates.make_authority("heart", ec_keys.make_key())
    (folder / "ca.crt").write_text(certificates.certificate_pem(authority))
    key = folder / "node.key"
    key.write_text(ec_keys.new_node_text(key))
    key.chmod(0o600)
    if up:
        put_up(kit.state / "logs", "trainer", "executor", "supernode")
    return kit


def answer(kit: InstitutionKit, *asked: tuple[RequestKind, TrainingPlan]) -> None:
    """Have an institution answer requests, as its trainer does: with a ledger and an audit log."""
    log = open_audit_log(kit)
    served = DeployedInstitution(kit, deadline=Deadline())
    log_start(log, kit, served.ledger_events)
    door = AuditedHandler(served, log, watched(kit, lambda: served.ledger_events))
    for kind, plan in asked:
        door.handle(kind, ask(plan))


def busy_institution(folder: Path) -> InstitutionKit:
    """Make a kit that has trained, has refused, and waits for its people.

    Whoever wrote the plans named a job as attackers would.
    """
    kit = institution(folder)
    greedy = replace(PRIVATE, job="greedy", privacy=replace(PRIVATE.privacy, epsilon=8.5))
    answer(kit, ("train", PRIVATE), ("query", greedy))
    asking = load_kit(folder, ["policy.approval=manual"])
    answer(asking, ("query", replace(PRIVATE, job=HOSTILE)))
    return asking


def coordinator(folder: Path, *names: str) -> CoordinatorKit:
    """Make a coordinator's kit."""
    federation = replace(FEDERATION, institutions=list(names or FEDERATION.institutions))
    provision(federation, CONFIG, folder / "kits")
    kit = load_coordinator_kit(folder / "kits" / "coordinator")
    kit.state.mkdir(exist_ok=True)
    return kit


def add_run(
    kit: CoordinatorKit, run_dir: Path, *, job: str = "trial", log: AuditLog | None = None
) -> AuditLog:
    """Begin a run of a kit: RUN, the register of runs, and the audit log."""
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump({"task": {"primary_metric": "accuracy"}}))
    started = {"overrides": [], "cwd": str(run_dir), "program": "server"}
    (run_dir / "command.yaml").write_text(yaml.safe_dump(started))
    note_run(kit, KnownRun(job=job, folder=str(run_dir), program="server", started=1.7e9))
    log = log or audited.open_audit_log(kit)
    log.append("started", audited.start_of(kit) | {"job": job, "program": "server"})
    log.append("run", {"state": "planned", "job": job, "rounds": 20})
    return log


def begin(log: AuditLog, *, job: str = "trial", absent: dict[str, str] | None = None) -> None:
    """Have a run's rounds begin."""
    log.append("run", {"state": "begun", "job": job, "absent": absent or {}})


def end_round(
    log: AuditLog, run_dir: Path, number: int, *, refused: dict[str, str] | None = None
) -> None:
    """End a round of both institutions, and write what they released."""
    accepted = [name for name in (_WARD, _VA) if name not in (refused or {})]
    log.append(
        "round",
        {
            "job": "trial",
            "round": number,
            "accepted": accepted,
            "refused": refused or {},
            "bytes_up": 1000,
            "bytes_down": 1000,
            "seconds": 1.5,
            "by_arrival": False,
        },
    )
    with (run_dir / "metrics.jsonl").open("a") as file:
        for place, name in enumerate(accepted):
            line = {"round": number - 1, "phase": "validation", "client": name, "name": "accuracy"}
            line |= {"value": 0.5 + 0.02 * number + 0.1 * place, "num_examples": 40 + place}
            file.write(json.dumps(line) + "\n")


def ask_now(kit: CoordinatorKit, now: UnderWay) -> None:
    """Have the rounds of a run ask, as :mod:`confide.server.deployment.watched` writes it."""
    put_up(kit.logs, "superlink", "front", "rounds")
    kit.under_way.write_text(json.dumps(asdict(now)))


@contextlib.contextmanager
def serving(app: ASGIApp, at: str = "127.0.0.1:0") -> Iterator[str]:
    """Serve an application on a free port of loopback; yields its address."""
    with listening(at) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield shown(listener).rstrip("/")
        finally:
            server.should_exit = True
            thread.join()
