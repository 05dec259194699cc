"""Users of the machine who hold connections keep nobody from the page."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from confide.monitoring.connections import connections

MOST, IDLE_S, LONG_S = 8, 0.5, 60.0


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with as much as the path says, in bytes."""
    body = b"x" * int(scope["path"][1:])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(name="address")
def serve() -> Iterator[tuple[str, int]]:
    kind = connections(most=MOST, idle_s=IDLE_S)
    server = uvicorn.Server(
        uvicorn.Config(app, http=kind, ws="none", lifespan="off", log_config=None)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        host, port = listener.getsockname()
        yield host, port
        server.should_exit = True
        thread.join(LONG_S)


def answers(address: tuple[str, int]) -> bool:
    got = httpx.get(f"http://{address[0]}:{address[1]}/5", timeout=LONG_S)
    return (got.status_code, got.text) == (200, "xxxxx")


@contextlib.contextmanager
def held(address: tuple[str, int], number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(number):
            one = stack.enter_context(socket.create_connection(address, timeout=LONG_S))
            with contextlib.suppress(ConnectionError):
                one.sendall(sent)
            found.append(one)
        yield found


def is_cut(one: socket.socket) -> bool:
    """Wait for the end of a connection."""
    try:
        while one.recv(2**16):
            pass
    except ConnectionError:
        pass
    return True


BIG = b"GET /12000000 HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: lo", BIG])
def test_those_who_hold_connections_keep_nobody_out(sent: bytes, address: tuple[str, int]) -> None:
    with held(address, 5 * MOST, sent) as found:
        assert answers(address)
        # The oldest had to give way, and at last all others
        assert is_cut(found[0])
        assert all(is_cut(one) for one in found)
    assert answers(address)


def test_a_request_without_end_is_cut(address: tuple[str, int]) -> None:
    with held(address, 1, b"GET /5 HTTP/1.1\r\nHost: localhost\r\nx: ") as (one,):
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 * 2**20:
                sent += one.send(b"y" * 2**16)
        assert sent < 8 * 2**20
    assert answers(address)


def test_one_byte_at_a_time_wins_no_time(address: tuple[str, int]) -> None:
    with held(address, 1, b"GET /5 HTTP/1.1\r\n") as (one,):
        end = time.monotonic() + LONG_S
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < end:
                one.sendall(b"x")
                time.sleep(IDLE_S / 5)
        assert time.monotonic() < end
