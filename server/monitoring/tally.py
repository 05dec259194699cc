"""What a coordinator's audit log adds up to: rounds, bytes, who was in them, where runs stand."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from confide.audit_log.compare import ROUND, RUN
from confide.protocol.refusals import Refusal
from confide.security.chain import Event

RunState = Literal["started", "planned", "begun", "finished", "failed", "ended"]
"""Of a run: its processes were started; its plan is told; it trains; it has its result, none at
all, or was interrupted."""

_STATES: dict[str, RunState] = {
    "planned": "planned",
    "begun": "begun",
    "resumed": "begun",
    "finished": "finished",
    "failed": "failed",
}
_MOST_RUNS = 100
_OTHER = "other"
PHASES = ("enrol", "round", "score")
"""What a run's time goes into: until it is known who takes part, rounds, and scores at its end."""


@dataclass(frozen=True, kw_only=True)
class RunSeen:
    """A run of this coordinator.

    Attributes:
        job: its name.
        state: where it stands.
        rounds: number of rounds of its plan; 0 if unknown.
        server_round: rounds that are done.
        absent: name -> code of those that do not take part.
        failed: why it has no result; '' otherwise.
        begun: time of its first event, in seconds since 1970.
        changed: time of its newest event.
        since: time at which enrolment began, or the newest round ended.
    """

    job: str
    state: RunState
    rounds: int = 0
    server_round: int = 0
    absent: Mapping[str, str] = field(default_factory=dict)
    failed: str = ""
    begun: float
    changed: float
    since: float

    @property
    def is_under_way(self) -> bool:
        """Whether it is not done and was not told to end, even if its processes are down."""
        return self.state in ("started", "planned", "begun")


@dataclass(kw_only=True)
class CoordinatorTally:
    """The fold of a log's events.

    Attributes:
        rounds: rounds that ended.
        seconds: phase -> seconds.
        bytes: up or down -> bytes of updates, or of models.
        accepted: institution -> updates that went in.
        refused: (institution, code) -> times that it was not in a round, or in a run; a code that
            is not known here counts as other.
        last_round: time at which the newest round ended; None before any.
        runs: job -> run, the one with the newest event last.
        newest_refusals: institution -> code and time of its newest one.
        events: number of events.
    """

    rounds: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    bytes: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_round: float | None = None
    runs: dict[str, RunSeen] = field(default_factory=dict)
    newest_refusals: dict[str, tuple[str, float]] = field(default_factory=dict)
    events: int = 0

    def take(self, event: Event) -> None:
        """Take the next event."""
        self.events += 1
        content = event.content
        if event.kind == ROUND:
            self._take_round(event)
        elif event.kind == RUN:
            self._take_state(event)
        elif event.kind == "started" and "job" in content:
            self._change(event, state="started")
        elif event.kind == "ended" and "job" in content:
            known = self.runs.get(str(content["job"]))
            if known is not None and known.is_under_way:
                self._change(event, state="ended")

    def _take_round(self, event: Event) -> None:
        content = event.content
        self.rounds += 1
        self.last_round = event.time
        self.seconds["round"] += content["seconds"]
        for direction in ("up", "down"):
            self.bytes[direction] += int(content[f"bytes_{direction}"])
        self.accepted.update(str(name) for name in content["accepted"])
        self._take_refused(content["refused"], event.time)
        known = {"state": "begun", "server_round": int(content["round"])}
        self._change(event, since=event.time, **known)

    def _take_refused(self, refused: Mapping[str, Any], now: float) -> None:
        for name, told in refused.items():
            # An institution may write anything there; figures may follow a code
            code = Refusal.of(str(told)) or _OTHER
            self.refused[str(name), str(code)] += 1
            self.newest_refusals[str(name)] = (str(code), now)

    def _take_state(self, event: Event) -> None:
        content = event.content
        before, told = self.runs.get(str(content["job"])), str(content["state"])
        known: dict[str, Any] = {"state": _STATES[told]} if told in _STATES else {}
        match told:
            case "planned":
                known |= {"rounds": int(content["rounds"]), "since": event.time}
            case "begun":
                known |= {"absent": dict(content["absent"]), "since": event.time}
                self._take_refused(content["absent"], event.time)
            case "resumed":
                known |= {"since": event.time}
            case "failed":
                known |= {"failed": str(content["failed"])}
        if before is not None:
            phase = {("planned", "begun"): "enrol", ("begun", "finished"): "score"}
            of = phase.get((before.state, told))
            if of is not None:
                self.seconds[of] += event.time - before.since
        self._change(event, **known)

    def _change(self, event: Event, **known: Any) -> None:
        name = str(event.content["job"])
        new = RunSeen(
            job=name, state="started", begun=event.time, changed=event.time, since=event.time
        )
        before = self.runs.pop(name, new)
        self.runs[name] = replace(before, changed=event.time, **known)
        while len(self.runs) > _MOST_RUNS:
            del self.runs[next(iter(self.runs))]


__all__ = ["PHASES", "CoordinatorTally", "RunSeen", "RunState"]
