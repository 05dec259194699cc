"""Connections of HTTP/1.1, each with a limit of size and time before its headers are there.

uvicorn's own protocol waits for headers as long as a client likes, and keeps as many bytes of them
as it sends: a few hundred slow connections would keep everybody else out. So would bodies that
nobody reads, of requests that were refused: it takes them without an end. And it adds the fields
that follow a body in chunks (trailers) to the headers, where they would pass for what was checked.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_LARGEST_HEAD = 2**16
"""Bytes of a request line and headers."""
_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """What connections may take.

    Attributes:
        most: connections open at once.
        read_s: that a request's headers may take to come: the first one's from the connection on,
            any other's from its first byte on; and a body that no one reads.
    """

    most: int
    read_s: float

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        """Make a connection, as uvicorn asks for one."""
        made = Connection(config, server_state, app_state, _loop)
        made.patience = self
        return made


class Connection(HttpToolsProtocol):
    """One connection."""

    patience: Patience
    _head_bytes = 0
    _is_in_head = True
    _head_task: asyncio.TimerHandle | None = None
    _body_task: asyncio.TimerHandle | None = None
    _framing_bytes = 0
    """Bytes since the last part of a body: of a chunk's size and extensions, or of trailers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, unless too many connections are open."""
        super().connection_made(transport)
        if len(self.connections) > self.patience.most:
            self._refuse(503, "Too many connections are open (--max-connections).")
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        self._end_body()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self.transport.is_closing():
            return
        if self._is_in_head:
            self._head_bytes += len(data)
        else:
            self._framing_bytes += len(data)
        super().data_received(data)
        if max(self._head_bytes, self._framing_bytes) > _LARGEST_HEAD:
            self._refuse(431, f"The headers have more than {_LARGEST_HEAD} bytes.")
        # A part of a later request's head; the first one's time runs from the connection on
        elif self._is_in_head and self._head_bytes and self._head_task is None:
            self._wait_for_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are none (RFC 9110, 6.5.1)."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the application have the request; its body is the application's to limit."""
        self._is_in_head, self._head_bytes = False, 0
        self._stop_waiting()
        self._wait_for_body()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect another request."""
        self._is_in_head, self._framing_bytes = True, 0
        self._end_body()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, msg)

    def _wait_for_head(self) -> None:
        self._head_task = self.loop.call_later(self.patience.read_s, self._end_slow)

    def _stop_waiting(self) -> None:
        if self._head_task is not None:
            self._head_task.cancel()
            self._head_task = None

    def _end_slow(self) -> None:
        self._head_task = None
        if not self.transport.is_closing():
            self._refuse(408, f"The headers did not come within {self.patience.read_s:g} s.")

    def _wait_for_body(self) -> None:
        self._body_task = self.loop.call_later(self.patience.read_s, self._end_unread)

    def _end_body(self) -> None:
        if self._body_task is not None:
            self._body_task.cancel()
            self._body_task = None

    def _end_unread(self) -> None:
        """Close where the answer is there and its request's body is not; else look again."""
        if self.transport.is_closing():
            return
        if self.cycle.response_complete:
            self.transport.close()
        else:  # the application reads it, or its turn has not come yet
            self._wait_for_body()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer what never became a request, unless an answer is under way; then close."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_answer(status, reason))
        self.transport.close()


def _answer(status: int, reason: str) -> bytes:
    body = json.dumps({"error": reason}).encode()
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


__all__ = ["Connection", "Patience"]
