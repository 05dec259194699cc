"""A TCP proxy on loopback whose network fails on request.

It stands between a client and a server that know nothing of it, in a thread of its own::

    with FaultProxy(upstream_port) as proxy:
        ...  # the client connects to 127.0.0.1:proxy.port
        proxy.cut(5)  # every connection is reset, new ones are refused for 5 s

Faults are set from any thread and hold for connections that stand and for those to come, but for
``half_open``, which is about those that stand.
"""

import asyncio
import contextlib
import math
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_PIECE = 64 * 1024
_PIECES = 64
"""Most pieces that wait for their latency, each way."""


class FaultProxy:
    """A proxy before a port of loopback.

    Args:
        upstream_port: port of the server.
        latency_s: how much later each byte arrives, each way; may be set at any time.

    Attributes:
        port: where clients connect.
        connections: how many were accepted.
        bytes_up: how many bytes the server was sent.
        bytes_down: how many bytes clients were sent.
    """

    def __init__(self, upstream_port: int, *, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.connections = self.bytes_up = self.bytes_down = 0
        self._upstream_port = upstream_port
        self._reset_at = math.inf  # of bytes_up
        self._open: set[_Link] = set()
        # Bound, and never listening: while new connections are refused, nobody else takes the port.
        self._claim = _bound(0)
        self.port: int = self._claim.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._accepting: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def open_connections(self) -> int:
        """How many connections stand, half open ones too."""
        return len(self._open)

    def cut(self, seconds: float = 0.0) -> None:
        """Reset every connection, and refuse new ones for that time; ``math.inf`` until `fix`."""

        def cut() -> None:
            self._stop_listening()
            for link in list(self._open):
                self._reset(link)
            self._later("cut", seconds, self._listen)

        self._call(cut)

    def stall(self, seconds: float) -> None:
        """Accept connections and forward nothing for that time; ``math.inf`` until `fix`."""

        def stall() -> None:
            self._flowing.clear()
            self._later("stall", seconds, self._flowing.set)

        self._call(stall)

    def half_open(self) -> None:
        """Close the server's side of every connection.

        The client's side stays open, and silent for ever.
        """

        def half_open() -> None:
            for link in self._open:
                link.is_half_open = True
                link.task.cancel()

        self._call(half_open)

    def cut_after(self, num_bytes: int) -> None:
        """Reset the connection that sends this many more bytes to the server, once.

        Others stand.
        """

        def cut_after() -> None:
            self._reset_at = self.bytes_up + num_bytes

        self._call(cut_after)

    def fix(self) -> None:
        """End every fault but latency; what is lost stays lost."""

        def fix() -> None:
            self._reset_at = math.inf
            self._later("cut", 0, self._listen)
            self._later("stall", 0, self._flowing.set)

        self._call(fix)

    def close(self) -> None:
        """Reset everything and end the thread."""
        if self._loop.is_closed():
            return

        self.cut(math.inf)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._claim.close()

    def _call(self, action: Callable[[], object]) -> None:
        """Do something in the thread of the loop, and wait until what it cancelled has ended."""

        async def act() -> None:
            action()
            ending = {task for task in asyncio.all_tasks() if task.cancelling()}
            await asyncio.gather(*ending, return_exceptions=True)
            await asyncio.sleep(0)  # callbacks of these tasks

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    def _later(self, name: str, seconds: float, action: Callable[[], object]) -> None:
        """End a fault after so many seconds, and not before, whatever was said earlier."""
        if name in self._timers:
            self._timers.pop(name).cancel()
        if seconds <= 0:
            action()
        elif seconds < math.inf:
            self._timers[name] = self._loop.call_later(seconds, action)

    def _listen(self) -> None:
        if self._accepting is None:
            listener = _bound(self.port)
            listener.listen(256)
            self._accepting = self._loop.create_task(self._accept(listener))

    def _stop_listening(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                client, _ = await self._loop.sock_accept(listener)
                self.connections += 1
                client.setblocking(False)
                link = _Link(client, _socket())
                self._open.add(link)
                link.task = self._loop.create_task(self._carry(link))
                link.task.add_done_callback(lambda _, link=link: self._end(link))

    def _reset(self, link: "_Link") -> None:
        """Close both sides as a network does that lost them."""
        for side in (link.client, link.server):
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        was_half_open, link.is_half_open = link.is_half_open, False
        if was_half_open:
            self._end(link)
        else:
            link.task.cancel()

    def _end(self, link: "_Link") -> None:
        link.server.close()
        if not link.is_half_open:
            link.client.close()
            self._open.discard(link)

    async def _carry(self, link: "_Link") -> None:
        with contextlib.suppress(OSError):
            await self._loop.sock_connect(link.server, (HOST, self._upstream_port))
            pumps = [asyncio.ensure_future(self._pump(link, up=up)) for up in (True, False)]
            try:
                await asyncio.gather(*pumps)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, link: "_Link", *, up: bool) -> None:
        """Carry bytes one way until its end, each after its latency."""
        source, target = (link.client, link.server) if up else (link.server, link.client)
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)
        writing = asyncio.ensure_future(self._write(pieces, target, link, up=up))
        try:
            while True:
                await self._flowing.wait()
                piece = await self._loop.sock_recv(source, _PIECE)
                await pieces.put((self._loop.time() + self.latency_s, piece))
                if not piece:
                    break
            await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(
        self,
        pieces: "asyncio.Queue[tuple[float, bytes]]",
        target: socket.socket,
        link: "_Link",
        *,
        up: bool,
    ) -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - self._loop.time())
            await self._flowing.wait()
            if not piece:
                with contextlib.suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                return
            is_last = up and self.bytes_up + len(piece) >= self._reset_at
            allowed = piece[: int(self._reset_at - self.bytes_up)] if is_last else piece
            if up:
                self.bytes_up += len(allowed)
            else:
                self.bytes_down += len(allowed)
            with contextlib.suppress(OSError):
                await self._loop.sock_sendall(target, allowed)
            if is_last:
                self._reset_at = math.inf
                self._reset(link)


class _Link:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.task: asyncio.Task[None]  # set by who makes it
        self.is_half_open = False


def _socket() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    made.bind((HOST, port))
    return made
