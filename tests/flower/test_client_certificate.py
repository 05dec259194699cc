"""Flower's SuperNode shows a certificate, by what of Flower is relied on for it."""

import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from flower_link import make_tls, wait_for
from flwr.supernode import fleet_http_connection
from front_process import FakeSuperLink

from confide.errors import FlowerError
from confide.flower.explain import explain
from confide.flower.processes import Tls, environment, say_good_bye, supernode_command
from confide.flower.supernode import show_certificate
from confide.security import certificates, ec_keys
from confide.storage.files import write_text

ACTIVATE, GOOD_BYE = "/v1/fleet/activate-node", "/v1/fleet/deactivate-node"


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return make_tls(tmp_path)


@pytest.fixture
def asking(tls: Tls, tmp_path: Path) -> Iterator[FakeSuperLink]:
    """Serve those alone who show a certificate of the authority."""
    authority_key = ec_keys.make_key()
    authority = certificates.make_authority("nodes", authority_key)
    key = ec_keys.make_key()
    issued = certificates.issue_node_certificate(
        key.public_key(), "ward", authority=(authority, authority_key), days=5
    )
    write_text(tmp_path / "nodes.crt", certificates.certificate_pem(authority))
    write_text(tmp_path / "node.crt", certificates.certificate_pem(issued))
    write_text(tmp_path / "node.key", ec_keys.node_key_text(key), mode=0o600)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "nodes.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate, tls.key)
    made = FakeSuperLink(context)
    yield made
    made.shutdown()
    made.server_close()


@contextlib.contextmanager
def supernode(
    asking: FakeSuperLink, tls: Tls, folder: Path, shown: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "secret").write_bytes(bytes(32))
    command = supernode_command(
        coordinator=f"127.0.0.1:{asking.server_port}",
        ca=tls.ca,
        key=folder / "node.key",
        port=0,
        secret=folder / "secret",
        shown=shown,
    )
    command[command.index("--port") + 1] = str(asking.server_port % 1000 + 40_000)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment(folder / "flower")
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_supernode_shows_its_certificate(asking: FakeSuperLink, tls: Tls, tmp_path: Path) -> None:
    with supernode(asking, tls, tmp_path, tmp_path / "node.crt"):
        wait_for(
            lambda: any("/v1/fleet/" in path for path, _ in asking.seen),
            f"{(tmp_path / 'log').read_text()}",
        )


def test_one_that_shows_none_is_not_heard(asking: FakeSuperLink, tls: Tls, tmp_path: Path) -> None:
    with supernode(asking, tls, tmp_path, None):
        wait_for(lambda: "Exit Code: 305" in (tmp_path / "log").read_text(), "it ends")
    why = explain((tmp_path / "log").read_text(), 1)
    assert why is not None
    assert "lets those in who show a certificate, and this kit shows none" in why
    assert asking.seen == []


def test_good_bye_is_said_with_the_certificate(
    asking: FakeSuperLink, tls: Tls, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{asking.server_port}"
    files = {"ca": tls.ca, "key": tmp_path / "node.key"}
    say_good_bye("SuperNode ID: 17", coordinator=address, **files)
    assert asking.seen == []
    say_good_bye("SuperNode ID: 17", coordinator=address, **files, shown=tmp_path / "node.crt")
    assert [path for path, _ in asking.seen] == [GOOD_BYE]


def test_a_certificate_for_another_key_is_told_before_anything_is_sent(
    asking: FakeSuperLink, tls: Tls, tmp_path: Path
) -> None:
    write_text(tmp_path / "node.key", ec_keys.node_key_text(ec_keys.make_key()))
    with supernode(asking, tls, tmp_path, tmp_path / "node.crt") as process:
        process.wait(120)
    assert "is not for the key in" in (tmp_path / "log").read_text()
    assert asking.seen == []


def test_a_release_of_flwr_with_another_client_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(fleet_http_connection, "FleetHttpClient")
    with pytest.raises(FlowerError, match=r"takes no client certificate.*flwr~=1\.41"):
        show_certificate(tmp_path / "node.crt", tmp_path / "node.key")
