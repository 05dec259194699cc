"""Clients that fail on purpose, to see what a run makes of it; decided by the simulation's seed.

What happens at an institution (it raises, hangs, answers late or with NaN) is done by :class:`FaultyInstitution`; what
happens on the way (an answer that arrives twice) and, in an engine that has only one process, waiting, by
:class:`FaultyDelivery`.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from flwr.app import Message

from confide.client.app import Answers
from confide.config import FaultConfig
from confide.exchange import Reply, Request
from confide.privacy.randomness import seed_from
from confide.records import encode

_FOR_EVER_S = 1e9


class InjectedError(RuntimeError):
    """What a client raises that was told to."""


@dataclass(frozen=True)
class Faults:
    """Which client fails when.

    Attributes:
        configs: the faults asked for; of several that hit one client in one round, the first counts.
        secret: what chance derives from.
    """

    configs: Sequence[FaultConfig]
    secret: bytes

    def of(self, client: str, server_round: int) -> FaultConfig | None:
        """Return what is to happen to a client's training in a round; None for nothing."""
        for number, config in enumerate(self.configs):
            hit = config.client in (None, client) and (not config.rounds or server_round in config.rounds)
            if (
                hit
                and random.Random(seed_from(self.secret, "fault", number, client, server_round)).random() < config.probability
            ):
                return config
        return None


@dataclass(frozen=True)
class FaultyInstitution:
    """An institution whose training fails as told.

    Attributes:
        inner: the real one.
        faults: which, when.
        wait_fn: how it hangs or is late, in seconds; does nothing where :class:`FaultyDelivery` waits.
    """

    inner: Answers
    faults: Faults
    wait_fn: Callable[[float], None] = time.sleep

    @property
    def name(self) -> str:
        """The institution's name."""
        return self.inner.name

    def handle(self, kind: str, request: Request) -> Reply:
        """Answer, or fail."""
        fault = self.faults.of(self.name, request.server_round) if kind == "train" else None
        if fault is None:
            return self.inner.handle(kind, request)
        if fault.kind == "raises":
            raise InjectedError(f"{self.name} was told to fail in round {request.server_round}.")
        if fault.kind == "hangs":
            self.wait_fn(_FOR_EVER_S)
        reply = self.inner.handle(kind, request)
        if fault.kind == "late":
            self.wait_fn(fault.delay_s)
        return _with_nan(reply) if fault.kind == "nan" else reply


def _with_nan(reply: Reply) -> Reply:
    if reply.arrays is None:
        return reply
    spoilt = {name: torch.full(tuple(array.shape), torch.nan) for name, array in reply.arrays.items()}
    return replace(reply, arrays=encode(spoilt))


class FaultyDelivery:
    """What happens to replies on their way: they arrive twice, and, where it ``waits``, late or never.

    Args:
        faults: which, when.
        names: node id -> client.
        waits: whether replies are held back here; False where a worker process waits itself.
    """

    def __init__(self, faults: Faults, names: Mapping[int, str], *, waits: bool) -> None:
        self._faults = faults
        self._names = names
        self._waits = waits
        self._held: list[tuple[float, Message]] = []

    def forget(self) -> None:
        """Drop what is held back: new questions are asked."""
        self._held.clear()

    def deliver(self, replies: Iterable[Message]) -> list[Message]:
        """Return what arrives now, of these replies and of those held back before."""
        arrived = [one for reply in replies for one in self._fate(reply)]
        now = time.monotonic()
        arrived += [reply for due, reply in self._held if due <= now]
        self._held = [(due, reply) for due, reply in self._held if due > now]
        return arrived

    def _fate(self, reply: Message) -> list[Message]:
        meta = reply.metadata
        is_training = meta.message_type == "train"
        fault = self._faults.of(self._names[meta.src_node_id], int(meta.group_id)) if is_training else None
        if fault is not None and self._waits and fault.kind in ("hangs", "late"):
            delay = fault.delay_s if fault.kind == "late" else _FOR_EVER_S
            self._held.append((time.monotonic() + delay, reply))
            return []
        return [reply, reply] if fault is not None and fault.kind == "twice" else [reply]


__all__ = ["Faults", "FaultyDelivery", "FaultyInstitution", "InjectedError"]
