"""One event of a log, and the chain of hashes that holds events together. Pure.

Ledgers and audit logs are such chains; what an event's hash covers is fixed for ever.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CLOCK = "clock"
"""Kind of the event from which time goes on after the clock was ahead."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One entry of the log.

    Attributes:
        number: position in the log, from 1.
        time: seconds since 1970; never before the time of the event before it, unless the event
            says that the clock was ahead.
        kind: kind of event, such as ``reserve``; one word.
        content: details of the event, as plain JSON.
        previous: hash of the event before it; empty for the first event.
    """

    number: int
    time: float
    kind: str
    content: Mapping[str, Any]
    previous: str

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over all fields, in hexadecimal."""
        parts = [self.number, self.time, self.kind, self.content, self.previous]
        # Sorted keys and fixed separators: the hash has to come out the same after the content was
        # stored as JSON and parsed again, on any platform.
        return hashlib.sha256(
            json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        ).hexdigest()


def chain_problems(before: Event | None, events: list[Event]) -> Iterator[str]:
    """Yield a sentence for each place where a chain of events breaks.

    Args:
        before: event that the chain continues; None at the beginning of the log.
        events: events of the chain, oldest first.
    """
    for event in events:
        number, digest = (before.number, before.hash) if before else (0, "")
        if event.number != number + 1:
            yield f"Event {number + 1} is missing."
        elif event.previous != digest:
            yield f"Event {event.number} does not follow event {number}."
        elif before and event.time < before.time and event.kind != CLOCK:
            yield f"Event {event.number} is dated before event {number}."
        before = event


__all__ = ["CLOCK", "Event", "chain_problems"]
