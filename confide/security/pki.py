"""Certificates and keys of a federation.

An authority, the coordinator's certificates, a key for each institution.

The authority signs the coordinator's certificates and nothing else: institutions are known by their
public keys, as Flower authenticates SuperNodes, and trust whoever holds a certificate of the
authority for the host that they call. All keys are EC P-384. Node keys are written as OpenSSH does;
a certificate request (PKCS#10) proves that whoever sends a public key holds its private key, which
never leaves the institution.
"""

import base64
import datetime
import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from confide.errors import ConfigError, UnreadableError

T = TypeVar("T")
PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

AUTHORITY_DAYS = 3650
CLOCKS_DIFFER = datetime.timedelta(minutes=5)
_LONGEST_COMMON_NAME = 64
_AS_WRITTEN = "bring back the file that `confide provision` wrote"


@dataclass(frozen=True)
class NodeRequest:
    """What an institution asks to be known by."""

    name: str
    public_key: PublicKey


# --- keys


def make_key() -> PrivateKey:
    """Draw an EC P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def private_pem(key: PrivateKey) -> str:
    """Write a private key as PKCS#8 PEM, as TLS servers read it; not encrypted."""
    return _private_text(key, serialization.PrivateFormat.PKCS8)


def node_key_text(key: PrivateKey) -> str:
    """Write a private key as OpenSSH does, as SuperNodes read it; not encrypted."""
    return _private_text(key, serialization.PrivateFormat.OpenSSH)


def _private_text(key: PrivateKey, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, form, serialization.NoEncryption()
    ).decode()


def public_line(key: PublicKey) -> str:
    """Write a public key as OpenSSH's one line: ``ecdsa-sha2-nistp384 ...``."""
    return (
        key.public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        ).decode()
        + "\n"
    )


def key_fingerprint(key: PublicKey) -> str:
    """Return what ``ssh-keygen -l`` prints of a public key: SHA256 and base64."""
    digest = hashlib.sha256(base64.b64decode(public_line(key).split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def is_pair(private: PrivateKey, public: PublicKey) -> bool:
    """Say whether a private key belongs to a public one."""
    return private.public_key() == public


# --- certificates


def make_authority(
    name: str, key: PrivateKey, *, now: datetime.datetime | None = None
) -> x509.Certificate:
    """Make a federation's self-signed authority, which may sign certificates and no further authority.

    Args:
        name: of the federation, at most 64 bytes in UTF-8.
        key: the authority's.
        now: the time, with its zone.
    """
    subject = _common_name(name)
    builder = _builder(subject, subject, key.public_key(), _now(now), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return builder.sign(key, hashes.SHA384())


def issue_server_certificate(
    public_key: PublicKey,
    hosts: Sequence[str],
    *,
    authority: tuple[x509.Certificate, PrivateKey],
    days: int,
    now: datetime.datetime | None = None,
) -> x509.Certificate:
    """Sign a certificate of a server for its hosts.

    Args:
        public_key: the server's.
        hosts: DNS names and IP addresses, as clients call them; at least one.
        authority: its certificate and its private key.
        days: validity, cut where the authority's own ends.
        now: the time, with its zone.

    Raises:
        ConfigError: if the authority's key is not that of its certificate.
    """
    certificate, key = authority
    if not is_pair(key, _public(certificate)):
        raise ConfigError(
            f"The authority's key is not that of its certificate {fingerprint(certificate)};"
            f" {_AS_WRITTEN}."
        )
    # With an organization: a subject equal to the authority's would look self-signed.
    common = hosts[0] if len(hosts[0]) <= _LONGEST_COMMON_NAME else "coordinator"
    subject = x509.Name(
        [*_common_name("confide", NameOID.ORGANIZATION_NAME), *_common_name(common)]
    )
    builder = _builder(
        subject,
        certificate.subject,
        public_key,
        _now(now),
        days,
        latest=certificate.not_valid_after_utc,
    )
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )
    builder = builder.add_extension(
        x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
    )
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return builder.add_extension(issuer, critical=False).sign(key, hashes.SHA384())


def certificate_pem(certificate: x509.Certificate) -> str:
    """Write a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: PublicKey,
    now: datetime.datetime,
    days: int,
    latest: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(end if latest is None else min(end, latest))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(name: str, oid: x509.ObjectIdentifier = NameOID.COMMON_NAME) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _now(now: datetime.datetime | None) -> datetime.datetime:
    return now or datetime.datetime.now(datetime.UTC)


# --- what a certificate says


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """Return the DNS names and IP addresses that a certificate is for, in its order."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def is_for(certificate: x509.Certificate, hosts: Sequence[str]) -> bool:
    """Say whether a certificate is for these hosts and no others, in any order."""
    return {_general_name(host) for host in hosts} == {
        _general_name(host) for host in hosts_of(certificate)
    }


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Say whether an authority signed a certificate; not whether it is valid today."""
    try:
        certificate.verify_directly_issued_by(authority)
        return authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (InvalidSignature, TypeError, ValueError, x509.ExtensionNotFound):
        return False


def is_key_of(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Say whether a private key is that of a certificate."""
    return key.public_key() == certificate.public_key()


def time_left(
    certificate: x509.Certificate, *, now: datetime.datetime | None = None
) -> datetime.timedelta:
    """Return how long a certificate is still valid; negative once it has expired."""
    return certificate.not_valid_after_utc - _now(now)


def lifetime(certificate: x509.Certificate) -> datetime.timedelta:
    """Return how long a certificate is valid in all."""
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def fingerprint(certificate: x509.Certificate) -> str:
    """Return a certificate's SHA-256 as ``openssl x509 -noout -fingerprint -sha256`` prints it, to be compared by voice."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def common_name(name: x509.Name) -> str | None:
    """Return the common name in a subject; None if there is not exactly one."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else None


# --- certificate requests


def make_request(key: PrivateKey, name: str) -> str:
    """Write a certificate request (PKCS#10, PEM) of an institution, signed by its node key.

    Args:
        key: the node's.
        name: the institution's, at most 64 bytes in UTF-8.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(_common_name(name))
    return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM).decode()


def read_request(path: Path) -> NodeRequest:
    """Read a certificate request and check that its sender holds the private key.

    Raises:
        ConfigError: if it is none, is signed by another key, is of another curve or names nobody.
    """
    fix = "ask for one made by `confide provision --request NAME`"
    try:
        request = x509.load_pem_x509_csr(path.read_bytes())
        name, is_signed, key = (
            common_name(request.subject),
            request.is_signature_valid,
            request.public_key(),
        )
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path} cannot be read as a certificate request in PEM ({_reason(error)}); {fix}."
        ) from None
    problems = []
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP384R1):
        problems.append(f"{path}: expected a key on curve P-384, got {_kind(key)}; {fix}.")
    if not is_signed:
        problems.append(
            f"{path}: its signature is not that of the key in it: it was changed on its way; {fix}."
        )
    if not name:
        problems.append(
            f"{path}: expected one common name, the institution's, got"
            f" {request.subject.rfc4514_string()!r}; {fix}."
        )
    if problems or not isinstance(key, PublicKey) or not name:
        raise ConfigError(problems)
    return NodeRequest(name, key)


# --- reading


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate in PEM, whose key is on curve P-384.

    Raises:
        UnreadableError: if it is none, with the file and the fix.
    """
    certificate = _read(path, "a certificate in PEM", x509.load_pem_x509_certificate)
    _p384(path, certificate.public_key())
    return certificate


def read_private_key(path: Path) -> PrivateKey:
    """Read a private key in PEM (PKCS#8), not encrypted.

    Raises:
        UnreadableError: if it is none, with the file and the fix.
    """
    key = _read(
        path,
        "a private key in PEM",
        lambda data: serialization.load_pem_private_key(data, password=None),
    )
    return _private(path, key)


def read_node_key(path: Path) -> PrivateKey:
    """Read a private key in OpenSSH's form, not encrypted.

    Raises:
        UnreadableError: if it is none, with the file and the fix.
    """
    key = _read(
        path,
        "a private key in OpenSSH's form",
        lambda data: serialization.load_ssh_private_key(data, password=None),
    )
    return _private(path, key)


def read_public_key(path: Path) -> PublicKey:
    """Read a public key in OpenSSH's form.

    Raises:
        UnreadableError: if it is none, with the file and the fix.
    """
    return _p384(
        path, _read(path, "a public key in OpenSSH's form", serialization.load_ssh_public_key)
    )


def _read(path: Path, what: str, load: Callable[[bytes], T]) -> T:
    try:
        return load(path.read_bytes())
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise UnreadableError(
            f"{path} cannot be read as {what} ({_reason(error)}); {_AS_WRITTEN}."
        ) from None


def _private(path: Path, key: object) -> PrivateKey:
    if not isinstance(key, PrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UnreadableError(
            f"{path}: expected a key on curve P-384, got {_kind(key)}; {_AS_WRITTEN}."
        )
    return key


def _p384(path: Path, key: object) -> PublicKey:
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UnreadableError(
            f"{path}: expected a key on curve P-384, got {_kind(key)}; {_AS_WRITTEN}."
        )
    return key


def _public(certificate: x509.Certificate) -> PublicKey:
    key = certificate.public_key()
    if not isinstance(key, PublicKey):
        raise UnreadableError(
            f"Certificate {fingerprint(certificate)}: expected a key on curve P-384, got"
            f" {_kind(key)}."
        )
    return key


def _kind(key: object) -> str:
    return (
        key.curve.name
        if isinstance(key, PublicKey | PrivateKey)
        else type(key).__name__.removesuffix("PublicKey")
    )


def _reason(error: Exception) -> str:
    """Say why in a few words; cryptography's own are long and cite its FAQ."""
    return (
        str(error.strerror)
        if isinstance(error, OSError)
        else "it holds something else, is damaged, or is encrypted"
    )


__all__ = [
    "AUTHORITY_DAYS",
    "NodeRequest",
    "PrivateKey",
    "PublicKey",
    "certificate_pem",
    "common_name",
    "fingerprint",
    "hosts_of",
    "is_for",
    "is_issued_by",
    "is_key_of",
    "is_pair",
    "issue_server_certificate",
    "key_fingerprint",
    "lifetime",
    "make_authority",
    "make_key",
    "make_request",
    "node_key_text",
    "private_pem",
    "public_line",
    "read_certificate",
    "read_node_key",
    "read_private_key",
    "read_public_key",
    "read_request",
    "time_left",
]
