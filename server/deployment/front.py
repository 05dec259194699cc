"""The coordinator's door: a TLS front that lets institutions reach the fleet API of a SuperLink, and nothing else of it.

A SuperLink serves three APIs on one port: the fleet API, which SuperNodes sign in to, and the
control and runtime APIs, of which the first has no authentication. So it listens on loopback, and
this process, which knows the twelve paths that SuperNodes use, stands before it. It authenticates
nobody; that stays the SuperLink's part. But it refuses nodes of another minor release of Flower,
which SuperLink 1.41 lets pass, and it tells in its log who was refused.

What a SuperNode makes of an answer decides what is sent. It tries again after 502, 503, 504 and
after a lost connection; 401 ends it, 403 makes it drop a reply, anything else ends the call for
good. So whatever may pass by itself is 503 here, also a body that stalls, for which HTTP has 408;
off the paths it is 404, and too large a body is 413. A heartbeat that is answered with 500, as a
SuperLink does while its database is locked, would be a SuperNode's last: it is 503 too.

Bodies and answers are whole in memory before they are passed on. An object travels in chunks of 5
MB, so 16 MiB a body hold every message; in return slow institutions occupy no connection of the
SuperLink, it never sees half a body, and an answer that breaks off is still a 503. All bodies
together may hold 16 times the largest one; what exceeds that is told to come again.

Not covered: a TLS handshake that stalls is cut by asyncio after 60 s and is not counted; nobody is
limited by address, so a flood needs a firewall; a body may be as slow as 4 KiB/s. A connection that
is closed during its handshake, as may happen to one while this process ends, is a certificate's
error to a SuperNode, which gives up: it needs a supervisor.
"""

import argparse
import asyncio
import base64
import contextlib
import logging
import signal
import socket
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from confide.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, ConfigError
from confide.flower.explain import INCOMPATIBLE_STATUS, incompatibility, incompatibility_body
from confide.security import ec_keys
from confide.server.deployment.listener import (
    App,
    Config,
    FewLines,
    Limits,
    Listener,
    Receive,
    Scope,
    Send,
    Server,
    name_of,
)

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
"""Every path that a SuperNode posts to."""
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
"""What is passed on of a request; its length is told anew."""
ANSWER_HEADERS = frozenset(
    {b"content-encoding", b"content-type", b"flwr-version-incompatibility-message"}
)
"""What is passed on of an answer; its length is told anew."""

_MIB = 1024 * 1024
_MOST_BODIES = 16
_SLOWEST_BYTES_PER_S = 4096
_PIECE = 64 * 1024
_CONNECT_TIMEOUT_S = 5.0
_UPSTREAM_IDLE_S = 3.0
"""Shorter than the 5 s after which a SuperLink drops an idle connection: nothing is written into
one that closes."""
_LONGEST_SHOWN, _LONGEST_KEY = 80, 1000
_KEY = b"flwr-public-key"
_REFUSALS = {
    401: "its key is not registered, its signature is wrong, or its clock differs by more than 5 s",
    412: "its key is not registered, or its SuperNode vanished less than a minute ago",
}
"""RequestHandler of the SuperLink that mean that a node may not take part."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The SuperLink.

    Attributes:
        address: HOST:PORT; its certificate must name this host.
        ca: file of the authority that signed its certificate.
        timeout_s: longest silence of it before an answer is given up, > 0.
    """

    address: str
    ca: Path
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        _split_address(self.address, "upstream")
        if not self.timeout_s > 0:
            raise ConfigError(f"Expected timeout_s={self.timeout_s} > 0.")


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class _RefusalError(Exception):
    """An answer that this process gives by itself; with a reason for the log."""

    def __init__(self, status: int, reason: str, *, close: bool = True) -> None:
        super().__init__(reason)
        headers = [(b"connection", b"close")] if close else []
        self.answer = _Answer(
            status=status, headers=headers + ([(b"retry-after", b"1")] if status == 503 else [])
        )


class _ClientGoneError(Exception):
    """Nobody waits for the answer."""


def create_app(upstream: Upstream, limits: Limits) -> App:
    """Make the ASGI application.

    Args:
        upstream: the SuperLink.
        limits: what anybody may ask.

    Raises:
        ConfigError: if the upstream's authority cannot be read.
    """
    return _Front(upstream, limits)


class _Front:
    """Passes fleet requests on; holds the pool of connections to the SuperLink."""

    def __init__(self, upstream: Upstream, limits: Limits) -> None:
        self._url = f"https://{upstream.address}"
        self._limits = limits
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
            trust_env=False,
            timeout=httpx.Timeout(
                upstream.timeout_s, connect=min(_CONNECT_TIMEOUT_S, upstream.timeout_s)
            ),
            limits=httpx.Limits(
                max_connections=64, max_keepalive_connections=32, keepalive_expiry=_UPSTREAM_IDLE_S
            ),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._handle(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._client.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except _ClientGoneError:
            return
        except _RefusalError as refusal:
            answer = refusal.answer
            log.warning("%s: %d, %s", _shown(scope), answer.status, refusal)
        except asyncio.CancelledError:  # this process ends
            answer = _RefusalError(503, "").answer
        # A send that was cut leaves the answer incomplete; the server then closes the connection.
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await _send_answer(answer, send, self._limits.stall_s)

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer:
        path = scope["raw_path"].decode("latin-1")
        if scope["method"] != "POST" or path not in PATHS or scope["query_string"]:
            raise _RefusalError(404, "not a fleet request")
        headers = dict(scope["headers"])
        version = headers.get(b"flwr-package-version")
        told = incompatibility(None if version is None else version.decode("latin-1"))
        if told is not None:
            _tell_refused(scope, INCOMPATIBLE_STATUS, told)
            content_type = [(b"content-type", b"application/json")]
            return _Answer(
                status=INCOMPATIBLE_STATUS, headers=content_type, body=incompatibility_body(told)
            )
        body = bytearray()
        try:
            await self._read(scope, receive, body)
            answer = await self._forward(path, scope, bytes(body))
        finally:
            self._held -= len(body)
        if answer.status in _REFUSALS and _KEY in headers:
            _tell_refused(scope, answer.status, _REFUSALS[answer.status])
        return answer

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        """Append a request's body to ``body``."""
        declared = next(
            (int(value) for name, value in scope["headers"] if name == b"content-length"), 0
        )
        self._check_room(declared, declared)
        start, stall_s = time.monotonic(), self._limits.stall_s
        more = True
        while more:
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
            raise _RefusalError(503, f"{self._held} bytes of bodies are held already")

    async def _forward(self, path: str, scope: Scope, body: bytes) -> _Answer:
        # Not `build_request`, which would add headers, and cookies that an answer to somebody else
        # may have set.
        headers = [header for header in scope["headers"] if header[0] in REQUEST_HEADERS]
        request = httpx.Request("POST", self._url + path, headers=headers, content=body)
        try:
            response = await self._client.send(request, stream=True)
            try:
                content = await self._content(response)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            reason = f"the SuperLink does not answer ({type(error).__name__}: {error})"
            raise _RefusalError(503, reason, close=False) from None
        if response.status_code == 429 or (response.status_code == 500 and path == _HEARTBEAT):
            raise _RefusalError(503, f"the SuperLink answers {response.status_code}", close=False)
        passed = [
            (name.lower(), value)
            for name, value in response.headers.raw
            if name.lower() in ANSWER_HEADERS
        ]
        return _Answer(status=response.status_code, headers=passed, body=content)

    async def _content(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > self._limits.max_body:
                reason = (
                    f"the answer exceeds {self._limits.max_body} bytes; --max-body-mb allows more"
                )
                raise _RefusalError(503, reason, close=False)
        return bytes(content)


async def _send_answer(answer: _Answer, send: Send, stall_s: float) -> None:
    """Send piece by piece, so that a client that does not read is noticed."""
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    for start in range(0, max(1, len(answer.body)), _PIECE):
        end = start + _PIECE
        event = {
            "type": "http.response.body",
            "body": answer.body[start:end],
            "more_body": end < len(answer.body),
        }
        await asyncio.wait_for(send(event), stall_s)


def _tell_refused(scope: Scope, status: int, why: str) -> None:
    """Tell of a node that may not take part.

    At a place of its own, so that no noise of other strangers hides it.
    """
    log.warning(
        "%s: %d, refused, %s, %s", _shown(scope), status, why, _key_of(dict(scope["headers"]))
    )


def _key_of(headers: Mapping[bytes, bytes]) -> str:
    """Name a node by the fingerprint of the key that it shows, as ``ssh-keygen -l`` prints it.

    Unproven.
    """
    shown = headers.get(_KEY, b"")
    try:
        key = (
            load_pem_public_key(base64.b64decode(shown, validate=True))
            if 0 < len(shown) <= _LONGEST_KEY
            else None
        )
    except (ValueError, UnsupportedAlgorithm):
        key = None
    return f"key {ec_keys.key_fingerprint(key)}" if isinstance(key, ec_keys.PublicKey) else "no key"


def _shown(scope: Scope) -> str:
    """Name a request in the log, in few characters that a terminal cannot mistake."""
    target = ascii(scope["raw_path"].decode("latin-1"))
    shown = target if len(target) <= _LONGEST_SHOWN else f"{target[:_LONGEST_SHOWN]}..."
    return f"{scope['method'][:10]} {shown} from {name_of(scope['client'])}"


# --- the command


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM, or until the parent process is gone.

    Args:
        argv: the words of the command.

    Returns:
        The exit status.
    """
    try:
        arguments = _parser().parse_args(list(argv))
    except SystemExit as stop:
        return int(stop.code or 0)
    _log_to_stderr()
    try:
        limits = Limits(
            max_body=arguments.max_body_mb * _MIB,
            stall_s=arguments.stall_s,
            max_connections=arguments.max_connections,
        )
        upstream = Upstream(
            address=arguments.upstream,
            ca=arguments.upstream_ca,
            timeout_s=arguments.upstream_timeout_s,
        )
        config = Config(
            create_app(upstream, limits),
            limits,
            certificate=arguments.certificate,
            key=arguments.key,
        )
        _load(config)
        listener = _listen(arguments.listen)
    except ConfigError as error:
        print(f"confide.server.deployment.front: {error}", file=sys.stderr)
        return EXIT_USAGE
    host, port = listener.getsockname()[:2]
    log.info("Listening on %s:%d before https://%s.", host, port, upstream.address)
    return _serve(config, listener)


def _serve(config: Config, listener: socket.socket) -> int:
    server = Server(config)
    # uvicorn heeds both, then raises them again for these; a shell may have had SIGINT ignored.
    signal.signal(signal.SIGTERM, server.handle_exit)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        server.run([listener])
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0 if server.started else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m confide.server.deployment.front", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--listen",
        required=True,
        metavar="HOST:PORT",
        help="where institutions connect; port 0 for any",
    )
    parser.add_argument(
        "--certificate", required=True, type=Path, help="this server's certificate, PEM"
    )
    parser.add_argument("--key", required=True, type=Path, help="its private key, PEM")
    parser.add_argument(
        "--upstream", required=True, metavar="HOST:PORT", help="the SuperLink, on loopback"
    )
    parser.add_argument(
        "--upstream-ca",
        required=True,
        type=Path,
        help="the authority of the SuperLink's certificate, PEM",
    )
    parser.add_argument(
        "--upstream-timeout-s", type=float, default=Upstream.timeout_s, help="default %(default)g"
    )
    parser.add_argument(
        "--max-body-mb",
        type=int,
        default=Limits.max_body // _MIB,
        help="in MiB; default %(default)d",
    )
    parser.add_argument(
        "--stall-s",
        type=float,
        default=Limits.stall_s,
        help="silence that is cut; default %(default)g",
    )
    parser.add_argument(
        "--max-connections", type=int, default=Limits.max_connections, help="default %(default)d"
    )
    return parser


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.addFilter(FewLines())
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING, handlers=[handler]
    )
    log.setLevel(logging.INFO)


def _load(config: Config) -> None:
    try:
        config.load()
    except OSError as error:
        files = f"certificate={config.ssl_certfile} and key={config.ssl_keyfile}"
        raise ConfigError(
            f"{files} cannot be used ({error}); name PEM files that belong together."
        ) from None


def _listen(address: str) -> socket.socket:
    host, port = _split_address(address, "listen")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"listen={address} cannot be used ({error}); name an address of this machine that is"
            " free."
        ) from None
    listener = Listener(family, socket.SOCK_STREAM, fileno=made.detach())
    # Connections inherit it; asyncio does not set it on a listener made elsewhere, which costs 40
    # ms a request.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _split_address(address: str, name: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"Expected {name}={address!r} as HOST:PORT.")
    return host.removeprefix("[").removesuffix("]"), int(port)


__all__ = ["ANSWER_HEADERS", "PATHS", "REQUEST_HEADERS", "Limits", "Upstream", "create_app", "main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
