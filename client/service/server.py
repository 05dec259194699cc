"""The trainer service: the door of one institution, for an executor that is not trusted.

Whatever comes in may ask only what plan, policy and ledger allow: requests are checked before they
are kept, one is answered at a time, and everything has an end. Texts of exceptions stay in this
process's log.
"""

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self
from urllib.parse import quote

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from confide.client.app import RequestHandler
from confide.client.service import trainer_pb2 as pb
from confide.client.service import trainer_pb2_grpc
from confide.client.service.codec import MESSAGE_BYTES, WireLimits, read_request, reply_parts
from confide.client.service.unix_socket import bound_privately, remove
from confide.client.training.deadline import Deadline
from confide.errors import ConfigError, ProtocolError
from confide.protocol.messages import Reply, Request, RequestKind
from confide.protocol.plan import TrainingPlan
from confide.protocol.refusals import Refusal

log = logging.getLogger(__name__)

SERVICE = "confide.trainer.v1.Trainer"

_THREADS = 4
_MOST_RPCS = 8
_MOST_JOBS = 32
_LONGEST_JOB = 300
_WAIT_STEP_S = 0.2
_WHAT = {"query": "describe", "train": "train", "evaluate": "evaluate"}


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """What the service grants one request.

    Attributes:
        max_deadline_s: seconds for waiting and computing, whatever plan and caller ask.
        max_upload_s: seconds for sending its tensors.
        wire: how large it may be.
    """

    max_deadline_s: float = 86_400.0
    max_upload_s: float = 300.0
    wire: WireLimits = field(default_factory=WireLimits)

    def __post_init__(self) -> None:
        for name in ("max_deadline_s", "max_upload_s"):
            if not 0 < getattr(self, name) <= threading.TIMEOUT_MAX:
                raise ConfigError(f"{name}={getattr(self, name)}: expected > 0 and finite.")


class _EndedError(Exception):
    """An RPC that ends with a status and no reply; the detail is for the other side."""

    def __init__(self, status: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class TrainerService(trainer_pb2_grpc.TrainerServicer):
    """RequestHandler RPCs at the door.

    Args:
        door: what answers requests.
        deadline: of what is computed; the door's trainer looks at it between steps.
        limits: what one request is granted.
    """

    def __init__(self, door: RequestHandler, *, deadline: Deadline, limits: ServiceLimits) -> None:
        self._door, self._deadline, self._limits = door, deadline, limits
        self._turn = threading.Lock()
        # One thread is always left for health, Status and Cancel.
        self._places = threading.Semaphore(_THREADS - 1)
        self._notes = threading.Lock()
        self._jobs: OrderedDict[str, None] = OrderedDict()
        self._running: tuple[pb.Running, float] | None = None
        self._stopping = False

    def stop(self) -> None:
        """Have what is computed stop at its next step; whoever asked is told to ask again."""
        self._stopping = True
        if (job := self._deadline.job) is not None:
            self._deadline.cancel(job)

    # The names are those of the .proto.

    def Describe(
        self, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Iterator[pb.ReplyPart]:
        """Answer whether a plan would be answered, and what it comes to here."""
        return self._serve("query", parts, context)

    def Train(
        self, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Iterator[pb.ReplyPart]:
        """Answer with an update."""
        return self._serve("train", parts, context)

    def Evaluate(
        self, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Iterator[pb.ReplyPart]:
        """Answer with metrics."""
        return self._serve("evaluate", parts, context)

    def Cancel(self, asked: pb.CancelRequest, context: grpc.ServicerContext) -> pb.CancelReply:  # noqa: N802
        """Stop what is computed for a job."""
        cancelled = self._deadline.cancel(asked.job)
        log.info(
            "%s: asked to cancel a job, which %s.",
            self._door.name,
            "stops" if cancelled else "is not computed now",
        )
        return pb.CancelReply(cancelled=cancelled)

    def Status(self, asked: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusReply:  # noqa: N802
        """Tell what is computed now."""
        with self._notes:
            status = pb.StatusReply(institution=self._door.name, jobs=list(self._jobs))
            if self._running is not None:
                running, began = self._running
                status.running.CopyFrom(running)
                status.running.elapsed_s = time.monotonic() - began
        return status

    def _serve(
        self, kind: RequestKind, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Iterator[pb.ReplyPart]:
        """Answer one RPC; gRPC would send the text of whatever is raised here to the other side."""
        try:
            with self._place():
                reply = self._reply(kind, parts, context)
            answer = reply_parts(reply)
        except _EndedError as error:
            _abort(context, error.status, error.detail)
        except grpc.RpcError:  # the other side has gone, or took too long
            _abort(context, grpc.StatusCode.CANCELLED, "the request did not come to its end")
        except Exception:
            log.exception("%s failed to serve a %s request.", self._door.name, kind)
            _abort(context, grpc.StatusCode.INTERNAL, "internal error")
        yield from answer

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._stopping or not self._places.acquire(blocking=False):
            raise _EndedError(grpc.StatusCode.UNAVAILABLE, "busy; ask again")
        try:
            yield
        finally:
            self._places.release()

    def _reply(
        self, kind: RequestKind, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Reply:
        granted = self._limits.max_deadline_s
        remaining = context.time_remaining()
        end = time.monotonic() + (granted if remaining is None else min(granted, remaining))
        with self._my_turn(end, context):
            try:
                request = self._read(parts, end, context)
            except ProtocolError as error:
                log.warning("%s declines a %s request: %s", self._door.name, kind, error)
                return Reply(institution=self._door.name, refusal=error.code)
            reply = self._answer(kind, request, end)
        if self._stopping and reply.refusal == Refusal.CANCELLED:
            raise _EndedError(grpc.StatusCode.UNAVAILABLE, "shutting down; ask again")
        return reply

    @contextlib.contextmanager
    def _my_turn(self, end: float, context: grpc.ServicerContext) -> Iterator[None]:
        """Wait until nothing else is computed, no longer than the caller does."""
        while not self._turn.acquire(timeout=max(0.0, min(_WAIT_STEP_S, end - time.monotonic()))):
            if time.monotonic() >= end or not context.is_active():
                raise _EndedError(
                    grpc.StatusCode.DEADLINE_EXCEEDED, "another request was answered all the while"
                )
            if self._stopping:
                raise _EndedError(grpc.StatusCode.UNAVAILABLE, "shutting down; ask again")
        try:
            yield
        finally:
            self._turn.release()

    def _read(
        self, parts: Iterator[pb.RequestPart], end: float, context: grpc.ServicerContext
    ) -> Request:
        """Read the request, so that no more than one is ever held, and a sender that stalls is cut off."""
        timer = threading.Timer(
            max(0.0, min(self._limits.max_upload_s, end - time.monotonic())), context.cancel
        )
        timer.daemon = True
        timer.start()
        try:
            return read_request(parts, self._limits.wire)
        finally:
            timer.cancel()

    def _answer(self, kind: RequestKind, request: Request, end: float) -> Reply:
        job, seconds = "", end - time.monotonic()
        with contextlib.suppress(
            ProtocolError
        ):  # the door refuses what is no plan, with its own code
            plan = TrainingPlan.from_json(request.plan)
            job, seconds = plan.job, min(seconds, plan.deadline_s)
        self._deadline.start(seconds, job)
        if self._stopping:  # it may have begun after all were told to stop
            self._deadline.cancel(job)
        self._note(kind, job, request.server_round)
        started = time.monotonic()
        try:
            return self._door.handle(kind, request)
        except Exception:
            log.exception("%s failed to answer a %s request.", self._door.name, kind)
            return Reply(institution=self._door.name, refusal=Refusal.INTERNAL_ERROR)
        finally:
            log.info(
                "%s, job %s, round %d took %.2f s.",
                _WHAT[kind],
                job,
                request.server_round,
                time.monotonic() - started,
            )
            self._deadline.finish()
            with self._notes:
                self._running = None

    def _note(self, kind: RequestKind, job: str, server_round: int) -> None:
        with self._notes:
            running = pb.Running(
                job=job, what=_WHAT[kind], server_round=server_round, since=time.time()
            )
            self._running = (running, time.monotonic())
            if job:
                self._jobs[job] = None
                self._jobs.move_to_end(job)
                if len(self._jobs) > _MOST_JOBS:
                    self._jobs.popitem(last=False)


def _abort(context: grpc.ServicerContext, status: grpc.StatusCode, detail: str) -> NoReturn:
    context.abort(status, detail)
    raise AssertionError("unreachable: abort raises")


class RunningService:
    """A service that listens until it is stopped; a context manager."""

    def __init__(
        self,
        server: grpc.Server,
        service: TrainerService,
        status: health.HealthServicer,
        socket: Path,
    ) -> None:
        self._server, self._service, self._status, self._socket = server, service, status, socket

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is stopped; return whether the time ran out."""
        return bool(self._server.wait_for_termination(timeout_s))

    def stop(self, grace_s: float = 1.5) -> None:
        """Refuse new requests, have the running one stop at its next step, and give it ``grace_s`` seconds for that."""
        self._status.enter_graceful_shutdown()
        self._service.stop()
        self._server.stop(grace_s).wait(grace_s + 0.5)
        remove(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def serve(
    door: RequestHandler,
    *,
    socket: Path,
    deadline: Deadline,
    limits: ServiceLimits | None = None,
    mode: int = 0o600,
    group: str | None = None,
) -> RunningService:
    """Begin to listen.

    Args:
        door: what answers requests.
        socket: path of the socket, in a folder that only its owner may write to.
        deadline: the one that the door's trainer looks at.
        limits: what one request is granted.
        mode: permissions of the socket; whoever may write to it may ask.
        group: that the socket belongs to; None for this process's own.

    Returns:
        The service; stop it, or leave its context.

    Raises:
        ConfigError: if the folder is unfit, the path is taken, or another service listens there.
    """
    pool = futures.ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="trainer")
    server = grpc.server(
        pool,
        maximum_concurrent_rpcs=_MOST_RPCS,
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ],
    )
    service, status = (
        TrainerService(door, deadline=deadline, limits=limits or ServiceLimits()),
        health.HealthServicer(),
    )
    trainer_pb2_grpc.add_TrainerServicer_to_server(service, server)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    path = _listen(server, socket, mode=mode, group=group)
    for name in ("", SERVICE):
        status.set(name, health_pb2.HealthCheckResponse.SERVING)
    log.info("%s listens on %s.", door.name, path)
    return RunningService(server, service, status, path)


def _listen(server: grpc.Server, socket: Path, *, mode: int, group: str | None) -> Path:
    try:
        with bound_privately(socket, mode=mode, group=group) as path:
            server.add_insecure_port(f"unix:{quote(str(path))}")
    except RuntimeError:  # gRPC says why on standard error
        server.stop(None)
        raise ConfigError(
            f"socket={socket}: expected a path that a socket can be bound to; choose another"
            " folder."
        ) from None
    except ConfigError:
        server.stop(None)
        raise
    server.start()
    return path


__all__ = ["SERVICE", "RunningService", "ServiceLimits", "TrainerService", "serve"]
