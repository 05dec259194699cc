"""The trainer service: answers requests to one institution from an executor that is not trusted.

A request can ask only for what plan, policy and ledger allow. Requests are checked before they are
kept, one is answered at a time, and everything has a time limit. Texts of exceptions stay in this
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
from typing import NoReturn, Self
from urllib.parse import quote

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from confide.client.app import RequestHandler
from confide.client.service import trainer_pb2 as pb
from confide.client.service import trainer_pb2_grpc
from confide.client.service.chunks import WireLimits
from confide.client.service.codec import MESSAGE_BYTES, read_request, reply_parts
from confide.client.training.deadline import Deadline
from confide.deployment.unix_socket import bound_privately, remove
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
_SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # Otherwise two services could listen on one address, and each get some requests.
    ("grpc.so_reuseport", 0),
]
_ACTIVITIES: dict[RequestKind, str] = {
    "query": "describe",
    "train": "train",
    "evaluate": "evaluate",
    "unmask": "unmask",
}


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """Limits of one request.

    Attributes:
        max_deadline_s: longest time to wait and compute, in seconds, whatever plan and caller ask.
        max_upload_s: longest time to receive its tensors, in seconds.
        wire: limits of its size.
    """

    max_deadline_s: float = 86_400.0
    max_upload_s: float = 300.0
    wire: WireLimits = field(default_factory=WireLimits)

    def __post_init__(self) -> None:
        for name in ("max_deadline_s", "max_upload_s"):
            if not 0 < getattr(self, name) <= threading.TIMEOUT_MAX:
                raise ConfigError(f"{name}={getattr(self, name)}: expected > 0 and finite.")


class _EndedError(Exception):
    """An RPC that ends with a status and no reply; its detail is sent to the caller."""

    def __init__(self, status: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class TrainerService(trainer_pb2_grpc.TrainerServicer):
    """The service's RPCs.

    Args:
        handler: handler of an institution.
        deadline: deadline that the handler's trainer checks between steps.
        limits: limits of one request.
    """

    def __init__(
        self, handler: RequestHandler, *, deadline: Deadline, limits: ServiceLimits
    ) -> None:
        self._handler, self._deadline, self._limits = handler, deadline, limits
        self._turn = threading.Lock()
        # Each RPC occupies a thread while it runs; one stays free for health, Status and Cancel.
        self._places = threading.Semaphore(_THREADS - 1)
        self._notes = threading.Lock()
        self._jobs: OrderedDict[str, None] = OrderedDict()
        self._running: tuple[pb.Running, float] | None = None
        self._stopping = False

    def stop(self) -> None:
        """Make the running computation stop at its next step; its caller is to ask again."""
        self._stopping = True
        if (job := self._deadline.job) is not None:
            self._deadline.cancel(job)

    # The names are those of the .proto.

    def Describe(  # noqa: N802
        self, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Iterator[pb.ReplyPart]:
        """Answer whether this institution would take part in a plan, and with how many records."""
        return self._serve("query", parts, context)

    def Train(  # noqa: N802
        self, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Iterator[pb.ReplyPart]:
        """Answer with an update."""
        return self._serve("train", parts, context)

    def Evaluate(  # noqa: N802
        self, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Iterator[pb.ReplyPart]:
        """Answer with metrics."""
        return self._serve("evaluate", parts, context)

    def Unmask(  # noqa: N802
        self, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Iterator[pb.ReplyPart]:
        """Answer with shares that open a masked sum."""
        return self._serve("unmask", parts, context)

    def Cancel(self, asked: pb.CancelRequest, context: grpc.ServicerContext) -> pb.CancelReply:  # noqa: N802
        """Stop the computation for a job."""
        cancelled = self._deadline.cancel(asked.job)
        log.info(
            "%s: request to cancel a job, which %s.",
            self._handler.name,
            "will stop" if cancelled else "is not running now",
        )
        return pb.CancelReply(cancelled=cancelled)

    def Status(self, asked: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusReply:  # noqa: N802
        """Answer what is running now."""
        with self._notes:
            status = pb.StatusReply(institution=self._handler.name, jobs=list(self._jobs))
            if self._running is not None:
                running, began = self._running
                status.running.CopyFrom(running)
                status.running.elapsed_s = time.monotonic() - began
        return status

    def _serve(
        self, kind: RequestKind, parts: Iterator[pb.RequestPart], context: grpc.ServicerContext
    ) -> Iterator[pb.ReplyPart]:
        """Answer one RPC."""
        try:
            with self._place():
                reply = self._reply(kind, parts, context)
            answer = reply_parts(reply)
        except _EndedError as error:
            _abort(context, error.status, error.detail)
        except grpc.RpcError:  # raised by `parts` if the caller is gone or took too long
            _abort(context, grpc.StatusCode.CANCELLED, "the request was not received completely")
        # gRPC would send the exception's text to the caller.
        except Exception:
            log.exception("%s failed to serve a %s request.", self._handler.name, kind)
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
        seconds = self._limits.max_deadline_s
        remaining = context.time_remaining()
        if remaining is not None:
            seconds = min(seconds, remaining)
        end = time.monotonic() + seconds
        # Read only when it is this request's turn, so that tensors of one request at most are in
        # memory.
        with self._my_turn(end, context):
            try:
                request = self._read(parts, end, context)
            except ProtocolError as error:
                log.warning("%s declines a %s request: %s", self._handler.name, kind, error)
                return Reply(institution=self._handler.name, refusal=error.code)
            reply = self._answer(kind, request, end)
        if self._stopping and reply.refusal == Refusal.CANCELLED:
            raise _EndedError(grpc.StatusCode.UNAVAILABLE, "shutting down; ask again")
        return reply

    @contextlib.contextmanager
    def _my_turn(self, end: float, context: grpc.ServicerContext) -> Iterator[None]:
        """Wait until nothing else is running, at most as long as the caller waits."""
        # In short steps, because waiting for a lock cannot be interrupted.
        while not self._turn.acquire(timeout=max(0.0, min(_WAIT_STEP_S, end - time.monotonic()))):
            if time.monotonic() >= end or not context.is_active():
                raise _EndedError(
                    grpc.StatusCode.DEADLINE_EXCEEDED, "another request was running all the time"
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
        """Read the request within the time limit."""
        left_s = max(0.0, min(self._limits.max_upload_s, end - time.monotonic()))
        # `next(parts)` blocks without a timeout of its own; cancelling the RPC makes it raise.
        timer = threading.Timer(left_s, context.cancel)
        timer.daemon = True
        timer.start()
        try:
            return read_request(parts, self._limits.wire)
        finally:
            timer.cancel()

    def _answer(self, kind: RequestKind, request: Request, end: float) -> Reply:
        job, seconds = "", end - time.monotonic()
        # What is not a plan is refused by the handler, with its own code.
        with contextlib.suppress(ProtocolError):
            plan = TrainingPlan.from_json(request.plan)
            job, seconds = plan.job, min(seconds, plan.deadline_s)
        self._deadline.start(seconds, job)
        # `stop` may have been called before there was a deadline to cancel.
        if self._stopping:
            self._deadline.cancel(job)
        self._note(kind, job, request.server_round)
        started = time.monotonic()
        try:
            return self._handler.handle(kind, request)
        except Exception:
            log.exception("%s failed to answer a %s request.", self._handler.name, kind)
            return Reply(institution=self._handler.name, refusal=Refusal.INTERNAL_ERROR)
        finally:
            log.info(
                "%s, job %s, round %d took %.2f s.",
                _ACTIVITIES[kind],
                job,
                request.server_round,
                time.monotonic() - started,
            )
            self._deadline.finish()
            with self._notes:
                self._running = None

    def _note(self, kind: RequestKind, job: str, server_round: int) -> None:
        """Note for `Status` what begins to run, and the last jobs."""
        with self._notes:
            running = pb.Running(
                job=job, what=_ACTIVITIES[kind], server_round=server_round, since=time.time()
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
    """A service that listens until it is stopped or its context is left."""

    def __init__(
        self,
        server: grpc.Server,
        service: TrainerService,
        status: health.HealthServicer,
        socket: Path,
    ) -> None:
        self._server, self._service, self._status, self._socket = server, service, status, socket

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is stopped, and return whether the time ran out."""
        return bool(self._server.wait_for_termination(timeout_s))

    def stop(self, grace_s: float = 1.5) -> None:
        """Refuse new requests, and end the running one.

        Args:
            grace_s: longest time for the running request to stop at its next step, in seconds.
        """
        self._status.enter_graceful_shutdown()
        self._service.stop()
        self._server.stop(grace_s).wait(grace_s + 0.5)
        remove(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def serve(
    handler: RequestHandler,
    *,
    socket: Path,
    deadline: Deadline,
    limits: ServiceLimits | None = None,
    mode: int = 0o600,
    group: str | None = None,
) -> RunningService:
    """Start to listen.

    Args:
        handler: handler of an institution.
        socket: path of the socket, in a folder that only its owner may write to.
        deadline: deadline that the handler's trainer checks.
        limits: limits of one request.
        mode: permissions of the socket; all who may write to it may send requests.
        group: group of the socket; None for this process's own.

    Returns:
        The service, to be stopped.

    Raises:
        ConfigError: if the folder or path cannot be used, or another service listens there.
    """
    pool = futures.ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="trainer")
    server = grpc.server(pool, maximum_concurrent_rpcs=_MOST_RPCS, options=_SERVER_OPTIONS)
    service = TrainerService(handler, deadline=deadline, limits=limits or ServiceLimits())
    status = health.HealthServicer()
    trainer_pb2_grpc.add_TrainerServicer_to_server(service, server)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    path = _listen(server, socket, mode=mode, group=group)
    for name in ("", SERVICE):
        status.set(name, health_pb2.HealthCheckResponse.SERVING)
    log.info("%s listens on %s.", handler.name, path)
    return RunningService(server, service, status, path)


def _listen(server: grpc.Server, socket: Path, *, mode: int, group: str | None) -> Path:
    try:
        with bound_privately(socket, mode=mode, group=group) as path:
            # "Insecure" means without TLS to gRPC; the folder's permissions protect the socket.
            # Quoted, because gRPC reads the path as part of a URI.
            server.add_insecure_port(f"unix:{quote(str(path))}")
    except RuntimeError:  # gRPC writes the reason to standard error
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
