"""Passes an institution's requests on to a SuperLink, and nothing but the fleet API's.

The status of an answer is chosen by what a SuperNode makes of it. It retries after 502, 503, 504
and a lost connection; 401 ends it, 403 makes it drop a reply, and anything else ends the call for
good. So whatever may pass by itself is 503 here, even a body that stalls, for which HTTP has 408;
off the paths it is 404, and too large a body is 413. A SuperLink answers a heartbeat with 500 while
its database is locked, and a SuperNode would send no other after it: that becomes 503 too.

Bodies and answers are held in memory as a whole before they are passed on. An object travels in
chunks of 5 MB, so 16 MiB per body are enough for every message; in return slow institutions occupy
no connection of the SuperLink, it never sees half a body, and an answer that breaks off can still
become a 503. All bodies together may take 16 times the largest one; beyond that, senders are asked
to come again.
"""

import asyncio
import base64
import contextlib
import logging
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from confide.errors import ConfigError
from confide.flower.explain import INCOMPATIBLE_STATUS, incompatibility, incompatibility_body
from confide.security import ec_keys
from confide.server.deployment.handshakes import name_of, split_address
from confide.server.deployment.listener import App, Limits, Receive, Scope, Send
from confide.server.deployment.revoked import RevokedKeys

log = logging.getLogger(__name__)

PATHS = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "confirm-message-received",
        "deactivate-node",
        "get-fab",
        "get-run",
        "pull-messages",
        "pull-object",
        "push-messages",
        "push-object",
        "register-node",
        "send-node-heartbeat",
        "unregister-node",
    )
)
"""All paths that a SuperNode posts to."""
_HEARTBEAT = "/v1/fleet/send-node-heartbeat"
REQUEST_HEADERS = frozenset(
    {
        b"accept",
        b"content-type",
        b"flwr-component-name",
        b"flwr-package-name",
        b"flwr-package-version",
        b"flwr-public-key",
        b"flwr-signature",
        b"flwr-timestamp",
    }
)
"""Headers of a request that are passed on; its length is computed again."""
ANSWER_HEADERS = frozenset(
    {b"content-encoding", b"content-type", b"flwr-version-incompatibility-message"}
)
"""Headers of an answer that are passed on; its length is computed again."""

_MOST_BODIES = 16
_SLOWEST_BYTES_PER_S = 4096
_PIECE = 64 * 1024
_CONNECT_TIMEOUT_S = 5.0
_UPSTREAM_IDLE_S = 3.0
"""Shorter than the 5 s after which a SuperLink closes an idle connection, into which a request
could otherwise be written."""
_LONGEST_SHOWN = 80
_LONGEST_KEY = 1000
_KEY = b"flwr-public-key"
_REFUSALS = {
    401: "its key is not registered, its signature is wrong, or its clock differs by more than 5 s",
    412: "its key is not registered, or its SuperNode vanished less than a minute ago",
}
"""Statuses with which a SuperLink refuses a node, and their possible reasons."""


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The SuperLink behind this process.

    Attributes:
        address: HOST:PORT; the SuperLink's certificate must name this host.
        ca: file of the certificate of the authority that signed the SuperLink's.
        timeout_s: longest silence of the SuperLink within one answer, in seconds, > 0.
    """

    address: str
    ca: Path
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        split_address(self.address, "upstream")
        if not self.timeout_s > 0:
            raise ConfigError(f"Expected timeout_s={self.timeout_s} > 0.")


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def send(self, send: Send, stall_s: float) -> None:
        """Send it piece by piece, so that a client that does not read is noticed."""
        headers = [*self.headers, (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        # An empty body takes one piece too: ASGI knows by it that the answer is complete.
        for start in range(0, max(1, len(self.body)), _PIECE):
            end = start + _PIECE
            event = {
                "type": "http.response.body",
                "body": self.body[start:end],
                "more_body": end < len(self.body),
            }
            await asyncio.wait_for(send(event), stall_s)


class _RefusalError(Exception):
    """An answer of this process itself, with a reason for the log."""

    def __init__(self, status: int, reason: str, *, close: bool = True) -> None:
        super().__init__(reason)
        # Closed where the rest of a body may not have been read.
        headers = [(b"connection", b"close")] if close else []
        if status == 503:
            headers.append((b"retry-after", b"1"))
        self.answer = _Answer(status=status, headers=headers)


class _ClientGoneError(Exception):
    """The connection was closed, so nobody waits for the answer."""


def create_app(upstream: Upstream, limits: Limits, revoked: RevokedKeys | None = None) -> App:
    """Make the ASGI application.

    Args:
        upstream: the SuperLink.
        limits: limits of what a client may ask.
        revoked: keys whose requests are not passed on; None for none.

    Raises:
        ConfigError: if the certificate of the upstream's authority cannot be read.
    """
    return _FleetProxy(upstream, limits, revoked)


class _FleetProxy:
    """The ASGI application, with its pool of connections to the SuperLink."""

    def __init__(
        self, upstream: Upstream, limits: Limits, revoked: RevokedKeys | None = None
    ) -> None:
        self._url = f"https://{upstream.address}"
        self._limits, self._revoked = limits, revoked
        self._held = 0
        try:
            verify = ssl.create_default_context(cafile=upstream.ca)
        except OSError as error:
            raise ConfigError(
                f"upstream_ca={upstream.ca} cannot be used ({error}); name a PEM file."
            ) from None
        verify.minimum_version = ssl.TLSVersion.TLSv1_2
        self._client = httpx.AsyncClient(
            verify=verify,
            # Without the environment's proxies and certificates: the SuperLink is on loopback.
            trust_env=False,
            timeout=httpx.Timeout(
                upstream.timeout_s, connect=min(_CONNECT_TIMEOUT_S, upstream.timeout_s)
            ),
            limits=httpx.Limits(
                max_connections=64, max_keepalive_connections=32, keepalive_expiry=_UPSTREAM_IDLE_S
            ),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._handle(scope, receive, send)
        elif scope["type"] == "lifespan":
            # ASGI calls once with this scope: the second event comes when the server ends.
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._client.aclose()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "websocket.close"})

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except _ClientGoneError:
            return
        except _RefusalError as refusal:
            answer = refusal.answer
            log.warning("%s: %d, %s", _describe(scope), answer.status, refusal)
        except asyncio.CancelledError:
            # uvicorn cancels requests when this process ends; a SuperNode then tries again.
            answer = _RefusalError(503, "").answer
        # A send that is cut off leaves the answer incomplete; uvicorn then closes the connection.
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await answer.send(send, self._limits.stall_s)

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer:
        path = scope["raw_path"].decode("latin-1")
        if scope["method"] != "POST" or path not in PATHS or scope["query_string"]:
            raise _RefusalError(404, "not a fleet request")
        headers = dict(scope["headers"])
        version = headers.get(b"flwr-package-version")
        reason = incompatibility(None if version is None else version.decode("latin-1"))
        if reason is not None:
            _log_refused_node(scope, INCOMPATIBLE_STATUS, reason)
            content_type = [(b"content-type", b"application/json")]
            return _Answer(
                status=INCOMPATIBLE_STATUS, headers=content_type, body=incompatibility_body(reason)
            )
        reason = self._why_revoked(scope)
        if reason is not None:
            _log_refused_node(scope, 401, reason)
            return _Answer(status=401)
        # Filled by `_read` and not returned, so that what was counted as held is also released if
        # the body breaks off.
        body = bytearray()
        try:
            await self._read(scope, receive, body)
            answer = await self._forward(path, scope, bytes(body))
        finally:
            self._held -= len(body)
        if answer.status in _REFUSALS and _KEY in headers:
            _log_refused_node(scope, answer.status, _REFUSALS[answer.status])
        return answer

    def _why_revoked(self, scope: Scope) -> str | None:
        """Return why a node's key counts no more; None if it does."""
        revoked = None if self._revoked is None else self._revoked.now()
        if revoked is None or not revoked.keys:
            return None
        # Each that is shown: which of several the SuperLink would take is not known here
        for name, value in scope["headers"]:
            entry = revoked.get(_fingerprint_in(value) or "") if name == _KEY else None
            if entry is not None:
                return f"its key was revoked on {entry.since}"
        return None

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        """Append a request's body to ``body``, and count its bytes as held."""
        declared = next(
            (int(value) for name, value in scope["headers"] if name == b"content-length"), 0
        )
        # By its declared length first, so that a body too large is refused before it is sent.
        self._check_room(declared, declared)
        start, stall_s = time.monotonic(), self._limits.stall_s
        more = True
        while more:
            # A sender must not stall, and in all not be slower than the slowest allowed.
            left_s = start + stall_s + len(body) / _SLOWEST_BYTES_PER_S - time.monotonic()
            try:
                event = await asyncio.wait_for(receive(), min(stall_s, left_s))
            except TimeoutError:
                raise _RefusalError(503, f"its body stalls after {len(body)} bytes") from None
            if event["type"] == "http.disconnect":
                raise _ClientGoneError
            chunk = event.get("body", b"")
            self._check_room(len(body) + len(chunk), len(chunk))
            body += chunk
            self._held += len(chunk)
            more = event.get("more_body", False)

    def _check_room(self, size: int, more: int) -> None:
        largest = self._limits.max_body
        if size > largest:
            raise _RefusalError(413, f"its body exceeds {largest} bytes; --max-body-mb allows more")
        if self._held + more > _MOST_BODIES * largest:
            raise _RefusalError(503, f"bodies of {self._held} bytes are held already")

    async def _forward(self, path: str, scope: Scope, body: bytes) -> _Answer:
        # Not `build_request`, which would add headers, and cookies from answers to other nodes.
        headers = [header for header in scope["headers"] if header[0] in REQUEST_HEADERS]
        request = httpx.Request("POST", self._url + path, headers=headers, content=body)
        content = bytearray()
        largest = self._limits.max_body
        try:
            response = await self._client.send(request, stream=True)
            async with contextlib.aclosing(response):
                # Not decompressed: the client gets the bytes that the SuperLink sent.
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > largest:
                        reason = f"the answer exceeds {largest} bytes; --max-body-mb allows more"
                        raise _RefusalError(503, reason, close=False)
        except httpx.HTTPError as error:
            reason = f"the SuperLink does not answer ({type(error).__name__}: {error})"
            raise _RefusalError(503, reason, close=False) from None
        # A SuperNode takes neither for something that passes, and would give up.
        if response.status_code == 429 or (response.status_code == 500 and path == _HEARTBEAT):
            raise _RefusalError(503, f"the SuperLink answers {response.status_code}", close=False)
        passed = [
            (name.lower(), value)
            for name, value in response.headers.raw
            if name.lower() in ANSWER_HEADERS
        ]
        return _Answer(status=response.status_code, headers=passed, body=bytes(content))


def _log_refused_node(scope: Scope, status: int, reason: str) -> None:
    """Log a node that may not take part, with the key that it shows, which proves nothing."""
    fingerprint = _fingerprint_in(dict(scope["headers"]).get(_KEY, b""))
    shown = "no key" if fingerprint is None else f"key {fingerprint}"
    # At one place of its own in the code, which `FewLines` counts by, so that other strangers'
    # noise does not hide it. `confide doctor` reads this line.
    log.warning("%s: %d, refused, %s, %s", _describe(scope), status, reason, shown)


def _fingerprint_in(header: bytes) -> str | None:
    """Return a node's key by its fingerprint, as ``ssh-keygen -l`` prints it; None if none."""
    # Bounded before it is parsed: strangers choose this header. Parsed as the SuperLink does, so
    # that no key is another one here.
    if 0 < len(header) <= _LONGEST_KEY:
        with contextlib.suppress(ValueError, UnsupportedAlgorithm):
            key = load_pem_public_key(base64.b64decode(header, validate=True))
            if isinstance(key, ec_keys.PublicKey):
                return ec_keys.key_fingerprint(key)
    return None


def _describe(scope: Scope) -> str:
    """Describe a request for the log, in few characters and without control characters."""
    target = ascii(scope["raw_path"].decode("latin-1"))
    shown = target if len(target) <= _LONGEST_SHOWN else f"{target[:_LONGEST_SHOWN]}..."
    return f"{scope['method'][:10]} {shown} from {name_of(scope['client'])}"


__all__ = ["ANSWER_HEADERS", "PATHS", "REQUEST_HEADERS", "Upstream", "create_app"]
