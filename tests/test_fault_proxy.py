"""The network that fails on request: each fault is what it says, and ends."""

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from fault_proxy import HOST, FaultProxy

MIB = 1024 * 1024
PATIENCE_S = 5.0
MakeProxy = Callable[[int], FaultProxy]


@pytest.fixture
def echo_port() -> Iterator[int]:
    """Serve what is sent back to who sends it."""
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=_serve, args=[listener], daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=_echo, args=[listener.accept()[0]], daemon=True).start()


def _echo(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        while data := client.recv(65536):
            client.sendall(data)


@pytest.fixture
def proxy(fault_proxy: MakeProxy, echo_port: int) -> FaultProxy:
    return fault_proxy(echo_port)


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=PATIENCE_S)


def exchange(client: socket.socket, data: bytes = b"hello") -> bytes:
    client.sendall(data)
    received = bytearray()
    while len(received) < len(data):
        piece = client.recv(65536)
        if not piece:
            break
        received += piece
    return bytes(received)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_bytes_pass_unchanged_and_are_counted(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 4096
    with connect(proxy) as client:
        sending = threading.Thread(target=client.sendall, args=[data])
        sending.start()
        received = bytearray()
        while len(received) < len(data):
            received += client.recv(65536)
        sending.join()
    assert received == data
    assert (proxy.connections, proxy.bytes_up, proxy.bytes_down) == (1, len(data), len(data))
    assert eventually(lambda: proxy.open_connections == 0)


def test_end_of_one_side_reaches_the_other(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b"last words"


def test_cut_resets_what_stands_and_refuses_what_comes_for_its_time(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        exchange(client)
        proxy.cut(0.3)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    time.sleep(0.35)
    with connect(proxy) as client:
        assert exchange(client) == b"hello"


def test_cut_without_an_end_is_mended(proxy: FaultProxy) -> None:
    proxy.cut(math.inf)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.fix()
    with connect(proxy) as client:
        assert exchange(client) == b"hello"


def test_latency_delays_each_way_and_not_each_piece(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        exchange(client)
        proxy.latency_s = 0.1
        start = time.monotonic()
        assert len(exchange(client, bytes(MIB))) == MIB
        took = time.monotonic() - start
    assert 0.2 <= took < 1.0


def test_stall_holds_everything_back_and_loses_nothing(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        exchange(client)
        proxy.stall(0.4)
        start = time.monotonic()
        assert exchange(client) == b"hello"
        assert time.monotonic() - start > 0.3
    proxy.stall(math.inf)
    with connect(proxy) as client:  # accepted, and silent
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            exchange(client)
        client.settimeout(PATIENCE_S)
        proxy.fix()
        assert client.recv(5) == b"hello"


def test_stall_fills_the_buffers_of_who_sends(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        proxy.stall(math.inf)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(64 * MIB))


def test_half_open_is_silence_on_one_side_and_an_end_on_the_other(fault_proxy: MakeProxy) -> None:
    with socket.create_server((HOST, 0)) as listener:
        proxy = fault_proxy(listener.getsockname()[1])
        with connect(proxy) as client, listener.accept()[0] as server:
            server.settimeout(PATIENCE_S)
            proxy.half_open()
            assert server.recv(1) == b""
            client.sendall(b"is anybody there?")
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.recv(1)
            assert proxy.open_connections == 1
            proxy.cut()
            assert eventually(lambda: proxy.open_connections == 0)


def test_cut_after_bytes_resets_in_the_middle_of_an_upload_once(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        exchange(client)
        proxy.cut_after(100_000)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(bytes(64 * MIB))
            pytest.fail("the connection was not reset")
    assert proxy.bytes_up == 100_005
    with connect(proxy) as client:
        assert exchange(client) == b"hello"


def test_server_that_is_away_is_an_end_of_the_connection(fault_proxy: MakeProxy) -> None:
    with socket.socket() as claimed:
        claimed.bind((HOST, 0))  # and does not listen
        with (
            connect(fault_proxy(claimed.getsockname()[1])) as client,
            contextlib.suppress(ConnectionResetError),
        ):
            assert client.recv(1) == b""


def test_close_resets_everything_and_may_be_repeated(echo_port: int) -> None:
    proxy = FaultProxy(echo_port)
    with connect(proxy) as client:
        exchange(client)
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
