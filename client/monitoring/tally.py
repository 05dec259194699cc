"""What an institution's audit log adds up to: requests, refusals, and where each job stands."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from confide.audit_log.compare import ANSWERED, REFUSED
from confide.client.deployment.kit_audit import APPROVED, DRIFT_CHECKED, STOPPED
from confide.protocol.refusals import Refusal
from confide.security.chain import Event

DIRECTIONS = ("in", "out")
_MOST_JOBS, _MOST_REFUSALS, _MOST_MODELS = 100, 20, 10

Standing = Literal["seen", "answered", "refused", "waits", "approved", "stopped"]
"""Of a job: its plan was seen; it was answered or refused last; it waits for people's approval, has
it and was not asked again, or was stopped by them."""

_STANDINGS: dict[str, Standing] = {
    "": "answered",
    Refusal.POLICY_APPROVAL: "waits",
    Refusal.STOPPED: "stopped",
}
"""Code of an outcome -> where its job stands; by any other it is refused."""


@dataclass(frozen=True, kw_only=True)
class JobSeen:
    """A job that asked here.

    Attributes:
        job: its name.
        standing: where it stands.
        plan: SHA-256 of its plan; '' if it was none.
        code: code of the refusal, if it was refused last; '' otherwise.
        server_round: number of the newest round that it asked for.
        rounds: number of rounds of its plan; 0 if unknown.
        was_scored: whether scores were asked for last, as after the last round.
        time: time of its newest event, in seconds since 1970.
    """

    job: str
    standing: Standing
    plan: str = ""
    code: str = ""
    server_round: int = 0
    rounds: int = 0
    was_scored: bool = False
    time: float = 0.0

    @property
    def is_unfinished(self) -> bool:
        """Whether it takes part here and will ask again."""
        return (
            self.standing == "answered" and not self.was_scored and self.server_round < self.rounds
        )


@dataclass(frozen=True, kw_only=True)
class RefusalSeen:
    """A refusal that left.

    Attributes:
        job: name of the job; '' if the request had no plan.
        request: kind of the request.
        server_round: number of its round.
        code: code of the refusal.
        time: time of the refusal, in seconds since 1970.
    """

    job: str
    request: str
    server_round: int
    code: str
    time: float


@dataclass(frozen=True, kw_only=True)
class DriftSeen:
    """The newest check for drift of a model.

    Attributes:
        model: SHA-256 of the model.
        is_alarm: whether it raised an alarm; None where too few records told nothing.
        time: of the check, in seconds since 1970.
    """

    model: str
    is_alarm: bool | None
    time: float


@dataclass(kw_only=True)
class InstitutionTally:
    """The fold of a log's events.

    Attributes:
        requests: (kind of request, answered or refused) -> number.
        seconds: kind of request -> seconds that were worked on it.
        bytes: in or out -> bytes of tensors; logs of earlier releases tell of none.
        refusals: code -> number.
        trained: number of requests to train that were answered.
        last_request: time of the newest request; None before any.
        jobs: name -> job, the one with the newest event last.
        newest_refusals: the last refusals, the newest last.
        drift: model -> its newest check for drift, the newest last.
        events: number of events.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    trained: int = 0
    last_request: float | None = None
    jobs: dict[str, JobSeen] = field(default_factory=dict)
    newest_refusals: deque[RefusalSeen] = field(
        default_factory=lambda: deque(maxlen=_MOST_REFUSALS)
    )
    drift: dict[str, DriftSeen] = field(default_factory=dict)
    events: int = 0

    def take(self, event: Event) -> None:
        """Take the next event."""
        self.events += 1
        content = event.content
        match event.kind:
            case str(kind) if kind in (ANSWERED, REFUSED):
                self._take_request(event)
            case "plan_seen":
                plan, rounds = str(content["plan"]), int(content["rounds"])
                self._stand(event, standing="seen", plan=plan, rounds=rounds)
            case str(kind) if kind == APPROVED:
                self._stand(event, standing="approved", plan=str(content["plan"]), code="")
            case str(kind) if kind == STOPPED:
                self._stand(event, standing="stopped")
            case str(kind) if kind == DRIFT_CHECKED:
                self._take_drift(event)

    def _take_request(self, event: Event) -> None:
        content = event.content
        kind, code = str(content["request"]), str(content.get("code", ""))
        self.requests[kind, event.kind] += 1
        self.seconds[kind] += content["seconds"]
        for direction in DIRECTIONS:
            self.bytes[direction] += int(content.get(f"bytes_{direction}", 0))
        self.last_request = event.time
        job, server_round = str(content["job"]), int(content["round"])
        if event.kind == REFUSED:
            self.refusals[code] += 1
            self.newest_refusals.append(
                RefusalSeen(
                    job=job, request=kind, server_round=server_round, code=code, time=event.time
                )
            )
        elif kind == "train":
            self.trained += 1
        if job:
            before = self.jobs.get(job)
            self._stand(
                event,
                standing=_STANDINGS.get(code, "refused"),
                plan=str(content["plan"]),
                code=code,
                server_round=max(server_round, before.server_round if before else 0),
                was_scored=kind == "evaluate",
            )

    def _take_drift(self, event: Event) -> None:
        model = str(event.content["model"])
        verdicts = {"drift": True, "no drift": False}
        self.drift.pop(model, None)
        self.drift[model] = DriftSeen(
            model=model, is_alarm=verdicts.get(str(event.content["verdict"])), time=event.time
        )
        while len(self.drift) > _MOST_MODELS:
            del self.drift[next(iter(self.drift))]

    def _stand(self, event: Event, **known: Any) -> None:
        """Keep what an event says of its job, beside what earlier ones said."""
        name = str(event.content["job"])
        before = self.jobs.pop(name, JobSeen(job=name, standing="seen"))
        self.jobs[name] = replace(before, time=event.time, **known)
        while len(self.jobs) > _MOST_JOBS:
            del self.jobs[next(iter(self.jobs))]


__all__ = ["DIRECTIONS", "DriftSeen", "InstitutionTally", "JobSeen", "RefusalSeen", "Standing"]
