"""A front in a process, a SuperLink that answers as it is told to, and their certificates."""

import contextlib
import datetime
import hashlib
import ipaddress
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from fault_proxy import FaultProxy

ROOT = Path(__file__).parent.parent
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


# --- a SuperLink that does as it is told


class Handler(BaseHTTPRequestHandler):
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


def answer_digest(handler: Handler, body: bytes) -> None:
    handler.answer(200, hashlib.sha256(body).digest(), [("Content-Type", "application/protobuf")])


class FakeSuperLink(ThreadingHTTPServer):
    """RequestHandler with the digest of a body, or as told, over TLS on loopback."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__((HOST, 0), Handler)
        self.seen: list[tuple[str, list[tuple[str, str]]]] = []
        self.answer_fn: Callable[[Handler, bytes], None] = answer_digest
        self._context = context
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self._context.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, *_: Any) -> None:
        pass  # connections that tests cut


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


def break_off(handler: Handler, _: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"half")
    handler.wfile.flush()
    handler.close_connection = True


def is_refused(port: int) -> bool:
    with contextlib.suppress(TimeoutError):
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except ConnectionRefusedError:
            return True
    return False
