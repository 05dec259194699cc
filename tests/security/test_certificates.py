"""Certificates and keys.

What TLS and OpenSSH say of them, and what is said of those that do not fit.
"""

import contextlib
import datetime
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from confide.errors import ConfigError, UnreadableError
from confide.security import certificate_hosts, certificates, ec_keys, signing_requests

HOSTS = ["fed.example.org", "10.0.0.5", "::1", "localhost"]
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
# As `ssh-keygen -lf` prints it.
LINE = (
    "ecdsa-sha2-nistp384"
    " AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBIyQ6aLicc9rr8QUtZsvEvpnlf2j"
    "CosEycmtj7tRhRJM+3mNhGRmjutWPjVG6ln6ku4Sz05X+Zg8E3pOUQVz/6/7QQFTLXnPMm0VUCwY4CE4kvPOEuBO81JkDpD5cmV6iw=="
)
FINGERPRINT = "SHA256:gU2PtN4MRIMtNyVXkBGFYDagyFadY8RDhEKjSMxYTOE"


@pytest.fixture(scope="module")
def authority() -> tuple[x509.Certificate, ec_keys.PrivateKey]:
    key = ec_keys.make_key()
    return certificates.make_authority("heart", key, HOSTS, now=NOW - 10 * DAY), key


def written(
    folder: Path,
    authority: tuple[x509.Certificate, ec_keys.PrivateKey],
    now: datetime.datetime = NOW,
    *,
    hosts: Sequence[str] = HOSTS,
) -> Path:
    """Write a server's certificate and key, and the authority's certificate."""
    key = ec_keys.make_key()
    issued = certificates.issue_server_certificate(
        key.public_key(), hosts, authority=authority, days=5, now=now
    )
    (folder / "server.crt").write_text(certificates.certificate_pem(issued))
    (folder / "server.key").write_text(ec_keys.private_pem(key))
    (folder / "ca.crt").write_text(certificates.certificate_pem(authority[0]))
    return folder


def shake_hands(folder: Path, host: str) -> None:
    """Shake hands over TCP with Python 3.13's strictness; raises what the client says."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    client = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN

    def answer() -> None:
        with (
            contextlib.suppress(OSError),
            listener.accept()[0] as plain,
            server.wrap_socket(plain, server_side=True) as wrapped,
        ):
            wrapped.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=5) as plain,
                client.wrap_socket(plain, server_hostname=host) as wrapped,
            ):
                wrapped.send(b"x")
        finally:
            thread.join()


@pytest.mark.parametrize("host", HOSTS)
def test_strict_tls_accepts_every_host(
    host: str, authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    shake_hands(written(tmp_path, authority), host)


def test_another_host_is_refused(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    folder = written(tmp_path, authority)
    for host in ("example.org", "10.0.0.6"):
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            shake_hands(folder, host)


def test_another_authority_of_the_same_name_is_refused(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    folder = written(tmp_path, authority)
    other = certificates.make_authority("heart", ec_keys.make_key())
    (folder / "ca.crt").write_text(certificates.certificate_pem(other))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(folder, HOSTS[0])
    assert not certificates.is_issued_by(
        certificates.read_certificate(folder / "server.crt"), other
    )


def test_a_server_can_sign_no_certificate(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    folder = written(tmp_path, authority)
    server = (
        certificates.read_certificate(folder / "server.crt"),
        ec_keys.read_private_key(folder / "server.key"),
    )
    key = ec_keys.make_key()
    forged = certificates.issue_server_certificate(
        key.public_key(), ["evil.example.org"], authority=server, days=1
    )
    (folder / "server.key").write_text(ec_keys.private_pem(key))
    (folder / "server.crt").write_text(
        certificates.certificate_pem(forged) + certificates.certificate_pem(server[0])
    )
    with pytest.raises(ssl.SSLCertVerificationError, match=r"invalid CA|path length"):
        shake_hands(folder, "evil.example.org")
    assert not certificates.is_issued_by(forged, server[0])


@pytest.mark.parametrize(
    "host", ["evil.example.org", "xfed.example.org", "example.org", "10.0.0.6", "::2"]
)
def test_a_stolen_authority_vouches_for_no_other_server(
    host: str, authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    assert not certificate_hosts.may_sign_for(authority[0], host)
    # Beside a host that it may sign for, too
    folder = written(tmp_path, authority, hosts=[host, "fed.example.org"])
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(folder, host)


def test_names_under_a_permitted_one_are_permitted(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    assert certificate_hosts.may_sign_for(authority[0], "new.FED.example.org")
    shake_hands(written(tmp_path, authority, hosts=["new.fed.example.org"]), "new.fed.example.org")


@pytest.mark.parametrize("host", ["10.0.0.5", "::1"])
def test_a_server_with_an_address_alone_is_accepted(
    host: str, authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    shake_hands(written(tmp_path, authority, hosts=[host]), host)


def test_an_authority_with_one_kind_of_host_would_be_without_a_limit_for_the_other() -> None:
    with pytest.raises(ValueError, match="Expected a DNS name and an IP address"):
        certificates.make_authority("heart", ec_keys.make_key(), ["10.0.0.5"])


def test_a_trainer_is_certified_by_an_authority_that_vouches_for_few_hosts(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey],
) -> None:
    issued = certificates.issue_trainer_certificate(
        ec_keys.make_key().public_key(), "st.mary's", authority=authority, days=5
    )
    assert certificates.is_issued_by(issued, authority[0])
    assert certificates.is_trainers(issued)


def test_an_expired_certificate_is_refused(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    folder = written(tmp_path, authority, NOW - 6 * DAY)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(folder, HOSTS[0])
    assert (
        certificates.time_left(certificates.read_certificate(folder / "server.crt"), now=NOW)
        <= -DAY
    )


def test_a_clock_that_is_four_minutes_late_accepts(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    shake_hands(written(tmp_path, authority, NOW + datetime.timedelta(minutes=4)), HOSTS[0])


def test_an_authority_says_what_it_may(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey],
) -> None:
    certificate = authority[0]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert certificates.common_name(certificate.subject) == "heart"


def test_a_certificate_never_outlives_its_authority(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey],
) -> None:
    now = authority[0].not_valid_after_utc - DAY
    issued = certificates.issue_server_certificate(
        authority[1].public_key(), HOSTS, authority=authority, days=5, now=now
    )
    assert issued.not_valid_after_utc == authority[0].not_valid_after_utc


def test_what_a_certificate_says_is_read(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey], tmp_path: Path
) -> None:
    folder = written(tmp_path, authority)
    certificate = certificates.read_certificate(folder / "server.crt")
    assert certificate_hosts.hosts_of(certificate) == HOSTS
    assert certificate_hosts.is_for(certificate, [*reversed(HOSTS)])
    assert not certificate_hosts.is_for(certificate, HOSTS[1:])
    assert certificates.is_issued_by(certificate, authority[0])
    assert certificates.is_key_of(ec_keys.read_private_key(folder / "server.key"), certificate)
    assert not certificates.is_key_of(ec_keys.make_key(), certificate)
    assert 4 * DAY < certificates.time_left(certificate) <= 5 * DAY
    der = ssl.PEM_cert_to_DER_cert((folder / "server.crt").read_text())
    assert (
        certificates.fingerprint(certificate).replace(":", "").lower()
        == hashlib.sha256(der).hexdigest()
    )


def test_signing_with_another_key_is_refused(
    authority: tuple[x509.Certificate, ec_keys.PrivateKey],
) -> None:
    with pytest.raises(ConfigError, match="key is not that of its certificate"):
        certificates.issue_server_certificate(
            ec_keys.make_key().public_key(),
            HOSTS,
            authority=(authority[0], ec_keys.make_key()),
            days=1,
        )


# --- node keys and requests


def test_node_keys_are_as_supernodes_read_them(tmp_path: Path) -> None:
    key = ec_keys.make_key()
    (tmp_path / "node.key").write_text(ec_keys.node_key_text(key))
    (tmp_path / "node.pub").write_text(ec_keys.public_line(key.public_key()))
    loaded = serialization.load_ssh_private_key((tmp_path / "node.key").read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert ec_keys.public_line(key.public_key()).startswith("ecdsa-sha2-nistp384 ")
    assert ec_keys.read_node_key(tmp_path / "node.key").public_key() == ec_keys.read_public_key(
        tmp_path / "node.pub"
    )


def test_the_fingerprint_of_a_key_is_that_of_openssh(tmp_path: Path) -> None:
    (tmp_path / "node.pub").write_text(LINE)
    assert ec_keys.key_fingerprint(ec_keys.read_public_key(tmp_path / "node.pub")) == FINGERPRINT


@pytest.mark.parametrize("name", ["Cleveland", "Universitätsspital Zürich", "a=b, c+d"])
def test_a_request_brings_name_and_key(name: str, tmp_path: Path) -> None:
    key = ec_keys.make_key()
    (tmp_path / "node.csr").write_text(signing_requests.make_request(key, name))
    request = signing_requests.read_request(tmp_path / "node.csr")
    assert request.name == name
    assert key.public_key() == request.public_key


def _changed() -> bytes:
    der = x509.load_pem_x509_csr(
        signing_requests.make_request(ec_keys.make_key(), "Cleveland").encode()
    ).public_bytes(serialization.Encoding.DER)
    changed = x509.load_der_x509_csr(der.replace(b"Cleveland", b"Clevelane"))
    return changed.public_bytes(serialization.Encoding.PEM)


def _unnamed(
    key: "ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey",
    digest: hashes.HashAlgorithm | None,
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("request_bytes", "complaint"),
    [
        (_changed, "it is not signed with the key"),
        (lambda: _unnamed(ec_keys.make_key(), hashes.SHA384()), "expected one common name"),
        (
            lambda: _unnamed(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
            "P-384, got secp256r1",
        ),
        (lambda: _unnamed(ed25519.Ed25519PrivateKey.generate(), None), "P-384, got Ed25519"),
        (lambda: b"hello", "cannot be read as a certificate request in PEM"),
    ],
)
def test_a_wrong_request_is_named(
    request_bytes: Callable[[], bytes], complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "node.csr").write_bytes(request_bytes())
    with pytest.raises(
        ConfigError, match=rf"node\.csr.*{complaint}.*confide provision --request NAME"
    ):
        signing_requests.read_request(tmp_path / "node.csr")


@pytest.mark.parametrize(
    "read",
    [
        certificates.read_certificate,
        ec_keys.read_private_key,
        ec_keys.read_node_key,
        ec_keys.read_public_key,
    ],
)
def test_what_cannot_be_read_is_named(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"nowhere cannot be read as a .* \(No such file"):
        read(tmp_path / "nowhere")
    (tmp_path / "torn").write_text("-----BEGIN")
    with pytest.raises(
        UnreadableError, match=r"torn cannot be read as .*; bring back the file that"
    ):
        read(tmp_path / "torn")


def test_a_key_of_another_curve_is_named(tmp_path: Path) -> None:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        *form, serialization.NoEncryption()
    )
    (tmp_path / "b.key").write_bytes(other)
    with pytest.raises(
        UnreadableError, match=r"b\.key: expected a key on curve P-384, got secp256r1"
    ):
        ec_keys.read_private_key(tmp_path / "b.key")
