"""A front takes up a renewed certificate while it serves."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from front_process import (
    PULL,
    ROOT,
    Certificates,
    FakeSuperLink,
    FrontProcess,
    eventually,
    front_command,
    make_certificates,
    running_front,
    status_of,
)

from confide.security import ec_keys
from confide.storage.files import write_text

DIGEST_BYTES = 32
"""Of the SuperLink's answer."""


@pytest.fixture
def served(certificates: Certificates, tmp_path: Path) -> Certificates:
    """Give a front files of its own, which a test changes."""
    folder = tmp_path / "served"
    folder.mkdir()
    files = (certificates.ca, certificates.certificate, certificates.key)
    return Certificates(*(Path(shutil.copy(file, folder)) for file in files))


@pytest.fixture
def own_front(
    certificates: Certificates, served: Certificates, super_link: FakeSuperLink, tmp_path: Path
) -> Iterator[FrontProcess]:
    with running_front(served, tmp_path, super_link.server_port) as made:
        yield made


@pytest.fixture(scope="module")
def renewed(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("renewed"))


def shown(front: FrontProcess) -> str:
    """Return the certificate that a new connection sees."""
    return ssl.get_server_certificate(("127.0.0.1", front.port), timeout=20)


def post(connection: ssl.SSLSocket) -> int:
    connection.sendall(f"POST {PULL} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    head, body = b"", b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    while len(body) < DIGEST_BYTES:
        body += connection.recv(DIGEST_BYTES - len(body))
    return status_of(head)


def test_new_connections_get_it_and_those_that_stand_go_on(
    own_front: FrontProcess, served: Certificates, renewed: Certificates
) -> None:
    before = shown(own_front)
    assert before.strip() == served.certificate.read_text().strip()
    with own_front.raw() as standing:
        assert post(standing) == 200
        # One after the other, as they are copied: the key alone fits nothing
        shutil.copy(renewed.key, served.key)
        eventually(lambda: "cannot be used" in own_front.log.read_text(), own_front.log)
        assert shown(own_front) == before
        shutil.copy(renewed.certificate, served.certificate)
        eventually(lambda: post(standing) == 200 and shown(own_front) != before, own_front.log)
        assert shown(own_front).strip() == renewed.certificate.read_text().strip()
        assert post(standing) == 200
    assert "was renewed: new connections get the new one" in own_front.log.read_text()
    # Whoever trusts the authority of the new one is served
    trusting = FrontProcess(own_front.process, own_front.port, own_front.log, renewed)
    with trusting.raw() as connection:
        assert post(connection) == 200


def test_a_file_that_is_damaged_or_gone_leaves_the_old_one(
    own_front: FrontProcess, served: Certificates
) -> None:
    before = shown(own_front)
    served.certificate.write_text("damaged")
    eventually(lambda: "cannot be used" in own_front.log.read_text(), own_front.log)
    assert shown(own_front) == before
    served.certificate.unlink()
    eventually(lambda: own_front.log.read_text().count("cannot be used") == 2, own_front.log)
    assert shown(own_front) == before


def test_an_encrypted_key_is_served_and_renewed_with_its_passphrase(
    certificates: Certificates,
    served: Certificates,
    renewed: Certificates,
    super_link: FakeSuperLink,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = tmp_path / "server.key.passphrase"
    monkeypatch.setenv("CONFIDE_PASSPHRASES", str(tmp_path))
    encrypt(certificates.key, served.key, b"first")
    done = subprocess.run(
        front_command(served, 1), check=False, capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 2
    assert "server.key is encrypted, and its passphrase is not here" in done.stderr
    words.write_text("first")
    words.chmod(0o600)
    with running_front(served, tmp_path, super_link.server_port) as front:
        before = shown(front)
        # The certificate that fits, and a key whose passphrase is not here yet
        shutil.copy(renewed.certificate, served.certificate)
        encrypt(renewed.key, served.key, b"second")
        eventually(lambda: "cannot be used" in front.log.read_text(), front.log)
        assert shown(front) == before
        words.write_text("second")
        served.key.touch()
        eventually(lambda: shown(front) != before, front.log)


def encrypt(source: Path, target: Path, passphrase: bytes) -> None:
    write_text(target, ec_keys.private_pem(ec_keys.read_private_key(source), passphrase))
