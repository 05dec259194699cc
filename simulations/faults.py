"""Clients that fail on purpose, to see what a run makes of it; decided by the simulation's seed.

A client that raises or answers with NaN is a :class:`FaultyInstitution`; what happens to questions
and replies on their way (one is never heard, or comes late, or twice) is up to
:class:`FaultyDelivery`. Nobody really waits: no worker is kept from other clients.
"""

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from flwr.app import Message

from confide.client.app import RequestHandler
from confide.config.simulation import FaultConfig
from confide.privacy.randomness import seed_from
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.tensors import encode


class InjectedError(RuntimeError):
    """What a client raises that was told to."""


@dataclass(frozen=True)
class Faults:
    """Which client fails when.

    Attributes:
        configs: the faults asked for; of several that hit one client in one round, the first
            counts.
        secret: what chance derives from.
        job: the only job that has faults; an institution that trains alone has none.
    """

    configs: Sequence[FaultConfig]
    secret: bytes
    job: str

    def of(self, client: str, server_round: int) -> FaultConfig | None:
        """Return what is to happen to a client's training in a round; None for nothing."""
        for number, config in enumerate(self.configs):
            hit = config.client in (None, client) and (
                not config.rounds or server_round in config.rounds
            )
            if (
                hit
                and random.Random(
                    seed_from(self.secret, "fault", number, client, server_round)
                ).random()
                < config.probability
            ):
                return config
        return None


@dataclass(frozen=True)
class FaultyInstitution:
    """An institution whose training raises, or ends in NaN, as told.

    Attributes:
        inner: the real one.
        faults: which, when.
    """

    inner: RequestHandler
    faults: Faults

    @property
    def name(self) -> str:
        """The institution's name."""
        return self.inner.name

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer, or fail."""
        fault = self.faults.of(self.name, request.server_round) if kind == "train" else None
        if fault is not None and fault.kind == "raises":
            raise InjectedError(f"{self.name} was told to fail in round {request.server_round}.")
        reply = self.inner.handle(kind, request)
        return _with_nan(reply) if fault is not None and fault.kind == "nan" else reply


def _with_nan(reply: Reply) -> Reply:
    if reply.arrays is None:
        return reply
    spoilt = {
        name: torch.full(tuple(array.shape), torch.nan) for name, array in reply.arrays.items()
    }
    return replace(reply, arrays=encode(spoilt))


class FaultyDelivery:
    """What happens to questions and replies on their way.

    Args:
        faults: which, when.
        names: node id -> client.
    """

    def __init__(self, faults: Faults, names: Mapping[int, str]) -> None:
        self._faults = faults
        self._names = names
        self._held: list[tuple[float, Message]] = []

    def forget(self) -> None:
        """Drop what is held back: new questions are asked."""
        self._held.clear()

    def is_heard(self, question: Message) -> bool:
        """Say whether a client hears a question.

        One that hangs does not, and neither trains nor answers.
        """
        return self._kind(question.metadata.dst_node_id, question) != "hangs"

    def is_late(self, question: Message) -> bool:
        """Say whether the answer will be held back."""
        return self._kind(question.metadata.dst_node_id, question) == "late"

    def deliver(self, replies: Iterable[Message]) -> list[Message]:
        """Return what arrives now, of these replies and of those held back before."""
        arrived = [one for reply in replies for one in self._fate(reply)]
        now = time.monotonic()
        arrived += [reply for due, reply in self._held if due <= now]
        self._held = [(due, reply) for due, reply in self._held if due > now]
        return arrived

    def _fate(self, reply: Message) -> list[Message]:
        fault = self._fault(reply.metadata.src_node_id, reply)
        if fault is not None and fault.kind == "late":
            self._held.append((time.monotonic() + fault.delay_s, reply))
            return []
        return [reply, reply] if fault is not None and fault.kind == "twice" else [reply]

    def _kind(self, node: int, message: Message) -> str | None:
        fault = self._fault(node, message)
        return None if fault is None else fault.kind

    def _fault(self, node: int, message: Message) -> FaultConfig | None:
        if message.metadata.message_type != "train":
            return None
        return self._faults.of(self._names[node], int(message.metadata.group_id))


__all__ = ["Faults", "FaultyDelivery", "FaultyInstitution", "InjectedError"]
