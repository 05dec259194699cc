"""Takes tasks from the runtime API of a SuperLink or a SuperNode, and keeps them alive.

Flower would start a new process for each task, install the coordinator's bundle in it, and give the
task to any process that asks. Here one long-lived process asks with a shared secret, and runs what
is installed. ``tests/flower/test_runtime.py`` checks what is relied on here.
"""

import contextlib
import itertools
import logging
import threading
from collections.abc import Iterator
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
_TEMPORARY = (
    httpx.codes.BAD_GATEWAY,
    httpx.codes.SERVICE_UNAVAILABLE,
    httpx.codes.GATEWAY_TIMEOUT,
)
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Address and credentials of a runtime API.

    Attributes:
        address: HOST:PORT on loopback.
        secret: file of the shared secret.
        ca: certificate of the authority that signed the API's; None for plain HTTP.
        patience_s: longest time that a call tries to reach the API, in seconds.
    """

    address: str
    secret: Path
    ca: Path | None = None
    patience_s: float = 60.0

    def client(self, component: str, *interceptors: ProtobufClientInterceptor) -> RuntimeHttpClient:
        """Open a client that names its release of Flower and retries for ``patience_s``."""
        return RuntimeHttpClient.from_server_address(
            server_address=self.address,
            insecure=self.ca is None,
            root_certificates=None if self.ca is None else self.ca.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name=component), *interceptors],
            retry_invoker=patient(self.patience_s),
        )

    def task_client(self, component: str, token: str) -> RuntimeHttpClient:
        """Open a client for the task that a token belongs to."""
        return self.client(component, RuntimeTokenHttpInterceptor(token))


def patient(patience_s: float) -> RetryInvoker:
    """Return a retry policy that gives up after ``patience_s`` seconds, and at once if refused."""

    # In place of Flower's own, which would retry for ever, and end this process when refused.
    def is_final(error: Exception) -> bool:
        if isinstance(error, httpx.HTTPStatusError):
            return error.response.status_code not in _TEMPORARY
        # httpx raises the same ConnectError for a certificate that is wrong, which no retry
        # corrects, as for a port on which nobody listens yet.
        return any(word in str(error).lower() for word in ("certificate", "ssl", "tls"))

    return RetryInvoker(
        lambda: (min(0.2 * 2**n, _LONGEST_PAUSE_S) for n in itertools.count()),
        httpx.HTTPError,
        max_tries=None,
        max_time=patience_s,
        should_giveup=is_final,
    )


class TaskQueue:
    """Queue of the tasks of one type.

    Args:
        runtime: runtime API that offers them.
        task_type: type of the tasks, such as ``flwr-clientapp``.
    """

    def __init__(self, runtime: Runtime, task_type: str) -> None:
        sign = SuperExecAuthHttpInterceptor(
            master_secret=runtime.secret.read_bytes(), protected_methods={_ACQUIRE}
        )
        # The API gives tasks to Flower's SuperExec alone, so this process poses as one.
        self._client = runtime.client("SuperExec", sign)
        self._request = AcquireTaskRequest(supported_task_types=[task_type])

    def acquire(self) -> str | None:
        """Take the oldest waiting task and return its token; None if no task is waiting.

        Raises:
            FlowerError: if the API refuses or does not answer.
        """
        with runtime_errors("take a task"):
            answer = self._client.AcquireTask(self._request)
        return str(answer.token) if answer.HasField("task") and answer.token else None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Heartbeat:
    """Keeps a task alive by heartbeats from a thread, inside a context."""

    def __init__(self, client: RuntimeHttpClient) -> None:
        self._client = client
        self._lost = threading.Event()
        self._sender = HeartbeatSender(self._beat)

    @property
    def is_lost(self) -> bool:
        """Whether the task has expired or was given to another process."""
        return self._lost.is_set()

    def __enter__(self) -> "Heartbeat":
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._sender.is_running:
            self._sender.stop()

    def _beat(self) -> bool:
        """Send one heartbeat; return False to have it retried, and True otherwise."""
        try:
            success = bool(self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success)
        except httpx.TransportError:
            return False
        except httpx.HTTPStatusError as error:
            # A SuperLink also answers 500 while its SQLite database is locked, which passes.
            if error.response.is_server_error:
                return False
            success = False
        if not success:
            self._lost.set()
            # Its own `stop` would join the thread, which is the one that runs here.
            self._sender._stop_event.set()
        return True


@contextlib.contextmanager
def runtime_errors(action: str) -> Iterator[None]:
    """Turn errors of httpx and Flower inside this context into a ``FlowerError``.

    Args:
        action: what is being done, such as ``take a task``.
    """
    try:
        yield
    except httpx.HTTPStatusError as error:
        # The status alone: the body is the other side's text.
        raise FlowerError(
            f"Flower's runtime API refuses to {action}: HTTP status {error.response.status_code}."
        ) from None
    except (httpx.HTTPError, RuntimeError, ValueError) as error:
        raise FlowerError(
            f"Flower's runtime API fails to {action}: {type(error).__name__}: {error}."
        ) from None


__all__ = ["Heartbeat", "Runtime", "TaskQueue", "patient", "runtime_errors"]
