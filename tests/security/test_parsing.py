"""Certificates and requests with a damaged byte anywhere are read, or told; nothing else is."""

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from confide.deployment.checks import authority, server_authority
from confide.errors import ConfideError, ProtocolError, UnreadableError
from confide.secure_aggregation.adverts import Identity, advertise, verify
from confide.secure_aggregation.context import SumContext
from confide.secure_aggregation.survivors import is_signed
from confide.security import (
    certificate_hosts,
    certificates,
    ec_keys,
    server_chain,
    signing_requests,
)

HOSTS = ["fed.example.org", "10.0.0.1"]
KEY, OTHER = ec_keys.make_key(), ec_keys.make_key()
AUTHORITY = certificates.make_authority("heart", KEY, HOSTS)
DER = serialization.Encoding.DER
VERSION = bytes([0xA0, 3, 2, 1, 2])
"""How a certificate begins to say that it is of version 3."""

pytestmark = pytest.mark.filterwarnings("ignore")  # of serial numbers and names


def mutated(der: bytes, *, step: int) -> Iterator[bytes]:
    assert VERSION in der
    yield der.replace(VERSION, VERSION[:-1] + b"\x05", 1)
    for at in range(0, len(der), step):
        for value in (0, 0xFF, der[at] ^ 1, der[at] ^ 0x80):
            yield der[:at] + bytes([value]) + der[at + 1 :]


def write(path: Path, label: str, der: bytes) -> Path:
    text = base64.encodebytes(der).decode()
    path.write_text(f"-----BEGIN {label}-----\n{text}-----END {label}-----\n")
    return path


def look_at(certificate: x509.Certificate) -> None:
    """Ask for all that is ever asked of a certificate that was read."""
    certificate_hosts.hosts_of(certificate)
    certificate_hosts.permitted_hosts(certificate)
    certificates.is_issued_by(certificate, AUTHORITY)
    certificates.is_issued_by(AUTHORITY, certificate)
    certificates.is_trainers(certificate)
    certificates.days_left(certificate)
    certificates.common_name(certificate.subject)
    server_chain.told(certificate)


@pytest.mark.parametrize("which", ["authority", "server"])
def test_a_damaged_certificate_is_told_or_read(which: str, tmp_path: Path) -> None:
    pair = AUTHORITY, KEY
    server = certificates.issue_server_certificate(
        OTHER.public_key(), HOSTS, authority=pair, days=9
    )
    der = (AUTHORITY if which == "authority" else server).public_bytes(DER)
    for changed in mutated(der, step=9):
        path = write(tmp_path / "x.crt", "CERTIFICATE", changed)
        with contextlib.suppress(UnreadableError):
            look_at(certificates.read_certificate(path))
        for check in (authority, server_authority):
            with contextlib.suppress(UnreadableError):
                list(check(path, "bring another."))
        with contextlib.suppress(ConfideError):
            server_chain.read_chain(path, AUTHORITY, OTHER.public_key())


def test_a_damaged_request_is_told_or_read(tmp_path: Path) -> None:
    text = signing_requests.make_server_request(OTHER, HOSTS)
    der = x509.load_pem_x509_csr(text.encode()).public_bytes(DER)
    for at in range(0, len(der), 5):
        changed = der[:at] + bytes([der[at] ^ 5]) + der[at + 1 :]
        path = write(tmp_path / "x.csr", "CERTIFICATE REQUEST", changed)
        with contextlib.suppress(ConfideError):
            signing_requests.read_request(path)
        with contextlib.suppress(UnreadableError):
            signing_requests.is_server_request(path, OTHER.public_key(), HOSTS)


def test_an_advert_with_a_damaged_certificate_is_refused_by_its_code() -> None:
    certificate = certificates.issue_trainer_certificate(
        OTHER.public_key(), "Mill", authority=(AUTHORITY, KEY), days=9
    )
    own = Identity(certificate=certificate, key=OTHER)
    advert = advertise(own, "trial", X25519PrivateKey.generate(), num_examples=3)
    for changed in mutated(certificate.public_bytes(DER), step=9):
        if changed == certificate.public_bytes(DER):
            continue
        bad = replace(advert, certificate=changed)
        with pytest.raises(ProtocolError) as caught:
            verify(bad, "trial", AUTHORITY)
        assert caught.value.code == "sum_keys"
        context = SumContext(
            job="trial",
            server_round=1,
            question="",
            cohort=(bad,),
            threshold=1,
            scale_bits=1,
            length=1,
        )
        assert not is_signed(context, ["Mill"], "Mill", b"none")
