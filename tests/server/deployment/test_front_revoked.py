"""A front refuses keys as soon as they are on the list of revoked ones."""

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from front_process import (
    PULL,
    ROOT,
    Certificates,
    FakeSuperLink,
    FrontProcess,
    eventually,
    front_command,
    running_front,
)

from confide.security import ec_keys
from confide.security.revocations import Revocations, RevokedKey

STOLEN, OTHER = (ec_keys.make_key().public_key() for _ in range(2))


def shown(key: ec_keys.PublicKey) -> dict[str, str]:
    """Return the header by which a SuperNode shows its key."""
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {"flwr-public-key": base64.b64encode(pem).decode()}


def with_version(headers: dict[str, str]) -> dict[str, str]:
    return {"flwr-package-version": "1.41.0", **headers}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return tmp_path / "revoked.json"


@pytest.fixture
def own_front(
    certificates: Certificates, super_link: FakeSuperLink, tmp_path: Path, listed: Path
) -> Iterator[FrontProcess]:
    options = ("--revoked", str(listed))
    with running_front(certificates, tmp_path, super_link.server_port, *options) as made:
        yield made


def status(client: httpx.Client, key: ec_keys.PublicKey) -> int:
    return client.post(PULL, content=b"", headers=with_version(shown(key))).status_code


def revocations(*keys: ec_keys.PublicKey) -> Revocations:
    return Revocations(authority="any").plus(
        RevokedKey(key=ec_keys.key_fingerprint(key), name="Hungary", since="2026-11-30")
        for key in keys
    )


def test_a_key_is_refused_from_the_moment_that_the_list_is_there(
    own_front: FrontProcess, super_link: FakeSuperLink, listed: Path
) -> None:
    with own_front.client() as client:  # one connection, which stands all the time
        assert [status(client, key) for key in (STOLEN, OTHER)] == [200, 200]
        listed.write_text(revocations(STOLEN).to_text())
        super_link.seen.clear()
        assert [status(client, key) for key in (STOLEN, OTHER)] == [401, 200]
        assert len(super_link.seen) == 1
        # Shown second, so that whoever reads the first takes another for it
        both = [*with_version(shown(OTHER)).items(), *shown(STOLEN).items()]
        assert client.post(PULL, content=b"", headers=both).status_code == 401
        assert client.post(PULL, content=b"", headers=both[::-1]).status_code == 401
    told = f"refused, its key was revoked on 2026-11-30, key {ec_keys.key_fingerprint(STOLEN)}"
    eventually(lambda: told in own_front.log.read_text(), own_front.log)


@pytest.mark.parametrize("how", ["damaged", "removed", "older"])
def test_a_list_that_is_spoilt_lets_nobody_in_again(
    how: str, own_front: FrontProcess, listed: Path
) -> None:
    older = revocations(OTHER)
    newest = older.plus(revocations(STOLEN).keys)
    with own_front.client() as client:
        listed.write_text(newest.to_text())
        assert status(client, STOLEN) == 401
        if how == "removed":
            listed.unlink()
        else:
            listed.write_text(older.to_text() if how == "older" else "{")
        assert status(client, STOLEN) == 401
        said = "cannot be read as" if how == "damaged" else "is gone or older than the list"
        assert own_front.log.read_text().count(said) == 1


def test_a_front_does_not_start_with_a_list_that_is_none(
    certificates: Certificates, listed: Path
) -> None:
    listed.write_text("{")
    done = subprocess.run(
        front_command(certificates, 1, "--revoked", str(listed)),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "cannot be read as a list of revoked keys" in done.stderr
