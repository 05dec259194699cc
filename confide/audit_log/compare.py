"""Holds an audit log against what others have: its institution's ledger, and the other side's log.

Whoever can write a log and sign it can cut off its end. Three records of a round would then have to
be changed alike: the institution's log, its ledger, whose heads the coordinator countersigns, and
the coordinator's log, on another machine.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confide.audit_log.log import BEGUN
from confide.errors import UnreadableError
from confide.protocol.refusals import Refusal
from confide.security.chain import Event

ANSWERED, REFUSED = "answered", "refused"
"""Kinds of an institution's events about requests."""
RUN, ENROLLED, ROUND = "run", "enrolled", "round"
"""Kinds of the coordinator's events about a run, who takes part in it, and its rounds."""
_WORK = frozenset({"reserve", "settle", "score", "mask", "unmask"})
"""Kinds of events of a ledger that a trainer writes, which its audit log knows of; other commands
write the others."""
_INSTITUTIONS = ("policy_", "budget_", "plan_")
_INSTITUTIONS_OWN = frozenset(
    {
        Refusal.BACKBONE_NOT_HERE,
        Refusal.LEDGER,
        Refusal.NO_BUDGET,
        Refusal.ROUNDS_SPENT,
        Refusal.STOPPED,
        Refusal.SUM_REQUIRED,
        Refusal.TASK_NOT_SERVED,
        Refusal.UNDECLARED_POPULATION,
    }
)
"""Codes that an institution alone gives; others may be the coordinator's words for what came."""


@dataclass(kw_only=True)
class Told:
    """What a log tells that others have too; filled event by event.

    Attributes:
        side: institution, coordinator or authority.
        name: of the institution or the federation.
        ledger: number -> hash of each event of a ledger that the log names.
        answers: (job, round) -> outcomes of requests to train: answered, or the code of a refusal.
        refusals: job -> codes of all refusals of the institution.
        rounds: (job, round) -> name -> accepted, or the code of a refusal, by the coordinator.
        absent: job -> name -> why it did not take part, by the coordinator.
        enrolled: job -> names of those who took part, by the coordinator.
    """

    side: str = ""
    name: str = ""
    ledger: dict[int, str] = field(default_factory=dict)
    answers: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    refusals: dict[str, set[str]] = field(default_factory=dict)
    rounds: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)
    absent: dict[str, dict[str, str]] = field(default_factory=dict)
    enrolled: dict[str, set[str]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Take what an event tells.

        Raises:
            UnreadableError: if it does not say what events of its kind say.
        """
        try:
            self._take(event)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise UnreadableError(
                f"Event {event.number} does not say what an event {event.kind} of this release"
                " says; read the log with the release that wrote it."
            ) from None

    def _take(self, event: Event) -> None:
        content = event.content
        # A log is of one side: a later event of this kind names no other
        if event.kind == BEGUN and event.number == 1:
            self.side, self.name = _text(content["side"]), _text(content["name"])
        if isinstance(content.get("ledger"), Mapping):
            self.ledger[_number(content["ledger"]["number"])] = _text(content["ledger"]["hash"])
        if event.kind in (ANSWERED, REFUSED) and content["request"] == "train":
            place = _text(content["job"]), _number(content["round"])
            self.answers.setdefault(place, set()).add(_text(content.get("code", ANSWERED)))
        if event.kind == REFUSED:
            self.refusals.setdefault(_text(content["job"]), set()).add(_text(content["code"]))
        if event.kind == RUN and content.get("state") == "begun":
            self.absent.setdefault(_text(content["job"]), {}).update(_codes(content["absent"]))
        # Where clients are not asked in rounds, each counts its own questions
        if event.kind == ROUND and not content.get("by_arrival"):
            accepted = dict.fromkeys(map(_text, content["accepted"]), ANSWERED)
            place = _text(content["job"]), _number(content["round"])
            self.rounds[place] = accepted | _codes(content["refused"])
        if event.kind == ENROLLED:
            self.enrolled.setdefault(_text(content["job"]), set()).add(
                _text(content["institution"])
            )


def ledger_problems(told: Told, events: Sequence[Event]) -> Iterator[str]:
    """Yield a sentence for each place where a log and a ledger do not agree.

    Args:
        told: by the log.
        events: of the ledger, all of them, oldest first.
    """
    if not told.ledger:
        if any(event.kind in _WORK for event in events):
            yield "The log names no event of the ledger, and the ledger counts rounds."
        return
    for number, digest in told.ledger.items():
        if not 1 <= number <= len(events):
            yield (
                f"The log names event {number} of the ledger, which ends with {len(events)}:"
                " this is an older copy of the ledger, or another one."
            )
            return
        if events[number - 1].hash != digest:
            yield f"The log names event {number} of the ledger by another hash than it has."
            return
    known = max(told.ledger)
    later = [event for event in events[known:] if event.kind in _WORK]
    if later:
        yield (
            f"The log knows the ledger up to event {known}, and event {later[-1].number} is work of"
            " the trainer: the end of the log was cut off, or the trainer was killed and has not"
            " been started since."
        )


def side_problems(institution: Told, coordinator: Told) -> Iterator[str]:
    """Yield a sentence for each round that the two sides' logs do not tell alike.

    Args:
        institution: told by an institution's log.
        coordinator: told by the coordinator's.
    """
    for (job, number), outcomes in coordinator.rounds.items():
        outcome = outcomes.get(institution.name, "").partition(":")[0]
        own = institution.answers.get((job, number), set())
        if outcome == ANSWERED and ANSWERED not in own:
            yield (
                f"Job {job}, round {number}: the coordinator accepted an update of"
                f" {institution.name}, and the institution's log knows of none."
            )
        elif _is_institutions(outcome) and outcome not in own:
            yield (
                f"Job {job}, round {number}: the coordinator was told {outcome} by"
                f" {institution.name}, and the institution's log does not say so."
            )
    for job, absent in coordinator.absent.items():
        code = absent.get(institution.name, "").partition(":")[0]
        if _is_institutions(code) and code not in institution.refusals.get(job, set()):
            yield (
                f"Job {job}: the coordinator was told {code} by {institution.name} before the first"
                " round, and the institution's log does not say so."
            )
    yield from _missing_rounds(institution, coordinator)
    yield from _another_name(institution, coordinator)


def _another_name(institution: Told, coordinator: Told) -> Iterator[str]:
    """Yield a sentence for each job that the log answered under a name that nobody had there."""
    # By job, since a coordinator's log of an earlier time may be archived
    for job in sorted({job for (job, _), own in institution.answers.items() if ANSWERED in own}):
        known = coordinator.enrolled.get(job)
        if known and institution.name not in known:
            yield (
                f"Job {job}: the log is {institution.name}'s and says that it trained, and the"
                f" coordinator knows {', '.join(sorted(known))}: one of them names another side."
            )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _codes(told: Any) -> dict[str, str]:
    return {_text(name): _text(code) for name, code in dict(told).items()}


def _missing_rounds(institution: Told, coordinator: Told) -> Iterator[str]:
    """Yield a sentence for each job whose later rounds the coordinator's log does not have."""
    last: dict[str, int] = {}
    for job, number in coordinator.rounds:
        last[job] = max(number, last.get(job, 0))
    for job in sorted(last):
        answered = [
            number
            for (its, number), outcomes in institution.answers.items()
            if its == job and ANSWERED in outcomes
        ]
        # One round may be under way, or have been cut off with the coordinator
        if answered and max(answered) > last[job] + 1:
            yield (
                f"Job {job}: the institution answered in round {max(answered)}, and the"
                f" coordinator's log ends with round {last[job]}."
            )


def _is_institutions(code: str) -> bool:
    return code.startswith(_INSTITUTIONS) or code in _INSTITUTIONS_OWN


def ledger_reference(events: Sequence[Event], known: int) -> dict[str, Any] | None:
    """Return how an event of a log names the newest event of a ledger; None for an empty one.

    Args:
        events: of the ledger, oldest first.
        known: number of them that the log has named before.
    """
    if not events:
        return None
    newest = events[-1]
    return {
        "number": newest.number,
        "hash": newest.hash,
        "new": [event.kind for event in events[known:]],
    }


__all__ = [
    "ANSWERED",
    "REFUSED",
    "ROUND",
    "Told",
    "ledger_problems",
    "ledger_reference",
    "side_problems",
]
