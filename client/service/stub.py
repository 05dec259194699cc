"""The executor's client of the trainer service, which retries while the service restarts."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from confide.client.service import trainer_pb2 as pb
from confide.client.service import trainer_pb2_grpc
from confide.client.service.chunks import WireLimits
from confide.client.service.codec import MESSAGE_BYTES, read_reply, request_parts
from confide.errors import ConfigError, ProtocolError
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal

log = logging.getLogger(__name__)

_MARGIN_S = 10.0
"""Wait beyond the plan's deadline, so that the trainer itself can answer that it has passed."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_ASK_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""Statuses of a service that restarts, shuts down or is busy. Asking again is safe: a round that
was reserved is replayed or answered at no cost."""

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # gRPC would try to connect again only after a second and more, up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Retries are made in `_ask`, which knows what may be asked again.
    ("grpc.enable_retries", 0),
    # The environment's proxy is for the network.
    ("grpc.enable_http_proxy", 0),
]


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a trainer service is doing.

    Attributes:
        institution: name of the institution.
        job: job that is running; None if nothing is.
        what: activity: describe, train, evaluate or unmask.
        server_round: round of the activity.
        elapsed_s: time since it began, in seconds.
        jobs: last jobs, oldest first.
    """

    institution: str
    job: str | None = None
    what: str = ""
    server_round: int = 0
    elapsed_s: float = 0.0
    jobs: tuple[str, ...] = ()


class TrainerServiceClient:
    """Request handler of an institution whose trainer is in another process.

    Args:
        name: name of the institution.
        socket: socket of the service.
        max_wait_s: longest wait for one answer, in seconds, whatever a plan says.
        limits: limits of a reply's size.
        sleep: function that pauses between two tries.
    """

    def __init__(
        self,
        name: str,
        socket: Path,
        *,
        max_wait_s: float = 86_400.0,
        limits: WireLimits | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 0 < max_wait_s < float("inf"):
            raise ConfigError(f"max_wait_s={max_wait_s}: expected > 0 and finite.")
        self._name = name
        self._max_wait_s = max_wait_s
        self._limits = limits or WireLimits()
        self._sleep = sleep
        # Quoted, because gRPC reads the path as part of a URI.
        address = f"unix:{quote(str(socket.absolute()))}"
        self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._trainer = trainer_pb2_grpc.TrainerStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._calls = {
            "query": self._trainer.Describe,
            "train": self._trainer.Train,
            "evaluate": self._trainer.Evaluate,
            "unmask": self._trainer.Unmask,
        }

    @property
    def name(self) -> str:
        """Name of the institution."""
        return self._name

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Have the trainer answer one request; errors become refusals, without their text.

        Args:
            kind: query, train, evaluate or unmask.
            request: request from the coordinator.

        Returns:
            The trainer's reply, or a refusal: ``deadline``, ``trainer_unavailable``, or the code of
            what is wrong with the request.
        """
        try:
            return self._ask(kind, request)
        except ProtocolError as error:
            log.warning("%s: a %s request is not passed on: %s", self._name, kind, error)
            return self._refuse(error.code)
        except Exception:
            log.exception("%s failed to pass a %s request on.", self._name, kind)
            return self._refuse(Refusal.TRAINER_UNAVAILABLE)

    def cancel(self, job: str, *, timeout_s: float = 5.0) -> bool:
        """Stop the computation for a job, and return whether there was one."""
        try:
            return bool(
                self._trainer.Cancel(pb.CancelRequest(job=job), timeout=timeout_s).cancelled
            )
        except grpc.RpcError as error:
            log.warning("%s: a job could not be cancelled: %s.", self._name, _status(error).name)
            return False

    def status(self, *, timeout_s: float = 5.0) -> Status | None:
        """Return what the service is doing; None if it does not answer."""
        try:
            answer = self._trainer.Status(pb.StatusRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return None
        running = answer.running
        return Status(
            institution=answer.institution,
            job=running.job if answer.HasField("running") else None,
            what=running.what,
            server_round=running.server_round,
            elapsed_s=running.elapsed_s,
            jobs=tuple(answer.jobs),
        )

    def is_serving(self, *, timeout_s: float = 5.0) -> bool:
        """Return whether the service is up, or comes up within ``timeout_s``."""
        try:
            answer = self._health.Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True
            )
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _refuse(self, code: str) -> Reply:
        return Reply(institution=self._name, refusal=code)

    def _ask(self, kind: RequestKind, request: Request) -> Reply:
        """Ask until there is an answer or the time is over."""
        if kind not in self._calls:
            raise ProtocolError(f"Expected query, train, evaluate or unmask; got kind={kind!r}.")
        try:
            deadline_s = TrainingPlan.from_json(request.plan).deadline_s
        except ProtocolError:
            # Passed on all the same: the trainer refuses it, with its own code.
            deadline_s = 0.0
        end = time.monotonic() + min(deadline_s + _MARGIN_S, self._max_wait_s)
        pause = _FIRST_PAUSE_S
        while True:
            status, reply = self._try(kind, request, end - time.monotonic())
            if reply is not None:
                return reply
            if status is grpc.StatusCode.DEADLINE_EXCEEDED:
                return self._refuse(Refusal.DEADLINE)
            if status not in _ASK_AGAIN or time.monotonic() + pause >= end:
                failed = "%s: the trainer service does not answer a %s request: %s."
                log.warning(failed, self._name, kind, status.name)
                return self._refuse(Refusal.TRAINER_UNAVAILABLE)
            again = "%s: the trainer service is %s; asking again in %.1f s."
            log.info(again, self._name, status.name, pause)
            self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _try(
        self, kind: RequestKind, request: Request, timeout_s: float
    ) -> tuple[grpc.StatusCode, Reply | None]:
        """Ask once."""
        call = self._calls[kind](request_parts(request), timeout=max(0.0, timeout_s))
        try:
            return grpc.StatusCode.OK, read_reply(call, self._limits)
        except grpc.RpcError as error:
            return _status(error), None
        except ProtocolError as error:
            log.error("%s: the trainer service's answer cannot be passed on: %s", self._name, error)
            return grpc.StatusCode.INTERNAL, None
        # A call whose reply was not read to its end would keep its stream open.
        finally:
            call.cancel()


def _status(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN


__all__ = ["Status", "TrainerServiceClient"]
