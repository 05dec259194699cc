"""The runtime API.

How long silence is borne, what is final, and that no refusal ends this process.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from flower_link import SuperLink
from flwr.proto.runtime_pb2 import SendTaskHeartbeatResponse
from flwr.supercore.constant import TaskType

from confide.errors import FlowerError
from confide.flower.processes import LOOPBACK, free_port
from confide.flower.runtime import Heartbeat, Runtime, TaskQueue, runtime_errors
from confide.storage.files import write_secret

PATIENCE_S = 0.6
PROTOBUF = "application/protobuf"


@dataclass
class Answering:
    """A runtime API that answers with a status and a body, whatever it is asked."""

    status: int = 200
    body: bytes = b""
    asked: int = 0
    port: int = 0


@contextlib.contextmanager
def answering(**fields: object) -> Iterator[Answering]:
    told = Answering(**fields)  # type: ignore[arg-type]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            told.asked += 1
            self.send_response(told.status)
            self.send_header("content-type", self.headers.get("content-type", PROTOBUF))
            self.send_header("content-length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        told.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    write_secret(tmp_path / "secret", b"x" * 32)
    return tmp_path / "secret"


@pytest.fixture(autouse=True)
def _never_signalled() -> Iterator[None]:
    """Flower's own retries send SIGTERM to their process where they are refused."""
    signalled: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: signalled.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    assert signalled == []


def acquire(port: int, secret: Path) -> str | None:
    queue = TaskQueue(
        Runtime(address=f"{LOOPBACK}:{port}", secret=secret, patience_s=PATIENCE_S),
        TaskType.CLIENT_APP,
    )
    with contextlib.closing(queue):
        return queue.acquire()


# --- patience


@pytest.mark.parametrize("status", [502, 503, 504])
def test_who_is_away_is_asked_again_until_patience_ends(secret: Path, status: int) -> None:
    started = time.monotonic()
    with (
        answering(status=status) as there,
        pytest.raises(FlowerError, match=f"refuses to take a task: HTTP status {status}"),
    ):
        acquire(there.port, secret)
    assert there.asked > 1
    assert time.monotonic() - started < PATIENCE_S + 3


def test_where_nobody_listens_patience_ends_too(secret: Path) -> None:
    with pytest.raises(FlowerError, match="fails to take a task: ConnectError"):
        acquire(free_port(), secret)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_a_refusal_is_final_at_once(secret: Path, status: int) -> None:
    with (
        answering(status=status, body=b"patient-4711") as there,
        pytest.raises(FlowerError) as caught,
    ):
        acquire(there.port, secret)
    assert there.asked == 1
    assert f"HTTP status {status}" in str(caught.value)
    assert "patient-4711" not in str(caught.value)


def test_who_comes_back_in_time_is_heard(secret: Path) -> None:
    with answering(status=503) as there:
        threading.Timer(0.15, lambda: setattr(there, "status", 200)).start()
        assert acquire(there.port, secret) is None
    assert there.asked > 1


# --- errors


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout("late"), RuntimeError("no message"), ValueError("no protobuf")]
)
def test_what_flower_raises_becomes_one_error_that_names_what_was_done(error: Exception) -> None:
    with (
        pytest.raises(FlowerError, match=f"fails to send a reply: {type(error).__name__}: {error}"),
        runtime_errors("send a reply"),
    ):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), KeyError("x"), FlowerError("already told")])
def test_what_is_not_flowers_passes_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, runtime_errors("send a reply"):
        raise error
    assert caught.value is error


# --- heartbeat


@contextlib.contextmanager
def beating(there: Answering, secret: Path) -> Iterator[Heartbeat]:
    client = Runtime(
        address=f"{LOOPBACK}:{there.port}", secret=secret, patience_s=PATIENCE_S
    ).task_client("flwr-clientapp", "token")
    with contextlib.closing(client), Heartbeat(client) as heartbeat:
        yield heartbeat


def is_lost_within(heartbeat: Heartbeat, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not heartbeat.is_lost:
        time.sleep(0.02)
    return heartbeat.is_lost


LOST = {
    "says no": {"body": SendTaskHeartbeatResponse(success=False).SerializeToString()},
    "knows no such task": {"status": 401},
    "says the run is over": {"status": 403},
}


@pytest.mark.parametrize("how", LOST)
def test_a_task_is_lost_where_the_server(secret: Path, how: str) -> None:
    with answering(**LOST[how]) as there, beating(there, secret) as heartbeat:
        assert is_lost_within(heartbeat, 5)


@pytest.mark.parametrize(
    "fields",
    [{"body": SendTaskHeartbeatResponse(success=True).SerializeToString()}, {"status": 503}],
)
def test_a_task_is_kept_where_the_server_says_yes_or_is_away(
    secret: Path, fields: dict[str, object]
) -> None:
    with answering(**fields) as there, beating(there, secret) as heartbeat:
        assert not is_lost_within(heartbeat, 0.3)
        assert there.asked >= 1


def test_a_heartbeat_leaves_no_thread_behind(secret: Path) -> None:
    before = threading.active_count()
    with (
        answering(body=SendTaskHeartbeatResponse(success=True).SerializeToString()) as there,
        beating(there, secret),
    ):
        pass
    assert threading.active_count() == before


# --- the shared secret


def test_a_superlink_gives_no_task_to_whoever_has_another_secret(
    superlink: SuperLink, secret: Path
) -> None:
    number = superlink.control.start_run("guarded")
    try:
        stranger = contextlib.closing(
            TaskQueue(superlink.runtime(secret=secret), TaskType.SERVER_APP)
        )
        with (
            stranger as queue,
            pytest.raises(FlowerError, match="refuses to take a task: HTTP status 401"),
        ):
            queue.acquire()
        with contextlib.closing(TaskQueue(superlink.runtime(), TaskType.SERVER_APP)) as queue:
            assert queue.acquire()
            assert queue.acquire() is None
    finally:
        superlink.control.stop_run(number)


def test_tasks_of_another_kind_are_left_alone(superlink: SuperLink) -> None:
    number = superlink.control.start_run("other kind")
    try:
        with contextlib.closing(TaskQueue(superlink.runtime(), TaskType.CLIENT_APP)) as queue:
            assert queue.acquire() is None
    finally:
        superlink.control.stop_run(number)
