"""Clients that fail on purpose, as the simulation's seed decides, to try how a run copes with it.

A client that raises or answers with NaN is a :class:`FaultyInstitution`; messages that are lost,
late or delivered twice are up to :class:`FaultyDelivery`. Nothing really waits: workers stay free
for other clients.
"""

import random
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from flwr.app import Message

from confide.client.app import RequestHandler
from confide.config.simulation import FaultConfig
from confide.errors import ConfigError
from confide.privacy.randomness import seed_from
from confide.protocol.messages import Reply, Request, RequestKind, message_type
from confide.protocol.tensors import encode

_TOLD = 20


class InjectedError(RuntimeError):
    """The error of a client that fails on purpose."""


@dataclass(frozen=True)
class Faults:
    """The failures of a run: which client fails when.

    Attributes:
        configs: faults of the config; of several that hit a client in a round, the first counts.
        secret: secret that random draws derive from.
        job: name of the only job with faults; local models are trained without.
    """

    configs: Sequence[FaultConfig]
    secret: bytes
    job: str

    def of(self, client: str, server_round: int) -> FaultConfig | None:
        """Return the fault of a client in a round; None for none."""
        for number, config in enumerate(self.configs):
            if config.client not in (None, client):
                continue
            if config.rounds and server_round not in config.rounds:
                continue
            # A draw of its own for each fault, client and round: a resumed run, or another order of
            # clients, gives the same faults
            draw = random.Random(seed_from(self.secret, "fault", number, client, server_round))
            if draw.random() < config.probability:
                return config
        return None


@dataclass(frozen=True)
class FaultyInstitution:
    """An institution whose training raises, or ends in NaN, on purpose.

    Attributes:
        inner: institution that really trains.
        faults: failures of the run.
    """

    inner: RequestHandler
    faults: Faults

    @property
    def name(self) -> str:
        """Name of the institution."""
        return self.inner.name

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Answer a request, or fail."""
        fault = self.faults.of(self.name, request.server_round) if kind == "train" else None
        if fault is not None and fault.kind == "raises":
            raise InjectedError(f"{self.name} was told to fail in round {request.server_round}.")
        # It trains all the same: what a faulty round costs is charged as for any other
        reply = self.inner.handle(kind, request)
        if fault is None or fault.kind != "nan" or reply.arrays is None:
            return reply
        spoilt = {
            name: torch.full(tuple(array.shape), torch.nan) for name, array in reply.arrays.items()
        }
        return replace(reply, arrays=encode(spoilt))


class FaultyDelivery:
    """Delivery of messages, of which some are lost, late or delivered twice.

    Args:
        faults: failures of the run.
        names: node id -> name of the client.
    """

    def __init__(self, faults: Faults, names: Mapping[int, str]) -> None:
        self._faults = faults
        self._names = names
        self._held: list[tuple[float, Message]] = []

    def forget(self) -> None:
        """Drop the replies that are held back, before new requests are sent."""
        self._held.clear()

    def is_heard(self, question: Message) -> bool:
        """Say whether a client receives a request; one that hangs, or has left, does not."""
        kind = self._kind(question.metadata.dst_node_id, question)
        return kind not in ("hangs", "leaves")

    def is_late(self, question: Message) -> bool:
        """Say whether the reply to a request will be held back."""
        return self._kind(question.metadata.dst_node_id, question) == "late"

    def deliver(self, replies: Iterable[Message]) -> list[Message]:
        """Return the replies that arrive now, of these and of those held back before."""
        arrived = []
        for reply in replies:
            fault = self._fault(reply.metadata.src_node_id, reply)
            # Held with the time that it is due at, not slept for: a worker would be blocked
            if fault is not None and fault.kind == "late":
                self._held.append((time.monotonic() + fault.delay_s, reply))
                continue
            arrived.append(reply)
            if fault is not None and fault.kind == "twice":
                arrived.append(reply)
        now = time.monotonic()
        arrived += [reply for due, reply in self._held if due <= now]
        self._held = [(due, reply) for due, reply in self._held if due > now]
        return arrived

    def _kind(self, node: int, message: Message) -> str | None:
        fault = self._fault(node, message)
        return None if fault is None else fault.kind

    def _fault(self, node: int, message: Message) -> FaultConfig | None:
        opens = message.metadata.message_type == message_type("unmask")
        if not opens and message.metadata.message_type != message_type("train"):
            return None
        fault = self._faults.of(self._names[node], int(message.metadata.group_id))
        # Whoever leaves has trained before, and all others fail when they are asked to train
        is_hit = fault is not None and (fault.kind == "leaves") == opens
        return fault if is_hit else None


def make_faults(
    configs: Sequence[FaultConfig], names: Collection[str], *, secret: bytes, job: str
) -> Faults | None:
    """Return the faults that are asked for; None for none.

    Args:
        configs: of the run.
        names: of all institutions.
        secret: that random draws derive from.
        job: the only one with faults: baselines are compared with what would happen without them.

    Raises:
        ConfigError: if one is meant for nobody.
    """
    meant = {fault.client for fault in configs if fault.client is not None}
    unknown = sorted(name for name in meant if name not in names)
    if unknown:
        told = ", ".join(islice(names, _TOLD)) + (", ..." if len(names) > _TOLD else "")
        raise ConfigError(f"simulation.faults names {', '.join(unknown)}; the clients are {told}.")
    return Faults(tuple(configs), secret, job) if configs else None


def delivery_of(
    faults: Faults | None, job: str, by_node: Mapping[int, str]
) -> FaultyDelivery | None:
    """Return what happens to a job's messages; None where its faults are not meant for it."""
    return FaultyDelivery(faults, by_node) if faults is not None and faults.job == job else None


__all__ = [
    "Faults",
    "FaultyDelivery",
    "FaultyInstitution",
    "InjectedError",
    "delivery_of",
    "make_faults",
]
