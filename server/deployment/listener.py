"""A TLS server for clients that are not trusted, with limits and an end when its parent ends.

It is uvicorn with h11, which limits the size of a request head, and four things that it lacks:
a deadline for heads, a limit on connections that keeps serving those that exist, a certificate that
is renewed while it serves, and an end when the process that started it has ended.
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

from confide.errors import ConfigError, UnreadableError
from confide.security.passphrases import passphrase_for
from confide.storage.files import Mark, mark_of

_LARGEST_HEAD = 16 * 1024
_IDLE_S = 15
"""Longer than the 5 s after which a SuperNode's client closes an idle connection: it never writes
into one that is being closed here."""
_SHUTDOWN_S = 1
_TICKS_A_SECOND = 10
_LINGER_S = 5.0
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_MOST_LINES = 10
_LINES_WINDOW_S = 60.0

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of what a client may ask of this process.

    Attributes:
        max_body: largest body, and largest answer, in bytes, >= 1.
        stall_s: longest silence within a request, in seconds, > 0.
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


class ListenerConfig(uvicorn.Config):
    """Settings of the server, and the limits that apply before there is a request."""

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
            # An institution's doctor compares clocks by it.
            date_header=True,
            # Not uvloop, which accepts connections itself and so passes `Listener` over.
            loop="asyncio",
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_SHUTDOWN_S,
            h11_max_incomplete_event_size=_LARGEST_HEAD,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            ssl_keyfile_password=_password_of(key),  # type: ignore[arg-type]  # passed on as it is
            ssl_ciphers=_CIPHERS,
            ssl_context_factory=_server_context,
        )
        self.limits = limits
        self._files = certificate, key
        self._marks = self._marks_now()

    def _marks_now(self) -> tuple[Mark, ...]:
        return tuple(map(mark_of, self._files))

    def take_up_renewed(self) -> None:
        """Serve new connections with the certificate that is there now, if it is another.

        Connections that stand go on. Files that cannot be used change nothing: the second of a
        pair may still be on its way.
        """
        marks = self._marks_now()
        if marks == self._marks or self.ssl is None:
            return
        self._marks = marks
        certificate, key = self._files
        try:
            password = _password_of(key)
            # A context that failed to load a pair has none at all
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password)
            self.ssl.load_cert_chain(certificate, key, password)
        except (OSError, UnreadableError) as error:
            log.error(
                "%s and %s changed and cannot be used (%s); the certificate of before is served."
                " Bring PEM files that belong together.",
                certificate,
                key,
                error,
            )
            return
        log.warning("%s was renewed: new connections get the new one.", certificate)


def _password_of(key: Path) -> bytes:
    """Return the passphrase of a key; b'' where there is none, since OpenSSL would ask for it."""
    return passphrase_for(key) or b""


def _server_context(
    config: uvicorn.Config, make_fn: Callable[[], ssl.SSLContext]
) -> ssl.SSLContext:
    context = make_fn()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Renegotiation costs a server far more than a client, and compression leaks lengths (CRIME).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.sslobject_class = _LoggedHandshakes
    return context


_peer: contextvars.ContextVar[tuple[str, int] | None] = contextvars.ContextVar("peer", default=None)


class Listener(socket.socket):
    """A listening socket that remembers the peer of a connection for the log of its handshake.

    asyncio does not pass it on. But the task of a connection begins with a copy of the context in
    which it was accepted, so a context variable does.
    """

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        connection, peer = super().accept()
        _peer.set(peer[:2])
        return connection, peer


_HANDSHAKE_PROBLEMS = {
    "UNKNOWN_CA": "it knows another authority, so its ca.crt is not this federation's",
    "CERTIFICATE_EXPIRED": "it finds this server's certificate expired, or its clock is wrong",
    "BAD_CERTIFICATE": (
        "it does not accept this server's certificate, for instance for the host that it called"
    ),
    "HTTP_REQUEST": "it speaks HTTP without TLS",
}
"""OpenSSL's reasons, by their ends, in words about the client."""


class _LoggedHandshakes(ssl.SSLObject):
    """Logs handshakes that fail.

    Only there a client says that it does not trust this server's certificate, and asyncio drops the
    error.
    """

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise  # not errors: more bytes are needed
        except ssl.SSLError as error:
            reason = str(error.reason)
            problem = next(
                (words for end, words in _HANDSHAKE_PROBLEMS.items() if reason.endswith(end)),
                "no TLS that this server speaks",
            )
            log.warning(
                "TLS with %s fails: %s (%s).", name_of(_peer.get()), problem, reason.lower()
            )
            raise


class Connection(H11Protocol):
    """A connection that must send complete request heads in time.

    It is h11's and not httptools', because h11 limits their size.
    """

    def __init__(
        self,
        config: ListenerConfig,
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
            # Without an answer: a SuperNode retries after a closed connection too, and a flood of
            # idle connections then costs nothing more.
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
        # A cycle begins once its head is complete; bodies have a deadline of their own.
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            # TLS would wait 30 s for the client to confirm the end, and read on meanwhile.
            self.loop.call_later(_LINGER_S, self.transport.abort)
        elif self.cycle.response_complete:
            self._expect_head()

    def _expect_head(self) -> None:
        self._forget_head()
        self._head_timer = self.loop.call_later(self._limits.stall_s, self._abort_late)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()

    def _abort_late(self) -> None:
        log.warning(
            "Connection from %s closed: no request in %g s.",
            name_of(self.client),
            self._limits.stall_s,
        )
        self.transport.abort()


class Server(uvicorn.Server):
    """A server that takes up a renewed certificate, and ends when its parent has ended."""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__(config)
        self._listener_config = config
        self._parent = os.getppid()

    async def on_tick(self, counter: int) -> bool:
        """Check ten times a second whether the parent is still there."""
        if counter % _TICKS_A_SECOND == 0:
            self._listener_config.take_up_renewed()
        if os.getppid() != self._parent and not self.should_exit:
            log.warning("The process that started this one is gone; this one ends too.")
            # As by a signal: requests under way still get an answer.
            self.should_exit = True
        return await super().on_tick(counter)


class FewLines(logging.Filter):
    """Passes at most ten lines a minute from one place in the code.

    Otherwise anybody could fill the disk by being refused.
    """

    def __init__(self, now_fn: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_fn = now_fn
        # Beginning of the window and number of lines in it, by place.
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written, and add to it how many before it were not."""
        where, now = (record.pathname, record.lineno), self._now_fn()
        begin, lines = self._seen.get(where, (now, 0))
        if now - begin >= _LINES_WINDOW_S:
            if lines > _MOST_LINES:
                omitted = f"({lines - _MOST_LINES} such lines were left out)"
                record.msg = f"{record.getMessage()} {omitted}"
                record.args = None
            begin, lines = now, 0
        self._seen[where] = (begin, lines + 1)
        return lines < _MOST_LINES


def name_of(client: tuple[str, int] | None) -> str:
    """Return the name of a client for the log."""
    return f"{client[0]}:{client[1]}" if client else "an unknown peer"


def listen(address: str) -> Listener:
    """Listen on HOST:PORT.

    Raises:
        ConfigError: if the address cannot be used.
    """
    host, port = split_address(address, "listen")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"listen={address} cannot be used ({error}); name an address of this machine that is"
            " free."
        ) from None
    listener = Listener(family, socket.SOCK_STREAM, fileno=made.detach())
    # Connections inherit it. asyncio does not set it if it did not make the listener itself, which
    # costs 40 ms per request.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def split_address(address: str, name: str) -> tuple[str, int]:
    """Split HOST:PORT.

    Args:
        address: the address; an IPv6 host is in brackets.
        name: name of the setting that it comes from, for the error.

    Raises:
        ConfigError: if it is not HOST:PORT.
    """
    host, _, port = address.rpartition(":")
    # isdecimal, since int() takes "+1", " 1" and "1_0" too.
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"Expected {name}={address!r} as HOST:PORT.")
    return host.removeprefix("[").removesuffix("]"), int(port)


__all__ = [
    "App",
    "Event",
    "FewLines",
    "Limits",
    "Listener",
    "ListenerConfig",
    "Receive",
    "Scope",
    "Send",
    "Server",
    "listen",
    "name_of",
    "split_address",
]
