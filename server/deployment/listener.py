"""A TLS server for strangers: heads in time, few connections, few lines of log, and an end with its parent.

It is uvicorn with h11, which bounds the size of a head, and three things that uvicorn leaves out: a
deadline for heads, a limit of connections that keeps serving those that stand, and an end when the
process that started it is gone.
"""

import asyncio
import contextvars
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from confide.errors import ConfigError

_LARGEST_HEAD = 16 * 1024
_IDLE_S = 15
"""Longer than the 5 s after which a SuperNode's client drops an idle connection: it never writes
into one that closes."""
_SHUTDOWN_S = 1
_LINGER_S = 5.0
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_LINES, _LINES_WINDOW_S = 10, 60.0

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What anybody on the network may ask of this process.

    Attributes:
        max_body: largest body, and largest answer, in bytes, >= 1.
        stall_s: longest silence in a request before it is cut, > 0.
        max_connections: most connections at a time, >= 1.
    """

    max_body: int = 16 * 1024 * 1024
    stall_s: float = 60.0
    max_connections: int = 256

    def __post_init__(self) -> None:
        least = {"max_body": 1, "stall_s": 1e-3, "max_connections": 1}
        wrong = [name for name, bound in least.items() if not getattr(self, name) >= bound]
        if wrong:
            raise ConfigError(
                [f"Expected {name}={getattr(self, name)} >= {least[name]:g}." for name in wrong]
            )


class Config(uvicorn.Config):
    """Settings of the server, and the limits that hold before there is a request."""

    def __init__(self, app: App, limits: Limits, *, certificate: Path, key: Path) -> None:
        super().__init__(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=True,  # by which an institution's doctor compares clocks
            loop="asyncio",  # in which `Listener` can tell whose handshake failed
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_SHUTDOWN_S,
            h11_max_incomplete_event_size=_LARGEST_HEAD,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            ssl_ciphers=_CIPHERS,
            ssl_context_factory=_server_context,
        )
        self.limits = limits


def _server_context(
    config: uvicorn.Config, make_fn: Callable[[], ssl.SSLContext]
) -> ssl.SSLContext:
    context = make_fn()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.sslobject_class = _Handshakes
    return context


_peer: contextvars.ContextVar[tuple[str, int] | None] = contextvars.ContextVar("peer", default=None)


class Listener(socket.socket):
    """A listening socket that lets a failed handshake be told of with its peer, which asyncio keeps to itself.

    The task of a connection begins with a copy of the context in which it was accepted.
    """

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        connection, peer = super().accept()
        _peer.set(peer[:2])
        return connection, peer


class _Handshakes(ssl.SSLObject):
    """Tells of handshakes that fail: a client that does not trust this server's certificate says so, and nobody else hears."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            log.warning(
                "TLS with %s fails: %s", name_of(_peer.get()), _handshake_problem(str(error.reason))
            )
            raise


def _handshake_problem(reason: str) -> str:
    """Put OpenSSL's reason into words."""
    told = {
        "UNKNOWN_CA": "it knows another authority, so its ca.crt is not this federation's",
        "CERTIFICATE_EXPIRED": "it finds this server's certificate expired, or its clock is wrong",
        "BAD_CERTIFICATE": (
            "it finds this server's certificate unfit, such as for the host that it called"
        ),
        "HTTP_REQUEST": "it speaks HTTP without TLS",
    }
    words = next(
        (words for sign, words in told.items() if reason.endswith(sign)),
        "no TLS that this server speaks",
    )
    return f"{words} ({reason.lower()})."


class Connection(H11Protocol):
    """A connection that must send whole request heads, in time.

    H11 bounds their size, which httptools does not.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base class
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            # Closing is enough for a SuperNode to come again, and an idle flood costs no answers.
            log.warning(
                "Connection from %s closed: %d are open.",
                name_of(self.client),
                self._limits.max_connections,
            )
            transport.abort()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            # TLS would wait 30 s for the other side to agree, and read on meanwhile.
            self.loop.call_later(_LINGER_S, self.transport.abort)
        elif self.cycle.response_complete:
            self._expect_head()

    def _expect_head(self) -> None:
        self._forget_head()
        self._head_timer = self.loop.call_later(self._limits.stall_s, self._give_up)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()

    def _give_up(self) -> None:
        log.warning(
            "Connection from %s closed: no request in %g s.",
            name_of(self.client),
            self._limits.stall_s,
        )
        self.transport.abort()


class Server(uvicorn.Server):
    """A server that ends with the process that started it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._parent = os.getppid()

    async def on_tick(self, counter: int) -> bool:
        """Look for the parent ten times a second."""
        if os.getppid() != self._parent and not self.should_exit:
            log.warning("The process that started this one is gone; it ends too.")
            self.should_exit = True
        return await super().on_tick(counter)


class FewLines(logging.Filter):
    """At most so many lines a minute from one place in the code.

    Nobody fills the disk by being refused.
    """

    def __init__(self, now_fn: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_fn = now_fn
        self._seen: dict[
            tuple[str, int], tuple[float, int]
        ] = {}  # where -> (begin of the window, lines in it)

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line is written; it tells how many before it were not."""
        where, now = (record.pathname, record.lineno), self._now_fn()
        begin, lines = self._seen.get(where, (now, 0))
        if now - begin >= _LINES_WINDOW_S:
            if lines > _LINES:
                record.msg, record.args = (
                    f"{record.getMessage()} ({lines - _LINES} such lines were left out)",
                    None,
                )
            begin, lines = now, 0
        self._seen[where] = (begin, lines + 1)
        return lines < _LINES


def name_of(client: tuple[str, int] | None) -> str:
    """Name who is connected, in the log."""
    return f"{client[0]}:{client[1]}" if client else "an unknown peer"


__all__ = [
    "App",
    "Config",
    "Event",
    "FewLines",
    "Limits",
    "Listener",
    "Receive",
    "Scope",
    "Send",
    "Server",
    "name_of",
]
