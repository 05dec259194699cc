"""The executor's end: a door that passes every request on to the trainer service."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from confide.client.service import trainer_pb2 as pb
from confide.client.service import trainer_pb2_grpc
from confide.client.service.codec import MESSAGE_BYTES, WireLimits, read_reply, request_parts
from confide.errors import ConfigError, ProtocolError
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal

log = logging.getLogger(__name__)

_MARGIN_S = 10.0
"""Beyond the plan's deadline, for the trainer to say itself that it has passed."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_ASK_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""It restarts, shuts down or is busy. Asking again is safe: a round that was reserved is replayed,
or answered, at no cost."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a trainer service computes.

    Attributes:
        institution: its name.
        job: computed now; None where nothing is.
        what: describe, train or evaluate.
        server_round: of it.
        elapsed_s: since it began.
        jobs: the last ones asked about, oldest first.
    """

    institution: str
    job: str | None = None
    what: str = ""
    server_round: int = 0
    elapsed_s: float = 0.0
    jobs: tuple[str, ...] = ()


class TrainerStub:
    """A door to an institution whose records are in another process.

    Args:
        name: the institution's.
        socket: the service's.
        max_wait_s: longest wait for one answer, whatever a plan says.
        limits: what is taken in of a reply.
        sleep: pauses between two tries.
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
        self._channel = grpc.insecure_channel(
            f"unix:{quote(str(socket.absolute()))}",
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.enable_retries", 0),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._trainer = trainer_pb2_grpc.TrainerStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._calls = {
            "query": self._trainer.Describe,
            "train": self._trainer.Train,
            "evaluate": self._trainer.Evaluate,
        }

    @property
    def name(self) -> str:
        """The institution's name."""
        return self._name

    def handle(self, kind: RequestKind, request: Request) -> Reply:
        """Have one request answered.

        Args:
            kind: query, train or evaluate.
            request: from the coordinator.

        Returns:
            The trainer's answer, or a refusal: ``deadline``, ``trainer_unavailable``, or what is
            wrong with the request. It never raises, and never tells the text of an exception.
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
        """Have what is computed for a job stop; return whether it was computed."""
        try:
            return bool(
                self._trainer.Cancel(pb.CancelRequest(job=job), timeout=timeout_s).cancelled
            )
        except grpc.RpcError as error:
            log.warning("%s: a job could not be cancelled: %s.", self._name, _status(error).name)
            return False

    def status(self, *, timeout_s: float = 5.0) -> Status | None:
        """Ask what is computed; None where nobody answers."""
        try:
            told = self._trainer.Status(pb.StatusRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return None
        running = told.running
        return Status(
            institution=told.institution,
            job=running.job if told.HasField("running") else None,
            what=running.what,
            server_round=running.server_round,
            elapsed_s=running.elapsed_s,
            jobs=tuple(told.jobs),
        )

    def is_serving(self, *, timeout_s: float = 5.0) -> bool:
        """Ask the standard health service; wait for it so long to come up."""
        try:
            told = self._health.Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True
            )
        except grpc.RpcError:
            return False
        return bool(told.status == health_pb2.HealthCheckResponse.SERVING)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _refuse(self, code: str) -> Reply:
        return Reply(institution=self._name, refusal=code)

    def _ask(self, kind: RequestKind, request: Request) -> Reply:
        """Ask until there is an answer, or the time is over."""
        if kind not in self._calls:
            raise ProtocolError(f"Expected query, train or evaluate; got kind={kind!r}.")
        end, pause = time.monotonic() + self._wait_s(request.plan), _FIRST_PAUSE_S
        while True:
            status, reply = self._try(kind, request, end - time.monotonic())
            if reply is not None:
                return reply
            if status is grpc.StatusCode.DEADLINE_EXCEEDED:
                return self._refuse(Refusal.DEADLINE)
            if status not in _ASK_AGAIN or time.monotonic() + pause >= end:
                log.warning(
                    "%s: the trainer service does not answer a %s request: %s.",
                    self._name,
                    kind,
                    status.name,
                )
                return self._refuse(Refusal.TRAINER_UNAVAILABLE)
            log.info(
                "%s: the trainer service is %s; asking again in %.1f s.",
                self._name,
                status.name,
                pause,
            )
            self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _try(
        self, kind: RequestKind, request: Request, timeout_s: float
    ) -> tuple[grpc.StatusCode, Reply | None]:
        call = self._calls[kind](request_parts(request), timeout=max(0.0, timeout_s))
        try:
            return grpc.StatusCode.OK, read_reply(call, self._limits)
        except grpc.RpcError as error:
            return _status(error), None
        except ProtocolError as error:
            log.error(
                "%s: the trainer service answers what may not be passed on: %s", self._name, error
            )
            return grpc.StatusCode.INTERNAL, None
        finally:
            call.cancel()

    def _wait_s(self, text: str) -> float:
        """Return how long to wait; the trainer refuses what is no plan, with its own code."""
        try:
            deadline_s = TrainingPlan.from_json(text).deadline_s
        except ProtocolError:
            deadline_s = 0.0
        return min(deadline_s + _MARGIN_S, self._max_wait_s)


def _status(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN


__all__ = ["Status", "TrainerStub"]
