"""Connections before they are any: accepted, bounded while they shake hands, and told of.

A stranger costs a connection of this process until its handshake is done or given up. So of those
that are under way there are not more than of connections, the oldest one makes room for the next,
and each has ten seconds.
"""

import asyncio
import contextlib
import contextvars
import logging
import socket
import ssl
import time
from typing import Any

from confide.errors import ConfigError

HANDSHAKE_S = 10.0
"""Longest handshake; a slow network needs a few round trips."""
_TOLD_S = 1.0
"""For a client to hear that its certificate is refused."""
_MOST_ENDING = 64
"""Connections that were given up and that asyncio has not closed yet."""

log = logging.getLogger(__name__)


class Handshakes:
    """Connections whose handshake is under way.

    Args:
        most: that may be under way at a time, >= 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # By file descriptor, which tells when a connection is done; the oldest first
        self._under_way: dict[int, tuple[socket.socket, float]] = {}
        self._ending: list[socket.socket] = []

    @property
    def is_behind(self) -> bool:
        """Whether connections that were given up have to be closed before more are accepted."""
        self._ending = [it for it in self._ending if it.fileno() != -1]
        return len(self._ending) >= _MOST_ENDING

    def begin(self, connection: socket.socket) -> None:
        """Take a connection in, and give up the oldest one if there are too many."""
        number = connection.fileno()
        self._under_way.pop(number, None)  # of one that was closed
        self._under_way[number] = connection, time.monotonic()
        if len(self._under_way) > self._most:
            self._forget_closed()
        if len(self._under_way) > self._most:
            self._give_up(next(iter(self._under_way)), "others came")

    def done(self, number: int) -> None:
        """Hear that the connection with a file descriptor is one."""
        self._under_way.pop(number, None)

    def give_up_late(self) -> None:
        """Give up those that take too long."""
        late = time.monotonic() - HANDSHAKE_S
        for number in [it for it, (_, begun) in self._under_way.items() if begun < late]:
            self._give_up(number, f"it takes more than {HANDSHAKE_S:g} s")

    def _forget_closed(self) -> None:
        open_ones = {it: one for it, one in self._under_way.items() if one[0].fileno() == it}
        self._under_way = open_ones

    def _give_up(self, number: int, why: str) -> None:
        connection, _ = self._under_way.pop(number)
        if connection.fileno() != number:
            return
        self._ending.append(connection)
        with contextlib.suppress(OSError):  # it may have left by itself
            peer = name_of(connection.getpeername()[:2])
            log.warning("TLS with %s given up before it shook hands: %s.", peer, why)
            # asyncio closes what has ended; closed here, its number could be another's
            connection.shutdown(socket.SHUT_RDWR)


_peer: contextvars.ContextVar[tuple[str, int] | None] = contextvars.ContextVar("peer", default=None)
_accepted: contextvars.ContextVar[socket.socket | None] = contextvars.ContextVar(
    "accepted", default=None
)


class Listener(socket.socket):
    """A listening socket that remembers the peer of a connection for the log of its handshake.

    asyncio does not pass it on. But the task of a connection begins with a copy of the context in
    which it was accepted, so a context variable does.
    """

    handshakes: Handshakes

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            BlockingIOError: if others have to be closed first; asyncio comes again.
        """
        if self.handshakes.is_behind:
            raise BlockingIOError
        connection, peer = super().accept()
        _peer.set(peer[:2])
        _accepted.set(connection)
        self.handshakes.begin(connection)
        return connection, peer


_CERTIFICATE_PROBLEMS = ("DID_NOT_RETURN_A_CERTIFICATE", "CERTIFICATE_VERIFY_FAILED")
"""Those of the certificate that a client shows."""
_HANDSHAKE_PROBLEMS = {
    "UNKNOWN_CA": (
        "it knows another authority, so its ca.crt is not this federation's (or its server-ca.crt,"
        " where an external authority signed server.crt)"
    ),
    "CERTIFICATE_EXPIRED": "it finds this server's certificate expired, or its clock is wrong",
    "BAD_CERTIFICATE": (
        "it does not accept this server's certificate, for instance for the host that it called"
    ),
    "DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate, which is asked for",
    "CERTIFICATE_VERIFY_FAILED": "it shows a certificate of others, or one that ended",
    "HTTP_REQUEST": "it speaks HTTP without TLS",
}
"""OpenSSL's reasons, by their ends, in words about the client."""


class LoggedHandshakes(ssl.SSLObject):
    """Logs handshakes that fail.

    Only there a client says that it does not trust this server's certificate, and asyncio drops the
    error.
    """

    _refused: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        """Shake hands, as far as bytes have come."""
        if self._refused is not None:
            raise self._refused
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
            if not reason.endswith(_CERTIFICATE_PROBLEMS):
                raise
            # asyncio would drop the alert that says so to the client, which then takes this for a
            # coordinator that is not there. It is sent where more bytes are said to be needed.
            self._refused = error
            asyncio.get_running_loop().call_later(_TOLD_S, _end, _accepted.get())
            raise ssl.SSLWantReadError from None


def _end(connection: socket.socket | None) -> None:
    """End a connection that was refused and goes on; asyncio closes it."""
    if connection is not None and connection.fileno() != -1:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def name_of(client: tuple[str, int] | None) -> str:
    """Return the name of a client for the log."""
    return f"{client[0]}:{client[1]}" if client else "an unknown peer"


def listen(address: str, handshakes: Handshakes) -> Listener:
    """Listen on HOST:PORT.

    Args:
        address: HOST:PORT.
        handshakes: those of the connections that are accepted.

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
    listener.handshakes = handshakes
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
    "HANDSHAKE_S",
    "Handshakes",
    "Listener",
    "LoggedHandshakes",
    "listen",
    "name_of",
    "split_address",
]
