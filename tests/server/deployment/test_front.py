"""The front: what passes, what does not, and what becomes of it when the network or the SuperLink fails."""

import asyncio
import base64
import concurrent.futures
import contextlib
import datetime
import hashlib
import inspect
import ipaddress
import json
import logging
import math
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from fault_proxy import FaultProxy

from confide.errors import ConfigError
from confide.security import pki
from confide.server.deployment.front import (
    PATHS,
    REQUEST_HEADERS,
    Limits,
    Upstream,
    create_app,
    main,
)
from confide.server.deployment.listener import FewLines

ROOT = Path(__file__).parent.parent.parent.parent
HOST = "127.0.0.1"
PULL = "/v1/fleet/pull-messages"
PUSH = "/v1/fleet/push-object"
MIB = 1024 * 1024
STALL_S, UPSTREAM_TIMEOUT_S = 1.0, 1.0
MAX_CONNECTIONS = 40
PATIENCE_S = 10.0
SCOPE = {"method": "POST", "query_string": b"", "headers": [], "client": None}
MakeProxy = Callable[[int], FaultProxy]


# --- certificates


def _names(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_names(subject))
        .issuer_name(_names("ca"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    others = {
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
    }
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
        **others,
    )


@dataclass(frozen=True)
class Certificates:
    """An authority and a server's certificate for 127.0.0.1, as files."""

    ca: Path
    certificate: Path
    key: Path

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificates(folder: Path) -> Certificates:
    folder.mkdir(exist_ok=True)
    made = Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    ca_key, key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    ca = _builder("ca", ca_key, ca_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    ca = ca.add_extension(_usage(ca=True), critical=True)
    leaf = _builder("server", key, ca_key).add_extension(_usage(ca=False), critical=True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    leaf = leaf.add_extension(names, critical=False)
    leaf = leaf.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )
    made.ca.write_bytes(ca.sign(ca_key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(
        leaf.sign(ca_key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)
    )
    pem = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    made.key.write_bytes(key.private_bytes(*pem))
    return made


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


# --- a SuperLink that does as it is told


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: "FakeSuperLink"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if len(body) == int(self.headers["content-length"]):
            self.server.seen.append(
                (self.path, [(name.lower(), value) for name, value in self.headers.items()])
            )
            self.server.answer_fn(self, body)

    def answer(self, status: int, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _digest(handler: _Handler, body: bytes) -> None:
    handler.answer(200, hashlib.sha256(body).digest(), [("Content-Type", "application/protobuf")])


class FakeSuperLink(ThreadingHTTPServer):
    """RequestHandler with the digest of a body, or as told, over TLS on loopback."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__((HOST, 0), _Handler)
        self.seen: list[tuple[str, list[tuple[str, str]]]] = []
        self.answer_fn: Callable[[_Handler, bytes], None] = _digest
        self._context = context
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self._context.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, *_: Any) -> None:
        pass  # connections that tests cut


@pytest.fixture(scope="module")
def _super_link(certificates: Certificates) -> Iterator[FakeSuperLink]:
    made = FakeSuperLink(certificates.server())
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def super_link(_super_link: FakeSuperLink) -> FakeSuperLink:
    _super_link.seen.clear()
    _super_link.answer_fn = _digest
    return _super_link


# --- a front in a process


@dataclass
class FrontProcess:
    """A front that serves."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    certificates: Certificates

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            verify=self.certificates.client(),
            trust_env=False,
            timeout=PATIENCE_S,
            **options,
        )

    def raw(self, port: int | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection((HOST, port or self.port), timeout=PATIENCE_S)
        return self.certificates.client().wrap_socket(plain, server_hostname=HOST)


def front_command(certificates: Certificates, upstream_port: int, *options: str) -> list[str]:
    files = [
        "--certificate",
        certificates.certificate,
        "--key",
        certificates.key,
        "--upstream-ca",
        certificates.ca,
    ]
    command = [
        sys.executable,
        "-m",
        "confide.server.deployment.front",
        "--listen",
        f"{HOST}:0",
        *map(str, files),
    ]
    return [
        *command,
        "--upstream",
        f"{HOST}:{upstream_port}",
        "--upstream-timeout-s",
        f"{UPSTREAM_TIMEOUT_S}",
        *options,
    ]


def wait_for_port(log: Path) -> int:
    return int(eventually(lambda: re.search(r"Listening on \S+:(\d+) ", log.read_text()), log)[1])


def eventually(look_fn: Callable[[], Any], log: Path | None = None) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look_fn()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain; {log.read_text() if log else ''}")
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def running_front(
    certificates: Certificates, folder: Path, upstream_port: int, *options: str
) -> Iterator[FrontProcess]:
    log = folder / "front.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            front_command(certificates, upstream_port, *options), stderr=stderr, cwd=ROOT
        )
    try:
        yield FrontProcess(process, wait_for_port(log), log, certificates)
    finally:
        process.kill()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def front(
    certificates: Certificates, _super_link: FakeSuperLink, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontProcess]:
    options = ["--stall-s", f"{STALL_S}", "--max-connections", f"{MAX_CONNECTIONS}"]
    with running_front(
        certificates, tmp_path_factory.mktemp("front"), _super_link.server_port, *options
    ) as made:
        yield made


@pytest.fixture
def client(front: FrontProcess) -> Iterator[httpx.Client]:
    with front.client() as made:
        yield made


def say(front: FrontProcess, request: bytes, *, port: int | None = None) -> bytes:
    """Send bytes as they are, and return all that comes until the end."""
    with front.raw(port) as connection:
        connection.sendall(request)
        return hear(connection)


def hear(connection: ssl.SSLSocket) -> bytes:
    heard = bytearray()
    with contextlib.suppress(ConnectionResetError, ssl.SSLError):
        while piece := connection.recv(65536):
            heard += piece
    return bytes(heard)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# What passes


def test_paths_are_those_of_flowers_client() -> None:
    from flwr.supernode import fleet_http_client

    assert sorted(PATHS) == sorted(
        re.findall(r'path="([^"]+)"', inspect.getsource(fleet_http_client))
    )


def test_headers_are_those_of_flowers_interceptors() -> None:
    from flwr.common.constant import TIMESTAMP_HEADER
    from flwr.supercore import constant

    signed = {
        TIMESTAMP_HEADER,
        constant.FLEET_HTTP_PUBLIC_KEY_HEADER,
        constant.FLEET_HTTP_SIGNATURE_HEADER,
    }
    versions = {
        getattr(constant, f"FLWR_{name}_METADATA_KEY")
        for name in ("PACKAGE_NAME", "PACKAGE_VERSION", "COMPONENT_NAME")
    }
    assert {name.decode() for name in REQUEST_HEADERS} == signed | versions | {
        "accept",
        "content-type",
    }


@pytest.mark.parametrize("path", sorted(PATHS))
def test_fleet_requests_pass(client: httpx.Client, super_link: FakeSuperLink, path: str) -> None:
    answer = client.post(path, content=b"question")
    assert (answer.status_code, answer.content) == (200, hashlib.sha256(b"question").digest())
    assert [seen for seen, _ in super_link.seen] == [path]


def test_only_headers_that_flower_uses_pass(
    client: httpx.Client, super_link: FakeSuperLink
) -> None:
    super_link.answer_fn = lambda handler, _: handler.answer(
        200,
        b"yes",
        [
            ("Content-Type", "application/protobuf"),
            ("Set-Cookie", "a=b"),
            ("X-Made-By", "upstream"),
        ],
    )
    flower = {name.decode(): "value" for name in REQUEST_HEADERS} | {
        "flwr-package-version": version("flwr")
    }
    others = {
        "authorization": "x",
        "cookie": "x",
        "forwarded": "for=x",
        "te": "trailers",
        "x-flwr-client": "x",
    }
    answer = client.post(PULL, content=b"question", headers=flower | others)
    client.post(PULL, content=b"")
    (_, first), (_, second) = super_link.seen
    assert sorted(first) == sorted(
        [*flower.items(), ("host", f"{HOST}:{super_link.server_port}"), ("content-length", "8")]
    )
    assert {name for name, _ in second} == {"accept", "host", "content-length"}
    assert {**answer.headers, "date": ""} == {
        "date": "",
        "content-type": "application/protobuf",
        "content-length": "3",
    }


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 415, 500, 502, 503])
def test_answers_of_the_superlink_pass_unchanged(
    client: httpx.Client, super_link: FakeSuperLink, status: int
) -> None:
    body = json.dumps({"detail": "Invalid SuperNode authentication"}).encode()
    super_link.answer_fn = lambda handler, _: handler.answer(
        status, body, [("Content-Type", "application/json")]
    )
    answer = client.post(PULL, content=b"")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (
        status,
        body,
        "application/json",
    )


def test_body_of_unknown_length_passes(client: httpx.Client, super_link: FakeSuperLink) -> None:
    answer = client.post(PUSH, content=iter([b"one", b"two"]))
    assert answer.content == hashlib.sha256(b"onetwo").digest()
    assert ("content-length", "6") in super_link.seen[0][1]


def test_twenty_large_objects_pass_at_once(front: FrontProcess, super_link: FakeSuperLink) -> None:
    objects = [bytes([number]) * (5 * MIB) for number in range(20)]
    with front.client() as client, concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda content: client.post(PUSH, content=content), objects))
    assert [answer.content for answer in answers] == [
        hashlib.sha256(content).digest() for content in objects
    ]


def test_large_answer_passes(client: httpx.Client, super_link: FakeSuperLink) -> None:
    super_link.answer_fn = lambda handler, _: handler.answer(200, bytes(5 * MIB))
    assert client.post(PULL, content=b"").content == bytes(5 * MIB)


# What does not


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "*",
        "/v1/control/list-nodes",
        "/v1/runtime/pull-messages",
        "/v1/fleet/",
        "/v1/fleet/pull-messages/",
        "/v1/fleet/pull-messages?a=b",
        "/v1/fleet/pull-messages;a=b",
        "/v1/fleet/pull-messages%00",
        "/v1/fleet/pull-messages#a",
        "/v1/fleet/%70ull-messages",
        "/v1%2Ffleet%2Fpull-messages",
        "/V1/fleet/pull-messages",
        "/v1/fleet/Pull-Messages",
        "//v1/fleet/pull-messages",
        "/v1//fleet/pull-messages",
        "/v1/./fleet/pull-messages",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/pull-messages/../../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/..%2fcontrol/list-nodes",
        "/v1/fleet\\..\\control\\list-nodes",
        "https://127.0.0.1/v1/fleet/pull-messages",
        "https://127.0.0.1:8100/v1/control/list-nodes",
        "v1/fleet/pull-messages",
    ],
)
def test_other_targets_are_not_found(
    front: FrontProcess, super_link: FakeSuperLink, target: str
) -> None:
    answer = say(front, f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    without_date = re.sub(rb"date: [^\r]*\r\n", b"", answer)
    assert (
        without_date == b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
    assert super_link.seen == []


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "post", "PURGE"]
)
def test_other_methods_are_not_found(
    front: FrontProcess, super_link: FakeSuperLink, method: str
) -> None:
    answer = say(front, f"{method} {PULL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert super_link.seen == []


def test_tunnels_and_websockets_are_not_found(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    upgrade = (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key:"
        b" AAAA\r\nSec-WebSocket-Version: 13\r\n"
    )
    assert (
        status_of(
            say(front, b"GET " + PULL.encode() + b" HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        )
        == 404
    )
    assert status_of(say(front, b"CONNECT 127.0.0.1:8100 HTTP/1.1\r\nHost: x\r\n\r\n")) == 404
    assert status_of(say(front, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) == 404
    assert super_link.seen == []


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        (
            b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nContent-Length:"
            b" 1\r\nContent-Length: 2\r\n\r\n"
        ),
        b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(
    front: FrontProcess, super_link: FakeSuperLink, request_: bytes
) -> None:
    with contextlib.suppress(
        ssl.SSLError, ConnectionError
    ):  # it may hang up while a long head is still being sent
        assert status_of(say(front, request_)) == 400
    assert super_link.seen == []


def test_second_request_in_a_body_stays_a_body(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    inner = b"0\r\n\r\nPOST /v1/control/list-nodes HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    both = f"Transfer-Encoding: chunked\r\nContent-Length: {len(inner)}\r\n\r\n".encode()
    say(front, f"POST {PULL} HTTP/1.1\r\nHost: x\r\n".encode() + both + inner)
    assert [path for path, _ in super_link.seen] in ([], [PULL])


def test_plain_http_and_old_tls_are_refused(front: FrontProcess) -> None:
    with socket.create_connection((HOST, front.port), timeout=PATIENCE_S) as plain:
        plain.sendall(b"POST / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert not plain.recv(1024).startswith(b"HTTP")
    old = front.certificates.client()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    plain = socket.create_connection((HOST, front.port), timeout=PATIENCE_S)
    with plain, pytest.raises((ssl.SSLError, ConnectionResetError)):
        old.wrap_socket(plain, server_hostname=HOST)


# Limits


def test_declared_length_above_the_limit_is_refused_before_the_body(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    head = (
        f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length:"
        f" {16 * MIB + 1}\r\n\r\n"
    )
    assert status_of(say(front, head.encode())) == 413
    assert super_link.seen == []


def test_large_body_is_refused_and_its_sender_learns_it(
    client: httpx.Client, super_link: FakeSuperLink
) -> None:
    assert client.post(PUSH, content=bytes(16 * MIB)).status_code == 200
    assert client.post(PUSH, content=iter([bytes(MIB)] * 17)).status_code == 413
    assert client.post(PUSH, content=bytes(18 * MIB)).status_code == 413
    assert len(super_link.seen) == 1


def test_bodies_together_are_bounded_too(
    certificates: Certificates, super_link: FakeSuperLink
) -> None:
    upstream = Upstream(address=f"{HOST}:{super_link.server_port}", ca=certificates.ca)
    app = create_app(upstream, Limits(max_body=1000))

    async def answer(
        *events: dict[str, Any], then: asyncio.Event | None = None, kind: str = "http"
    ) -> int:
        """Serve a request whose body comes in these events.

        After the last it is silent until ``then``.
        """
        coming, sent = list(events), []

        async def receive() -> dict[str, Any]:
            if not coming and then is not None:
                await then.wait()
            return coming.pop(0) if coming else {"type": "http.disconnect"}

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        await app({**SCOPE, "type": kind, "raw_path": PUSH.encode()}, receive, send)
        return sent[0].get("status", 0) if sent else 0

    async def scenario() -> list[int]:
        gone = asyncio.Event()
        part = {"type": "http.request", "body": bytes(1000), "more_body": True}
        held = [asyncio.ensure_future(answer(part, then=gone)) for _ in range(16)]
        await asyncio.sleep(0.01)
        small = {"type": "http.request", "body": b"x"}
        full = await answer(small)
        gone.set()
        statuses = [full, *await asyncio.gather(*held), await answer(small)]
        await answer({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, kind="lifespan")
        return statuses

    assert asyncio.run(scenario()) == [503, *[0] * 16, 200]


def test_stalled_body_is_cut_and_its_sender_may_come_again(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    start = time.monotonic()
    answer = say(
        front, f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc".encode()
    )
    assert (status_of(answer), b"connection: close" in answer) == (503, True)
    assert STALL_S / 2 < time.monotonic() - start < STALL_S + 2
    assert super_link.seen == []


def test_trickling_body_is_cut(front: FrontProcess, super_link: FakeSuperLink) -> None:
    start = time.monotonic()
    with front.raw() as connection:
        connection.sendall(
            f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
        )
        connection.settimeout(STALL_S / 5)
        answer = b""
        while not answer and time.monotonic() - start < PATIENCE_S:
            connection.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1024)
    assert status_of(answer) == 503
    assert time.monotonic() - start < STALL_S + 2
    assert super_link.seen == []


@pytest.mark.parametrize("head", [b"", b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHos"])
def test_stalled_head_is_cut(front: FrontProcess, head: bytes) -> None:
    start = time.monotonic()
    assert say(front, head) == b""
    assert STALL_S / 2 < time.monotonic() - start < STALL_S + 2


def test_trickling_head_is_cut_after_a_first_request_too(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    head = f"POST {PULL} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n".encode()
    start = time.monotonic()
    with front.raw() as connection, contextlib.suppress(OSError):
        connection.sendall(head + b"\r\n" + head + b"X: ")
        while time.monotonic() - start < PATIENCE_S:
            connection.sendall(b"x")
            time.sleep(STALL_S / 5)
    assert time.monotonic() - start < STALL_S + 2
    assert len(super_link.seen) == 1


def test_client_that_does_not_read_is_cut(front: FrontProcess, super_link: FakeSuperLink) -> None:
    super_link.answer_fn = lambda handler, _: handler.answer(200, bytes(16 * MIB))
    with front.raw() as connection:
        connection.sendall(f"POST {PULL} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        eventually(lambda: "without completing response" in front.log.read_text(), front.log)


def test_connections_above_the_limit_are_closed_and_those_that_stand_are_served(
    front: FrontProcess, super_link: FakeSuperLink
) -> None:
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(front.client())
        assert client.post(PULL, content=b"").status_code == 200
        idle = [stack.enter_context(front.raw()) for _ in range(MAX_CONNECTIONS + 5)]
        time.sleep(0.1)
        assert client.post(PULL, content=b"").status_code == 200
        for connection in idle:
            connection.settimeout(0.02)
        assert sum(is_closed(connection) for connection in idle) >= 5
    with front.client() as client:
        eventually(lambda: served(client))


def is_closed(connection: ssl.SSLSocket) -> bool:
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def served(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.post(PULL, content=b"").status_code == 200
    return False


# Upstream fails


def break_off(handler: _Handler, _: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"half")
    handler.wfile.flush()
    handler.close_connection = True


def hang_up(handler: _Handler, _: bytes) -> None:
    handler.close_connection = True


def hang(handler: _Handler, _: bytes) -> None:
    time.sleep(UPSTREAM_TIMEOUT_S + 0.5)
    handler.close_connection = True


def too_many(handler: _Handler, _: bytes) -> None:
    handler.answer(429, b"slow down")


def too_large(handler: _Handler, _: bytes) -> None:
    handler.answer(200, bytes(17 * MIB))


def locked(handler: _Handler, _: bytes) -> None:
    handler.answer(500, b"database is locked")


def test_a_heartbeat_that_fails_is_not_the_last(
    client: httpx.Client, super_link: FakeSuperLink
) -> None:
    """A SuperNode's thread of heartbeats ends in silence at a 500.

    Other calls have an end of their own.
    """
    super_link.answer_fn = locked
    assert client.post("/v1/fleet/send-node-heartbeat", content=b"").status_code == 503
    assert client.post(PULL, content=b"").status_code == 500


@pytest.mark.parametrize("answer_fn", [break_off, hang_up, hang, too_many, too_large])
def test_failing_superlink_is_an_invitation_to_come_again(
    client: httpx.Client, super_link: FakeSuperLink, answer_fn: Callable[[_Handler, bytes], None]
) -> None:
    super_link.answer_fn = answer_fn
    answer = client.post(PULL, content=b"")
    assert (answer.status_code, answer.content, answer.headers["retry-after"]) == (503, b"", "1")
    super_link.answer_fn = _digest
    assert client.post(PULL, content=b"").status_code == 200


def test_superlink_goes_and_comes_back(
    certificates: Certificates, super_link: FakeSuperLink, fault_proxy: MakeProxy, tmp_path: Path
) -> None:
    network = fault_proxy(super_link.server_port)
    with running_front(certificates, tmp_path, network.port) as front, front.client() as client:
        assert client.post(PULL, content=b"").status_code == 200
        network.cut(math.inf)
        assert [client.post(PULL, content=b"").status_code for _ in range(3)] == [503] * 3
        network.fix()
        assert client.post(PULL, content=b"").status_code == 200
        network.stall(math.inf)
        assert client.post(PULL, content=b"").status_code == 503
        network.fix()
        assert client.post(PULL, content=b"").status_code == 200
        network.half_open()
        assert client.post(PULL, content=b"").status_code == 503
        network.cut_after(MIB)
        assert client.post(PUSH, content=bytes(5 * MIB)).status_code == 503
        assert client.post(PUSH, content=bytes(5 * MIB)).status_code == 200


def test_stranger_in_place_of_the_superlink_is_not_trusted(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path / "other")
    mixed = Certificates(other.ca, certificates.certificate, certificates.key)
    with running_front(mixed, tmp_path, super_link.server_port) as front:
        front.certificates = certificates
        with front.client() as client:
            assert client.post(PULL, content=b"secret").status_code == 503
    assert super_link.seen == []


# The network between an institution and the front fails


def test_cut_during_an_upload_leaves_nothing_behind(
    front: FrontProcess, super_link: FakeSuperLink, fault_proxy: MakeProxy
) -> None:
    network = fault_proxy(front.port)
    with front.client() as client:
        url = f"https://{HOST}:{network.port}{PUSH}"
        network.cut_after(MIB)
        with pytest.raises(httpx.TransportError):
            client.post(url, content=bytes(5 * MIB))
        assert super_link.seen == []
        assert client.post(url, content=bytes(5 * MIB)).status_code == 200


def test_slow_network_is_slow_and_nothing_else(
    front: FrontProcess, super_link: FakeSuperLink, fault_proxy: MakeProxy
) -> None:
    network = fault_proxy(front.port)
    network.latency_s = 0.1
    with front.client() as client:
        assert (
            client.post(f"https://{HOST}:{network.port}{PUSH}", content=bytes(MIB)).status_code
            == 200
        )


# Its life


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_time_with_connections_open(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path, signal_: signal.Signals
) -> None:
    with running_front(
        certificates, tmp_path, super_link.server_port, "--upstream-timeout-s", "30"
    ) as front:
        idle, uploading, waiting = (front.raw() for _ in range(3))
        with idle, uploading, waiting:
            uploading.sendall(
                f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc".encode()
            )
            super_link.answer_fn = lambda handler, _: time.sleep(3)
            waiting.sendall(
                f"POST {PULL} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
            )
            eventually(lambda: super_link.seen)
            start = time.monotonic()
            front.process.send_signal(signal_)
            assert front.process.wait(PATIENCE_S) == (0 if signal_ == signal.SIGTERM else 130)
            assert time.monotonic() - start < 2
            # 500 would end a SuperNode's call for good.
            assert [status_of(hear(connection)) for connection in (uploading, waiting)] == [
                503,
                503,
            ]
        assert "Traceback" not in front.log.read_text()


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_it_ends_when_its_parent_is_killed(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path
) -> None:
    log = tmp_path / "front.log"
    command = [sys.executable, "-c", PARENT, *front_command(certificates, super_link.server_port)]
    with log.open("wb") as stderr:
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT)
    child = int(parent.stdout.readline())
    try:
        port = wait_for_port(log)
        parent.kill()
        parent.wait(PATIENCE_S)
        eventually(lambda: is_refused(port), log)
        assert "started this one is gone" in log.read_text()
    finally:
        parent.kill()
        parent.communicate()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def is_refused(port: int) -> bool:
    with contextlib.suppress(TimeoutError):
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except ConnectionRefusedError:
            return True
    return False


def test_it_starts_without_torch_and_flower() -> None:
    heavy = "[name for name in ('torch', 'flwr', 'numpy') if name in sys.modules]"
    code = f"import sys, confide.server.deployment.front; print({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


# Its log


def test_scanner_does_not_fill_the_log(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path
) -> None:
    with running_front(certificates, tmp_path, super_link.server_port) as front:
        with front.client() as client:
            client.post(PULL, content=b"ordinary")
            for number in range(50):
                client.get(f"/{number}/%1b[31m{'x' * 1000}")
        lines = front.log.read_text().splitlines()
    refused = [line for line in lines if ": 404, " in line]
    assert len(refused) == 10
    assert all(len(line) < 250 and line.isprintable() for line in lines)
    assert "GET '/0/%1b[31mxxx" in refused[0]
    assert HOST in refused[0]
    assert not [line for line in lines if PULL in line]


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = 0.0
    lines: list[str] = field(default_factory=list)

    def emit(self, limited: logging.Filter, lineno: int, text: str) -> None:
        record = logging.LogRecord("name", logging.WARNING, "file.py", lineno, "%s", (text,), None)
        if limited.filter(record):
            self.lines.append(record.getMessage())


def test_lines_left_out_are_counted_and_other_places_are_heard() -> None:
    clock = Clock()
    limited = FewLines(now_fn=lambda: clock.now)
    for number in range(25):
        clock.emit(limited, 1, str(number))
    clock.emit(limited, 2, "other")
    clock.now = 61.0
    clock.emit(limited, 1, "again")
    clock.emit(limited, 1, "and again")
    assert clock.lines == [
        *map(str, range(10)),
        "other",
        "again (15 such lines were left out)",
        "and again",
    ]


# Its command


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--listen": "8443"}, "Expected listen='8443' as HOST:PORT"),
        ({"--upstream": "127.0.0.1:"}, "Expected upstream='127.0.0.1:' as HOST:PORT"),
        ({"--certificate": "gone.crt"}, "certificate=gone.crt and key="),
        ({"--upstream-ca": "gone.crt"}, "upstream_ca=gone.crt cannot be used"),
        ({"--stall-s": "0"}, "Expected stall_s=0.0 >= 0.001"),
        ({"--max-body-mb": "nan"}, "max-body-mb"),
    ],
)
def test_mistakes_of_the_command_are_told(
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    message: str,
) -> None:
    command = front_command(certificates, 1)[3:]
    words = dict(zip(command[::2], command[1::2], strict=True)) | change
    assert main([word for pair in words.items() for word in pair]) == 2
    assert message in capsys.readouterr().err


def test_port_in_use_is_told(
    certificates: Certificates, super_link: FakeSuperLink, capsys: pytest.CaptureFixture[str]
) -> None:
    command = front_command(certificates, 1)[3:]
    command[command.index("--listen") + 1] = f"{HOST}:{super_link.server_port}"
    assert main(command) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_limits_report_every_mistake() -> None:
    with pytest.raises(ConfigError, match="2 mistakes") as caught:
        Limits(max_body=0, stall_s=math.nan)
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigError, match=r"timeout_s=0"):
        Upstream(address="127.0.0.1:1", ca=Path("ca.crt"), timeout_s=0)


# A real SuperLink


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def real_super_link(certificates: Certificates, tmp_path: Path) -> Iterator[int]:
    port = free_port()
    program = Path(sys.executable).with_name("flower-superlink")
    files = {
        "--ssl-ca-certfile": certificates.ca,
        "--ssl-certfile": certificates.certificate,
        "--ssl-keyfile": certificates.key,
    }
    options = [
        "--isolation",
        "process",
        "--enable-supernode-auth",
        "--database",
        tmp_path / "state.db",
        "--host",
        HOST,
    ]
    command = [
        program,
        *(word for pair in files.items() for word in pair),
        *options,
        "--port",
        port,
    ]
    environment = os.environ | {
        "FLWR_HOME": str(tmp_path / "flwr"),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    log = tmp_path / "superlink.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, env=environment, cwd=tmp_path
        )
    try:
        deadline = time.monotonic() + 60
        while is_refused(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)


def test_real_superlink_is_reachable_for_supernodes_only(
    real_super_link: int, certificates: Certificates, tmp_path: Path
) -> None:
    from flwr.proto.control_pb2 import ListNodesRequest
    from flwr.proto.fleet_pb2 import PullMessagesRequest
    from flwr.supercore.control.control_http_client import ControlHttpClient
    from flwr.supernode.fleet_http_client import FleetHttpClient

    def control(port: int) -> ControlHttpClient:
        return ControlHttpClient.from_server_address(
            f"{HOST}:{port}", False, certificates.ca.read_bytes(), []
        )

    with running_front(
        certificates, tmp_path, real_super_link, "--upstream-timeout-s", "20"
    ) as front:
        with control(real_super_link) as direct:
            assert list(direct.ListNodes(ListNodesRequest()).nodes_info) == []
        with control(front.port) as outside, pytest.raises(httpx.HTTPStatusError) as refused:
            outside.ListNodes(ListNodesRequest())
        assert (refused.value.response.status_code, refused.value.response.content) == (404, b"")
        nodes = FleetHttpClient.from_server_address(
            f"{HOST}:{front.port}", False, certificates.ca.read_bytes(), []
        )
        with nodes, pytest.raises(httpx.HTTPStatusError) as denied:
            nodes.PullMessages(PullMessagesRequest())
        assert denied.value.response.status_code == 401
        assert "Invalid SuperNode authentication" in denied.value.response.text


# --- who was refused is told of


def test_a_node_of_another_release_is_refused_in_flowers_own_words(
    front: FrontProcess, client: httpx.Client, super_link: FakeSuperLink
) -> None:
    from flwr.supercore.runtime_version_compatibility import (
        get_runtime_version_incompatibility_exit_message,
    )

    answer = client.post(PULL, content=b"", headers={"flwr-package-version": "1.40.0"})
    told = get_runtime_version_incompatibility_exit_message(answer.text)
    assert (answer.status_code, answer.headers["content-type"], super_link.seen) == (
        412,
        "application/json",
        [],
    )
    assert told is not None
    assert "expected flwr" in told
    assert "412, refused, expected flwr" in front.log.read_text()


def test_a_refused_key_is_told_of_by_its_fingerprint(
    front: FrontProcess, client: httpx.Client, super_link: FakeSuperLink
) -> None:
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    key = pki.make_key().public_key()
    super_link.answer_fn = lambda handler, _: handler.answer(401, b"no")
    for shown in (base64.b64encode(public_key_to_bytes(key)).decode(), "x" * 2000):
        client.post(PULL, content=b"", headers={"flwr-public-key": shown})
    log = front.log.read_text()
    assert "401, refused, its key is not registered, its signature is wrong" in log
    assert log.rstrip().splitlines()[-2].endswith(pki.key_fingerprint(key))
    assert log.rstrip().endswith("no key")


def test_a_client_that_trusts_another_authority_is_told_of_with_its_address(
    front: FrontProcess,
) -> None:
    strangers = ssl.create_default_context()
    with socket.create_connection((HOST, front.port)) as connection:
        peer = connection.getsockname()
        with pytest.raises(ssl.SSLCertVerificationError):
            strangers.wrap_socket(connection, server_hostname=HOST)
    deadline = time.monotonic() + PATIENCE_S
    while (
        f"TLS with {HOST}:{peer[1]} fails: it knows another authority" not in front.log.read_text()
    ):
        assert time.monotonic() < deadline, front.log.read_text()
        time.sleep(0.05)
