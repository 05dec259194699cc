"""Certificate requests (PKCS#10): of institutions that make their own keys, of the coordinator.

A request proves that its sender holds the private key of the public key in it; the private key
never leaves the institution. One is for the node, by which the coordinator recognises the
institution; one for the trainer, which signs for it in masked sums. The coordinator's goes to an
external authority, if one certifies it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from confide.errors import ConfigError
from confide.security.certificate_hosts import common_name_of, server_names
from confide.security.certificates import common_name, key_usage
from confide.security.ec_keys import (
    PrivateKey,
    PublicKey,
    is_p384,
    kind_of,
    read_file,
    reason_of,
)
from confide.security.parsing import DAMAGED, whole

Role = Literal["node", "trainer"]
"""Whose key it is: the SuperNode's, or the trainer's."""


@dataclass(frozen=True)
class KeyRequest:
    """A checked certificate request.

    Attributes:
        name: name of the institution.
        public_key: public key of its node or its trainer.
        role: which of them.
    """

    name: str
    public_key: PublicKey
    role: Role


def make_request(key: PrivateKey, name: str, role: Role = "node") -> str:
    """Write an institution's certificate request (PKCS#10, PEM), signed with the key in it.

    Args:
        key: private key of the node or the trainer.
        name: name of the institution, at most 64 bytes in UTF-8.
        role: whose key it is.
    """
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if role != "node":
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role))
    subject = x509.Name(attributes)
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM).decode()


def make_server_request(key: PrivateKey, hosts: Sequence[str]) -> str:
    """Write the request for the coordinator's certificate of an external authority.

    Args:
        key: private key of the server.
        hosts: DNS names and IP addresses that institutions connect to, at least one.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name_of(hosts))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension, critical in (
        (server_names(hosts), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (key_usage(signs_certificates=False), True),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM).decode()


def is_server_request(path: Path, key: PublicKey, hosts: Sequence[str]) -> bool:
    """Return whether a file is the request of a server's key, for these hosts.

    Raises:
        UnreadableError: if there is a file, and it is no request.
    """
    if not path.exists():
        return False
    request = read_file(
        path, "a certificate request in PEM", lambda data: whole(x509.load_pem_x509_csr(data))
    )
    names = [it.value for it in request.extensions]
    return request.public_key() == key and server_names(hosts) in names


def read_request(path: Path) -> KeyRequest:
    """Read a certificate request and check that its sender holds the private key.

    Raises:
        ConfigError: if it cannot be read, is signed with another key, has a key on another curve
            or no name.
    """
    fix = "ask for one made by `confide provision --request NAME`"
    try:
        request = whole(x509.load_pem_x509_csr(path.read_bytes()))
        name = common_name(request.subject)
        is_signed = request.is_signature_valid
        key = request.public_key()
    except (OSError, *DAMAGED) as error:
        raise ConfigError(
            f"{path} cannot be read as a certificate request in PEM ({reason_of(error)}); {fix}."
        ) from None
    # All at once: the institution has to make and send another request.
    problems = []
    if not is_p384(key):
        problems.append(f"{path}: expected a key on curve P-384, got {kind_of(key)}; {fix}.")
    if not is_signed:
        problems.append(
            f"{path}: it is not signed with the key in it, so it was changed on its way; {fix}."
        )
    if not name:
        problems.append(
            f"{path}: expected one common name, the institution's, got"
            f" {request.subject.rfc4514_string()!r}; {fix}."
        )
    # The last two are among the problems already; the type checker does not see that.
    if problems or not is_p384(key) or not name:
        raise ConfigError(problems)
    units = request.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    is_trainer = [unit.value for unit in units] == ["trainer"]
    return KeyRequest(name, key, "trainer" if is_trainer else "node")


__all__ = [
    "KeyRequest",
    "Role",
    "is_server_request",
    "make_request",
    "make_server_request",
    "read_request",
]
