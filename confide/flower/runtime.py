"""The runtime API of a SuperLink or a SuperNode.

How a process of ours takes a task, keeps it alive and gives it back.

Flower would start a new process for each task, install the coordinator's bundle in it, and hand the
task to whoever asks. Here one long-lived process asks with a shared secret, and runs what is
installed. ``tests/flower/test_runtime.py`` holds what is relied on.
"""

import itertools
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.retry import RetryInvoker
from flwr.supercore.runtime import RuntimeHttpClient

from confide.errors import FlowerError

log = logging.getLogger(__name__)

_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_PASSING = (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT)
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where a runtime API is.

    Attributes:
        address: HOST:PORT, on loopback.
        secret: file of the shared secret.
        ca: certificate of the authority that signed its certificate; None for plain HTTP.
        patience_s: how long it may be gone before a call gives up.
    """

    address: str
    secret: Path
    ca: Path | None = None
    patience_s: float = 60.0

    def client(self, component: str, *interceptors: ProtobufClientInterceptor) -> RuntimeHttpClient:
        """Open a client that tells its version, and asks again for as long as ``patience_s``."""
        return RuntimeHttpClient.from_server_address(
            server_address=self.address,
            insecure=self.ca is None,
            root_certificates=None if self.ca is None else self.ca.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name=component), *interceptors],
            retry_invoker=patient(self.patience_s),
        )

    def holding(self, component: str, token: str) -> RuntimeHttpClient:
        """Open a client that holds a task."""
        return self.client(component, RuntimeTokenHttpInterceptor(token))


def patient(patience_s: float) -> RetryInvoker:
    """Return what asks again while nobody answers; a refusal is final.

    Flower's own would ask for ever, and end this process where it is refused.
    """

    def is_final(error: Exception) -> bool:
        if isinstance(error, httpx.HTTPStatusError):
            return error.response.status_code not in _PASSING
        return any(word in str(error).lower() for word in ("certificate", "ssl", "tls"))

    return RetryInvoker(
        lambda: (min(0.2 * 2**n, _LONGEST_PAUSE_S) for n in itertools.count()),
        httpx.HTTPError,
        max_tries=None,
        max_time=patience_s,
        should_giveup=is_final,
    )


class TaskQueue:
    """Takes tasks of one kind.

    Args:
        runtime: where.
        task_type: such as ``flwr-clientapp``.
    """

    def __init__(self, runtime: Runtime, task_type: str) -> None:
        sign = SuperExecAuthHttpInterceptor(
            master_secret=runtime.secret.read_bytes(), protected_methods={_ACQUIRE}
        )
        self._client = runtime.client("SuperExec", sign)
        self._request = AcquireTaskRequest(supported_task_types=[task_type])

    def acquire(self) -> str | None:
        """Take the oldest task that waits, and return its token; None if none does.

        Raises:
            FlowerError: if it is refused, or nobody answers.
        """
        with telling("take a task"):
            answer = self._client.AcquireTask(self._request)
        return str(answer.token) if answer.HasField("task") and answer.token else None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Heartbeat:
    """Keeps a task alive from a thread of its own.

    ``is_lost`` says that it was given to nobody or to somebody else.
    """

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client
        self._lost = threading.Event()
        self._sender = HeartbeatSender(self._beat)

    @property
    def is_lost(self) -> bool:
        """Whether the task is no longer ours."""
        return self._lost.is_set()

    def __enter__(self) -> "Heartbeat":
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._sender.is_running:
            self._sender.stop()

    def _beat(self) -> bool:
        """Send one; a refusal is final, silence and a database that is locked are not.

        SuperLink says 500 to that.
        """
        try:
            success = bool(self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success)
        except httpx.TransportError:
            return False
        except httpx.HTTPStatusError as error:
            if error.response.is_server_error:
                return False
            success = False
        if not success:
            self._lost.set()
            self._sender._stop_event.set()
        return True


class telling:  # noqa: N801 - reads as a sentence: with telling("take a task")
    """Turns what httpx raises into one error of ours, without the other side's text beyond its status.

    Args:
        what: was being done.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, httpx.HTTPStatusError):
            status = error.response.status_code
            raise FlowerError(
                f"Flower's runtime API refuses to {self._what}: HTTP status {status}."
            ) from None
        if isinstance(error, httpx.HTTPError | RuntimeError | ValueError):
            raise FlowerError(
                f"Flower's runtime API fails to {self._what}: {type(error).__name__}: {error}."
            ) from None


__all__ = ["Heartbeat", "Runtime", "TaskQueue", "patient", "telling"]
