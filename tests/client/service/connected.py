"""A trainer service and a stub connected to it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from service_child import PLAIN, SOCKET

from confide.client.app import RequestHandler
from confide.client.service import trainer_pb2 as pb
from confide.client.service.chunks import WireLimits
from confide.client.service.server import RunningService, ServiceLimits, serve
from confide.client.service.stub import TrainerServiceClient
from confide.client.training.deadline import Deadline
from confide.protocol.messages import Reply, Request

CANARY = "patient-4711-has-gout"
METHOD = "/confide.trainer.v1.Trainer/"
LIMITS = ServiceLimits(max_upload_s=0.5, wire=WireLimits(max_bytes=10_000, max_tensors=10))
QUESTION = Request(plan=PLAIN.to_json(), server_round=1, splits=[])


class Door:
    """RequestHandler when told to, and remembers the questions."""

    name = "ward"

    def __init__(self, answer: Callable[[], Reply] | None = None) -> None:
        self.asked: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._answer = answer

    def handle(self, kind: str, request: Request) -> Reply:
        self.asked.append(kind)
        self.begun.set()
        if self._answer:
            return self._answer()
        self.go_on.wait(20)
        return Reply(institution=self.name)


class Connected:
    """A service with an honest stub and a raw channel."""

    def __init__(
        self, door: RequestHandler, folder: Path, limits: ServiceLimits | None = None
    ) -> None:
        self.deadline = Deadline()
        self.service: RunningService = serve(
            door, socket=folder / SOCKET, deadline=self.deadline, limits=limits
        )
        self.stub = TrainerServiceClient("ward", folder / SOCKET)
        self.channel = grpc.insecure_channel(
            f"unix:{folder / SOCKET}", [("grpc.max_send_message_length", -1)]
        )

    def raw(
        self, parts: Iterator[Any], method: str = "Train", timeout: float | None = 10.0
    ) -> list[pb.ReplyPart]:
        """Send parts, or bytes, as they are."""
        call = self.channel.stream_stream(
            METHOD + method,
            request_serializer=lambda part: (
                part if isinstance(part, bytes) else part.SerializeToString()
            ),
            response_deserializer=pb.ReplyPart.FromString,
        )
        return list(call(parts, timeout=timeout))

    def __enter__(self) -> "Connected":
        return self

    def __exit__(self, *_: object) -> None:
        self.stub.close()
        self.channel.close()
        self.service.stop(0.2)
