"""Writes each request and its outcome into the audit log, before the answer leaves.

What cannot be written is not answered: nothing leaves that the log does not know of. A line says
who asked what and what came of it, by codes, hashes and numbers; neither records nor scores nor
counts of records are in it.
"""

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord

from confide.audit_log.compare import ANSWERED, REFUSED, ledger_reference
from confide.audit_log.log import AuditLog
from confide.client.app import RequestHandler
from confide.client.deployment.job_files import plan_path
from confide.client.deployment.kit import InstitutionKit
from confide.client.institution import refusal
from confide.errors import ConfideError, ProtocolError
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.plan import TrainingPlan, plan_sha256
from confide.security.chain import Event
from confide.strategies.masked_sums import context_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the log says of an institution beside its requests.

    Attributes:
        asker: who asks, in few words.
        kept_plan_fn: job -> text of its plan as it was seen last; None if it has not asked before.
        ledger_fn: returns the events of the ledger, oldest first.
    """

    asker: str
    kept_plan_fn: Callable[[str], str | None]
    ledger_fn: Callable[[], list[Event]]


class AuditedHandler:
    """A request handler whose every outcome is in an audit log.

    Args:
        handler: of the institution.
        audit_log: its log.
        watched: what else the log says.
    """

    def __init__(self, handler: RequestHandler, audit_log: AuditLog, watched: Watched) -> None:
        self._handler, self._log, self._watched = handler, audit_log, watched
        self._known = len(watched.ledger_fn())

    @property
    def name(self) -> str:
        """Name of the institution."""
        return self._handler.name

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer one request, once its outcome is durable in the log."""
        started = time.monotonic()
        plan = _plan(request.plan)
        before = None if plan is None else self._watched.kept_plan_fn(plan.job)
        reply = self._handler.handle(kind, request)
        try:
            if plan is not None and before != request.plan:
                self._log_plan(plan, request.plan, before)
            seconds = round(time.monotonic() - started, 3)
            self._log_outcome(kind, request, plan, reply, seconds)
            if kind == "unmask" and reply.refusal is None and plan is not None:
                self._log_opened(plan, request)
        except ConfideError as error:
            log.error("The audit log cannot be written, so that nothing is answered: %s", error)
            return refusal(self.name, kind, error)
        return reply

    def _log_plan(self, plan: TrainingPlan, text: str, before: str | None) -> None:
        """Write that a plan is new here, unless it was not kept: the job is stopped."""
        if self._watched.kept_plan_fn(plan.job) != text:
            return
        privacy = plan.privacy
        content: dict[str, Any] = {
            "job": plan.job,
            "plan": plan_sha256(text),
            "unit": privacy.unit,
            "epsilon": privacy.epsilon if plan.private else None,
            "delta": privacy.delta if plan.private else None,
            "rounds": plan.num_rounds,
            "sums_alone": plan.sums is not None,
        }
        if before is not None:
            content["instead_of"] = plan_sha256(before)
        self._log.append("plan_seen", content)

    def _log_outcome(
        self,
        kind: RequestKind,
        request: Request,
        plan: TrainingPlan | None,
        reply: Reply,
        seconds: float,
    ) -> None:
        content: dict[str, Any] = {
            "by": self._watched.asker,
            "request": kind,
            # A text that is no plan may be anything
            "job": "" if plan is None else plan.job,
            "round": request.server_round,
            "plan": plan_sha256(request.plan),
            "seconds": seconds,
            "bytes_in": _size(request.arrays),
            "bytes_out": _size(reply.arrays),
        }
        if reply.refusal is not None:
            content["code"] = str(reply.refusal)
        if reply.ledger_head:
            content["told_head"] = reply.ledger_head.partition(":")[0]
        events = self._watched.ledger_fn()
        reference = ledger_reference(events, self._known)
        if reference is not None:
            content["ledger"] = reference
        self._log.append(ANSWERED if reply.refusal is None else REFUSED, content)
        self._known = len(events)

    def _log_opened(self, plan: TrainingPlan, request: Request) -> None:
        """Write which masked sum the institution helped to open, and whose it was."""
        asked, sums = request.sum, plan.sums
        assert asked is not None
        assert sums is not None
        context = context_of(
            plan,
            sums,
            asked,
            server_round=request.server_round,
            question=asked.question,
            length=asked.length,
        )
        content = {"digest": context.digest.hex(), "survivors": list(asked.survivors)}
        self._log.append("opened", {"job": plan.job, "round": request.server_round, **content})


def _size(arrays: ArrayRecord | None) -> int:
    return 0 if arrays is None else arrays.count_bytes()


def _plan(text: str) -> TrainingPlan | None:
    try:
        return TrainingPlan.from_json(text)
    except ProtocolError:
        return None


def watched(kit: InstitutionKit, ledger_fn: Callable[[], list[Event]]) -> Watched:
    """Return what is told of a kit's institution.

    Args:
        kit: the kit.
        ledger_fn: returns the events of its ledger, oldest first.
    """
    return Watched(
        asker=f"coordinator {kit.config.coordinator.address}",
        kept_plan_fn=functools.partial(_kept_plan, kit),
        ledger_fn=ledger_fn,
    )


def _kept_plan(kit: InstitutionKit, job: str) -> str | None:
    try:
        return plan_path(kit, job).read_text()
    except (OSError, ValueError):
        return None


__all__ = ["AuditedHandler", "Watched", "watched"]
