"""A TLS server for clients that are not trusted, with limits and an end when its parent ends.

It is uvicorn with h11, which limits the size of a request head, and four things that it lacks:
a deadline for heads, a limit on connections that keeps serving those that exist, a certificate that
is renewed while it serves, and an end when the process that started it has ended.
"""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from confide.errors import ConfigError, UnreadableError
from confide.security.ec_keys import is_p384, key_fingerprint
from confide.security.passphrases import passphrase_for
from confide.server.deployment.handshakes import Handshakes, LoggedHandshakes, name_of
from confide.server.deployment.revoked import RevokedKeys
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
    """Settings of the server, and the limits that apply before there is a request.

    Args:
        app: the ASGI application.
        limits: of what a client may ask.
        certificate: file of the server's certificate, PEM.
        key: file of its private key, PEM, encrypted or not.
        client_ca: file of the authority whose certificate a client must show; None asks for none.
        revoked: keys whose certificates count no more; None for none.
    """

    def __init__(
        self,
        app: App,
        limits: Limits,
        *,
        certificate: Path,
        key: Path,
        client_ca: Path | None = None,
        revoked: RevokedKeys | None = None,
    ) -> None:
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
            ssl_cert_reqs=ssl.CERT_NONE if client_ca is None else ssl.CERT_REQUIRED,
            ssl_ca_certs=None if client_ca is None else str(client_ca),
            ssl_ciphers=_CIPHERS,
            ssl_context_factory=_server_context,
        )
        self.limits, self.revoked = limits, revoked
        self.handshakes = Handshakes(limits.max_connections)
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
    context.sslobject_class = LoggedHandshakes
    return context


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
        self._config, self._limits = config, config.limits
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base class
        super().connection_made(transport)
        self._config.handshakes.done(transport.get_extra_info("socket").fileno())
        revoked = self._revoked_since(transport)
        if revoked is not None:
            log.warning("Connection from %s closed: its key was revoked on %s.", *revoked)
            transport.abort()
        elif len(self.connections) > self._limits.max_connections:
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

    def _revoked_since(self, transport: asyncio.Transport) -> tuple[str, str] | None:
        """Return who shows a certificate whose key was revoked, and since when."""
        revoked = None if self._config.revoked is None else self._config.revoked.now()
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if revoked is None or not revoked.keys or shown is None:
            return None
        key = x509.load_der_x509_certificate(shown).public_key()
        entry = revoked.get(key_fingerprint(key)) if is_p384(key) else None
        return None if entry is None else (name_of(self.client), entry.since)

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
            self._listener_config.handshakes.give_up_late()
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


__all__ = [
    "App",
    "Event",
    "FewLines",
    "Limits",
    "ListenerConfig",
    "Receive",
    "Scope",
    "Send",
    "Server",
]
