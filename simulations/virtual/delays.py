"""When a client's answer comes, and whether it does.

All of it derives from a secret, the client and the number of its question: neither real time nor
the order in which clients are computed can change it.
"""

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from confide.config.delays.delays import DelaysConfig
from confide.config.delays.table import DELAYS
from confide.privacy.randomness import seed_from
from confide.server.rounds.arrivals import Load
from confide.simulations.virtual.presence import Presence
from confide.simulations.virtual.times import DrawFn

_MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Due:
    """What becomes of an answer.

    Attributes:
        at: when it comes, or is not waited for any more, by the virtual clock.
        is_heard: whether it comes.
    """

    at: float
    is_heard: bool


@dataclass(frozen=True)
class _Client:
    """What is drawn once for a client: its time of a unit of work, and seconds a byte each way."""

    seconds: float
    down: float
    up: float


@dataclass(frozen=True)
class Delays:
    """The delays of a run.

    Attributes:
        config: settings.
        secret: secret that random draws derive from.
        presence: when clients are there.
    """

    config: DelaysConfig
    secret: bytes
    _draw_fn: DrawFn = field(init=False)
    presence: Presence = field(init=False)
    _clients: dict[str, _Client] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Read what is in files.

        Raises:
            ConfigError: if a trace cannot be read.
        """
        module, _, name = DELAYS[self.config.kind].builder.rpartition(".")
        builder = cast(
            Callable[[DelaysConfig], DrawFn], getattr(importlib.import_module(module), name)
        )
        object.__setattr__(self, "_draw_fn", builder(self.config))
        object.__setattr__(self, "presence", Presence(self.config.availability, self.secret))

    def due(self, client: str, number: int, asked_at: float, load: Load) -> Due:
        """Return when an answer comes.

        Args:
            client: who answers.
            number: of its question, from 1.
            asked_at: virtual seconds.
            load: what an answer takes.
        """
        config, own = self.config, self._client(client)
        units = load.num_examples[client] if config.work == "record" or load.client else 1
        seconds, source = self._work(client, number, units)
        if load.client is not None and load.client.steps_within_s is not None:
            steps = load.client.steps_in(units, seconds)
            seconds *= steps / load.client.planned_steps(units)
        seconds += own.down * load.bytes_down + own.up * load.bytes_up
        is_lost = source.random() < config.dropout
        at = self.presence.back_at(client, asked_at) + seconds
        if config.deadline_s is None:
            return Due(at=at, is_heard=not is_lost)
        end = asked_at + config.deadline_s
        return Due(at=end if is_lost else min(at, end), is_heard=not is_lost and at <= end)

    def work_s(self, client: str, number: int, units: int) -> float:
        """Return the virtual seconds that a client computes for an answer, with all its steps.

        Args:
            client: who answers.
            number: of its question, from 1.
            units: its number of training units.
        """
        return self._work(client, number, units)[0]

    def _work(self, client: str, number: int, units: int) -> tuple[float, random.Random]:
        """Return these seconds, and what else of the answer is drawn from."""
        config, seconds = self.config, self._client(client).seconds
        source = random.Random(seed_from(self.secret, "answer", client, number))
        # Trace files hold a time for each answer
        if config.per == "answer" or config.kind == "trace":
            seconds = self._draw_fn(client, number, source)
        if config.work == "record":
            seconds *= units
        return seconds * (1.0 + config.jitter * source.uniform(-1.0, 1.0)), source

    def _client(self, client: str) -> _Client:
        known = self._clients.get(client)
        if known is None:
            source = random.Random(seed_from(self.secret, "client", client))
            is_own = self.config.per == "client" and self.config.kind != "trace"
            seconds = self._draw_fn(client, 1, source) if is_own else 0.0
            rates = self.config.bandwidth
            known = self._clients[client] = _Client(
                seconds=seconds,
                down=_seconds_a_byte(rates.down_mb_s, rates.sigma, source),
                up=_seconds_a_byte(rates.up_mb_s, rates.sigma, source),
            )
        return known


@dataclass(frozen=True)
class DelaysSource:
    """What the delays of a run are made of, for other processes.

    Attributes:
        config: settings.
        secret: secret that random draws derive from.
    """

    config: DelaysConfig
    secret: bytes = field(repr=False)

    def open(self) -> Delays:
        """Make them.

        Raises:
            ConfigError: if a trace cannot be read.
        """
        return Delays(self.config, self.secret)


def _seconds_a_byte(median: float | None, sigma: float, source: random.Random) -> float:
    # Drawn in any case, so that one setting does not change what another one draws
    factor = source.lognormvariate(0.0, sigma)
    return 0.0 if median is None else 1.0 / (median * factor * _MB)


__all__ = ["Delays", "DelaysSource", "Due"]
