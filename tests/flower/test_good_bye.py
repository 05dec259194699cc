"""What is said for a SuperNode that was killed, to a coordinator of the test's own."""

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from flwr.proto.fleet_pb2 import DeactivateNodeRequest, DeactivateNodeResponse

from confide.flower.processes import say_good_bye
from confide.security import certificates, ec_keys

WRITTEN = (
    "INFO : Starting Flower SuperNode\nINFO : SuperNode ID: 17442203219391\nINFO : [RUN 1, ROUND"
    " 2]\n"
)


@dataclass
class Coordinator:
    """Listens with a certificate; keeps what it hears."""

    folder: Path
    address: str = ""
    status: int = 200
    paths: list[str] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    signed: list[bool] = field(default_factory=list)

    def hear(self, written: str = WRITTEN, address: str | None = None) -> bool:
        return say_good_bye(
            written,
            coordinator=address or self.address,
            ca=self.folder / "ca.crt",
            key=self.folder / "node.key",
        )

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.paths.append(self.path)
                outer.nodes.append(DeactivateNodeRequest.FromString(body).node_id)
                outer.signed.append("flwr-signature" in self.headers)
                answer = DeactivateNodeResponse().SerializeToString()
                self.send_response(outer.status)
                self.send_header("content-type", "application/protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
            self.address = f"127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    authority_key, key = ec_keys.make_key(), ec_keys.make_key()
    authority = certificates.make_authority("heart", authority_key)
    issued = certificates.issue_server_certificate(
        key.public_key(), ["127.0.0.1"], authority=(authority, authority_key), days=5
    )
    (tmp_path / "ca.crt").write_text(certificates.certificate_pem(authority))
    (tmp_path / "server.crt").write_text(certificates.certificate_pem(issued))
    (tmp_path / "server.key").write_text(ec_keys.private_pem(key))
    (tmp_path / "node.key").write_text(ec_keys.node_key_text(ec_keys.make_key()))
    made = Coordinator(tmp_path)
    with made.listening():
        yield made


def test_it_is_said_for_the_node_that_was_taken_and_signed(coordinator: Coordinator) -> None:
    assert coordinator.hear()
    assert coordinator.paths == ["/v1/fleet/deactivate-node"]
    assert coordinator.nodes == [17442203219391]
    assert coordinator.signed == [True]


def test_nothing_is_said_for_a_supernode_that_was_not_taken(coordinator: Coordinator) -> None:
    """A copy of a kit is refused while the original runs, and must not end it."""
    assert not coordinator.hear(
        "INFO : Starting Flower SuperNode\nERROR: Failed to initialize the connection\n"
    )
    assert coordinator.paths == []


def test_a_coordinator_that_refuses_or_is_not_there_is_no_error(coordinator: Coordinator) -> None:
    coordinator.status = 412
    assert not coordinator.hear()
    assert not coordinator.hear(address="127.0.0.1:1")


def test_a_key_that_is_gone_is_no_error(coordinator: Coordinator) -> None:
    (coordinator.folder / "node.key").unlink()
    assert not coordinator.hear()
