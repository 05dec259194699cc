"""When clients are there."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confide.config.delays.delays import AvailabilityConfig
from confide.errors import RunFailedError
from confide.privacy.randomness import seed_from
from confide.server.rounds.clock import enough
from confide.simulations.virtual.clock import VirtualClock
from confide.simulations.virtual.traces import windows

_MOST_LOOKS = 1000
"""Times at which so many clients are looked for, before nobody waits any longer."""


@dataclass
class _Turns:
    """A client's turns of being there and away, drawn one after the other."""

    source: random.Random
    on_s: float
    off_s: float
    start: float
    end: float
    left: float = -math.inf

    def advance(self) -> None:
        """Go to the next time that it is there."""
        self.left = self.end
        self.start = self.end + self.source.expovariate(1.0 / self.off_s)
        self.end = self.start + self.source.expovariate(1.0 / self.on_s)


class Presence:
    """When clients are there.

    Args:
        config: settings.
        secret: secret that random draws derive from.

    Raises:
        ConfigError: if a trace cannot be read.
    """

    def __init__(self, config: AvailabilityConfig, secret: bytes) -> None:
        self._config = config
        self._secret = secret
        self._windows: Mapping[str, Sequence[tuple[float, float]]] = (
            windows(config.trace) if config.trace is not None else {}
        )
        self._turns: dict[str, _Turns] = {}

    def back_at(self, client: str, at: float) -> float:
        """Return the first time from ``at`` on at which a client is there.

        Args:
            client: its name.
            at: virtual seconds.
        """
        spans = self._windows.get(client)
        if spans:
            return _back_in(spans, at)
        if self._config.on_s is None or self._config.off_s is None:
            return at
        turns = self._turns.get(client)
        # Times are asked for in any order where answers are: a later turn forgets earlier ones
        if turns is None or at < turns.left:
            turns = self._turns[client] = self._first(client, self._config.on_s, self._config.off_s)
        while at >= turns.end:
            turns.advance()
        return max(at, turns.start)

    def _first(self, client: str, on_s: float, off_s: float) -> _Turns:
        source = random.Random(seed_from(self._secret, "presence", client))
        # Somewhere in its life: away with the share of time that it is away
        is_there = source.random() < on_s / (on_s + off_s)
        start = 0.0 if is_there else source.expovariate(1.0 / off_s)
        end = start + source.expovariate(1.0 / on_s)
        return _Turns(source=source, on_s=on_s, off_s=off_s, start=start, end=end)


@dataclass(frozen=True, kw_only=True)
class VirtualPresence:
    """Who is there by a virtual clock; :class:`~confide.server.rounds.clock.Presence`.

    Attributes:
        clock: the run's.
        presence: when clients are there.
    """

    clock: VirtualClock
    presence: Presence

    def is_there(self, client: str) -> bool:
        """Tell whether a client is there now."""
        return self.presence.back_at(client, self.clock.now()) <= self.clock.now()

    def wait(self, clients: Sequence[str], least: int) -> None:
        """Set the clock to a time at which ``least`` of ``clients`` are there together.

        Raises:
            RunFailedError: if there is none among those that are looked at.
        """
        if enough(self, clients, least):
            return
        began, least = self.clock.now(), min(least, len(clients))
        for _ in range(_MOST_LOOKS):
            now = self.clock.now()
            back = sorted(self.presence.back_at(client, now) for client in clients)
            if back[least - 1] <= now:
                return
            # Before that so many cannot be there; by then some may have left again
            self.clock.advance_to(back[least - 1])
        raise RunFailedError(
            f"From virtual second {began:g} to {self.clock.now():g} there were never"
            f" server.min_clients={least} clients at a time; lower it, or change"
            " simulation.delays.availability."
        )


def _back_in(spans: Sequence[tuple[float, float]], at: float) -> float:
    """Return the first time from ``at`` on in windows that repeat."""
    period = spans[-1][1]
    turns, place = divmod(at, period)
    for start, end in spans:
        if place < end:
            return max(at, turns * period + start)
    return (turns + 1) * period + spans[0][0]


__all__ = ["Presence", "VirtualPresence"]
