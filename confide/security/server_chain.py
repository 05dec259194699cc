"""The coordinator's certificate as another authority signed it: read, and put in order.

A trust's or a bank's own authority certifies the coordinator's front, and nothing else: trainers,
nodes and the list of revoked keys stay with the federation's. Its keys are of any kind.
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from confide.errors import ConfigError, UnreadableError
from confide.security import certificate_hosts, certificates
from confide.security.ec_keys import PublicKey, key_fingerprint
from confide.security.parsing import DAMAGED, whole

FILE = "server-ca.crt"
"""Root of the coordinator's certificate, where that is not the federation's own authority."""
_WEAK_HASHES = (hashes.MD5, hashes.SHA1)
_PEM = (
    "expected certificates in PEM: `openssl x509 -inform der -in FILE` writes them of a DER file,"
    " `openssl pkcs7 -print_certs -in FILE` of a .p7b"
)


@dataclass(frozen=True, kw_only=True)
class ServerChain:
    """A server's certificate and those that lead from it to a root.

    Attributes:
        leaf: the server's.
        intermediates: each signed the one before, the first of them the leaf.
        root: the authority that institutions know it by; it signed the last.
        left_out: certificates of the file that are no part of it.
    """

    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    root: x509.Certificate
    left_out: tuple[x509.Certificate, ...] = ()

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """All but the leaf, from the one that signed it up to the root."""
        return (*self.intermediates, self.root)

    def served(self) -> str:
        """Return what a server sends, as PEM: the leaf, then the intermediates."""
        return "".join(map(certificates.certificate_pem, (self.leaf, *self.intermediates)))


def read_all(path: Path) -> list[x509.Certificate]:
    """Read the certificates in a file, whatever kinds of keys they have.

    Raises:
        UnreadableError: if there is none, or one is damaged.
    """
    try:
        found = list(map(whole, x509.load_pem_x509_certificates(path.read_bytes())))
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read ({error.strerror}); name a file.") from None
    except DAMAGED as error:
        raise UnreadableError(
            f"{path} cannot be read as a certificate ({error}); {_PEM}."
        ) from None
    return found


def first_to_end(path: Path) -> x509.Certificate:
    """Return that certificate of a file which ends before the others.

    Raises:
        UnreadableError: if there is none, or one is damaged.
    """
    return min(read_all(path), key=lambda it: it.not_valid_after_utc)


def read_chain(path: Path, root: x509.Certificate, key: PublicKey) -> ServerChain:
    """Find in a file the certificate of a key, and those that lead from it to a root.

    Args:
        path: file with the chain, in any order.
        root: the authority at its end.
        key: public key of the server.

    Raises:
        ConfigError: if there is no certificate of the key, or one in between is missing.
        UnreadableError: if the file holds no certificates.
    """
    found = read_all(path)
    ours = [it for it in found if it.public_key() == key]
    if not ours:
        raise ConfigError(
            f"{path} holds no certificate for server.key ({key_fingerprint(key)}), but for"
            f" {', '.join(map(told, found))}; send server.csr to your authority again."
        )
    leaf = max(ours, key=lambda it: it.not_valid_before_utc)
    others = [it for it in found if it not in ours and it != root]
    intermediates: list[x509.Certificate] = []
    last = leaf
    while not signed(root, last):
        issuer = next((it for it in others if signed(it, last)), None)
        if issuer is None:
            raise ConfigError(_missing(path, last, root))
        others.remove(issuer)
        intermediates.append(issuer)
        last = issuer
    return ServerChain(
        leaf=leaf, intermediates=tuple(intermediates), root=root, left_out=tuple(others)
    )


def _missing(path: Path, last: x509.Certificate, root: x509.Certificate) -> str:
    issuer, signed_with = last.issuer.rfc4514_string(), last.signature_hash_algorithm
    if isinstance(signed_with, _WEAK_HASHES):  # which cryptography does not verify any more
        return (
            f"{path}: {told(last)} is signed with {signed_with.name}, which can be forged; ask"
            " your authority for another, with SHA-256."
        )
    if last.issuer == root.subject:
        return (
            f"{path}: {told(last)} names the root {issuer!r} as its issuer, but the one given"
            f" ({certificates.fingerprint(root)}) did not sign it; ask for the root's certificate"
            " that did."
        )
    return (
        f"{path}: the chain ends with {told(last)}, and does not reach the root {told(root)}: it"
        f" lacks the certificate of {issuer!r}; ask your authority for it, and add it."
    )


def read_root(path: Path) -> x509.Certificate:
    """Read the authority at the end of a chain.

    Raises:
        UnreadableError: if the file holds not one certificate, or that is none of a root.
    """
    found = read_all(path)
    if len(found) != 1:
        raise UnreadableError(
            f"{path}: expected one certificate, the root's alone, got {len(found)}"
            f" ({', '.join(map(told, found))}); put the others into the chain's file."
        )
    if not signed(found[0], found[0]):
        raise UnreadableError(
            f"{path}: {told(found[0])} is no root, since {found[0].issuer.rfc4514_string()!r}"
            " signed it; name the file of that one's certificate, and put this one into the"
            " chain's file."
        )
    return found[0]


def told(certificate: x509.Certificate) -> str:
    """Return a certificate's subject in quotes, or what it is for if it has none."""
    subject = certificate.subject.rfc4514_string()
    return repr(subject or ", ".join(certificate_hosts.hosts_of(certificate)))


def signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Return whether one signed the other; whether it may is another question."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *DAMAGED):
        return False
    return True


__all__ = [
    "FILE",
    "ServerChain",
    "first_to_end",
    "read_all",
    "read_chain",
    "read_root",
    "signed",
    "told",
]
