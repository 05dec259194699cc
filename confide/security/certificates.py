"""X.509 certificates of a federation: its authority's, the coordinator's, and what they say.

The authority signs the coordinator's certificates, and those by which trainers sign for their
institutions in masked sums. Institutions are known to Flower by their public keys, as it
authenticates SuperNodes, and trust any server that has a certificate of the authority for the host
that they call. All keys are EC P-384.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from confide.errors import ConfigError
from confide.security.certificate_hosts import (
    common_name_of,
    general_name,
    server_names,
    subtree,
)
from confide.security.ec_keys import AS_PROVISIONED, PrivateKey, PublicKey, expect_public, read_file
from confide.security.parsing import DAMAGED, whole

AUTHORITY_DAYS = 3650
RENEW_DAYS = 30
"""Days before its end from which a certificate is renewed, and people are told."""
CLOCKS_DIFFER = datetime.timedelta(minutes=5)


def make_authority(
    name: str,
    key: PrivateKey,
    hosts: Sequence[str] = (),
    *,
    now: datetime.datetime | None = None,
) -> x509.Certificate:
    """Make a federation's self-signed authority, which can sign certificates but no authority.

    With hosts it vouches for no other server (RFC 5280, 4.2.1.10): whoever steals its key can pose
    as the coordinator, and as nobody else to those who trust it. Names under a DNS name are
    permitted with it. Certificates without such names, as trainers have, are not concerned.

    Args:
        name: name of the federation, at most 64 bytes in UTF-8.
        key: private key of the authority.
        hosts: DNS names and IP addresses that it may sign for, of either kind one at least; none
            for no limit.
        now: current time, with its time zone.
    """
    subject = _name(name)
    builder = _builder(subject, subject, key.public_key(), _now(now), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(key_usage(signs_certificates=True), critical=True)
    if hosts:
        # A kind of name that no entry is of would be without a limit
        if len({type(general_name(host)) for host in hosts}) < 2:
            raise ValueError(f"Expected a DNS name and an IP address in hosts={list(hosts)}.")
        permitted = x509.NameConstraints(list(map(subtree, hosts)), None)
        builder = builder.add_extension(permitted, critical=True)
    return builder.sign(key, hashes.SHA384())


def issue_server_certificate(
    public_key: PublicKey,
    hosts: Sequence[str],
    *,
    authority: tuple[x509.Certificate, PrivateKey],
    days: int,
    now: datetime.datetime | None = None,
) -> x509.Certificate:
    """Sign a server's certificate for its hosts.

    Args:
        public_key: public key of the server.
        hosts: DNS names and IP addresses that clients connect to, at least one.
        authority: certificate and private key of the authority.
        days: validity in days; it ends at the latest with the authority's.
        now: current time, with its time zone.

    Raises:
        ConfigError: if the authority's key is not that of its certificate.
    """
    # With an organization: a subject equal to the authority's would look self-signed.
    organization = _name("confide", NameOID.ORGANIZATION_NAME)
    # Clients look for their host in the alternative names alone; the common name is for people.
    more = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), server_names(hosts)
    subject = x509.Name([*organization, *_name(common_name_of(hosts))])
    return _issue(subject, public_key, more, authority=authority, days=days, now=now)


def issue_trainer_certificate(
    public_key: PublicKey,
    name: str,
    *,
    authority: tuple[x509.Certificate, PrivateKey],
    days: int,
    now: datetime.datetime | None = None,
) -> x509.Certificate:
    """Sign an institution's certificate, by which its trainer signs for it in masked sums.

    It is for signatures alone: no server and no client of TLS is known by it.

    Args:
        public_key: public key of the institution's trainer.
        name: of the institution, at most 64 bytes in UTF-8.
        authority: certificate and private key of the authority.
        days: validity in days; it ends at the latest with the authority's.
        now: current time, with its time zone.

    Raises:
        ConfigError: if the authority's key is not that of its certificate.
    """
    return _issue(_name(name), public_key, (), authority=authority, days=days, now=now)


def issue_node_certificate(
    public_key: PublicKey,
    name: str,
    *,
    authority: tuple[x509.Certificate, PrivateKey],
    days: int,
    now: datetime.datetime | None = None,
) -> x509.Certificate:
    """Sign an institution's certificate, which its SuperNode shows to a front that asks for one.

    Args:
        public_key: public key of the institution's node.
        name: of the institution, at most 64 bytes in UTF-8.
        authority: certificate and private key of the authority.
        days: validity in days; it ends at the latest with the authority's.
        now: current time, with its time zone.

    Raises:
        ConfigError: if the authority's key is not that of its certificate.
    """
    # Not as the common name: OpenSSL takes one with a dot for a host, which the authority may not
    # sign for.
    subject = x509.Name([*_name(name, NameOID.ORGANIZATION_NAME), *_name("node")])
    more = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),)
    return _issue(subject, public_key, more, authority=authority, days=days, now=now)


def _issue(
    subject: x509.Name,
    public_key: PublicKey,
    more: Sequence[x509.ExtensionType],
    *,
    authority: tuple[x509.Certificate, PrivateKey],
    days: int,
    now: datetime.datetime | None,
) -> x509.Certificate:
    """Sign a certificate that signs no others, with more extensions than each has."""
    certificate, key = authority
    if not is_key_of(key, certificate):
        raise ConfigError(
            f"The authority's key is not that of its certificate {fingerprint(certificate)};"
            f" {AS_PROVISIONED}."
        )
    latest = certificate.not_valid_after_utc
    builder = _builder(subject, certificate.subject, public_key, _now(now), days, latest)
    for extension, critical in _leaf_extensions(certificate):
        builder = builder.add_extension(extension, critical=critical)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA384())


def _leaf_extensions(authority: x509.Certificate) -> list[tuple[x509.ExtensionType, bool]]:
    """Return what certificates that sign no others have, each with whether it is critical.

    Python 3.13 verifies strictly: without key usage and the authority's key identifier it refuses a
    certificate that older releases take.
    """
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage(signs_certificates=False), True),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    ]


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
        # From a little before now: an institution's clock may be behind.
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(end if latest is None else min(end, latest))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return what a key is used for: signing certificates, or signing alone."""
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


def _name(name: str, oid: x509.ObjectIdentifier = NameOID.COMMON_NAME) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, name)])


def _now(now: datetime.datetime | None) -> datetime.datetime:
    return now or datetime.datetime.now(datetime.UTC)


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Return whether an authority signed a certificate, valid today or not."""
    # cryptography checks names and signature, but not that the issuer may sign at all.
    try:
        certificate.verify_directly_issued_by(authority)
        return authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (InvalidSignature, x509.ExtensionNotFound, *DAMAGED):
        return False


def is_trainers(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is one by which a trainer signs, and no server's or authority's.

    The authority signs the coordinator's servers too, whose keys are no institution's.
    """
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, *DAMAGED):
        return False
    uses = any(isinstance(it.value, x509.ExtendedKeyUsage) for it in extensions)
    return not (uses or constraints.ca)


def is_key_of(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Return whether a private key is that of a certificate."""
    return key.public_key() == certificate.public_key()


def time_left(
    certificate: x509.Certificate, *, now: datetime.datetime | None = None
) -> datetime.timedelta:
    """Return how long a certificate is still valid; negative once it has expired."""
    return certificate.not_valid_after_utc - _now(now)


def days_left(certificate: x509.Certificate, *, now: datetime.datetime | None = None) -> int:
    """Return how many whole days a certificate is still valid; negative once it has expired."""
    return time_left(certificate, now=now).days


def is_valid_at(certificate: x509.Certificate, *, now: datetime.datetime | None = None) -> bool:
    """Return whether a certificate is valid, as far as clocks may differ."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin - CLOCKS_DIFFER <= _now(now) <= end + CLOCKS_DIFFER


def lifetime(certificate: x509.Certificate) -> datetime.timedelta:
    """Return how long a certificate is valid in all."""
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def fingerprint(certificate: x509.Certificate) -> str:
    """Return a certificate's SHA-256 fingerprint as ``openssl x509 -fingerprint`` prints it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def common_name(name: x509.Name) -> str | None:
    """Return the common name in a subject; None if there is not exactly one."""
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else None


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate in PEM, whose key is on curve P-384.

    Raises:
        UnreadableError: if it is none, with the file and the fix.
    """
    certificate = read_file(
        path, "a certificate in PEM", lambda data: whole(x509.load_pem_x509_certificate(data))
    )
    expect_public(str(path), certificate.public_key())
    return certificate


__all__ = [
    "AUTHORITY_DAYS",
    "CLOCKS_DIFFER",
    "RENEW_DAYS",
    "certificate_pem",
    "common_name",
    "days_left",
    "fingerprint",
    "is_issued_by",
    "is_key_of",
    "is_trainers",
    "is_valid_at",
    "issue_node_certificate",
    "issue_server_certificate",
    "issue_trainer_certificate",
    "key_usage",
    "lifetime",
    "make_authority",
    "read_certificate",
    "time_left",
]
