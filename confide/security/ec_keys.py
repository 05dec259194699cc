"""Keys on curve P-384: made, written, read, compared by fingerprint.

Servers read their keys in PEM (PKCS#8), SuperNodes in OpenSSH's form; public keys of institutions
are OpenSSH's one line. Errors name the file, the kind of key that it holds, and the fix.
"""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import UnreadableError

T = TypeVar("T")
PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

AS_PROVISIONED = "bring back the file that `confide provision` wrote"
"""The fix for a file that is damaged or replaced."""


def make_key() -> PrivateKey:
    """Generate a private key on curve P-384."""
    return ec.generate_private_key(ec.SECP384R1())


def private_pem(key: PrivateKey) -> str:
    """Write a private key as PKCS#8 PEM, the form that TLS servers read; not encrypted."""
    return _private_text(key, serialization.PrivateFormat.PKCS8)


def node_key_text(key: PrivateKey) -> str:
    """Write a private key in OpenSSH's form, which SuperNodes read; not encrypted."""
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
    """Return a public key's fingerprint as ``ssh-keygen -l`` prints it: SHA256 in base64."""
    # OpenSSH hashes the binary form inside the line, and leaves the padding off.
    digest = hashlib.sha256(base64.b64decode(public_line(key).split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def read_private_key(path: Path) -> PrivateKey:
    """Read a private key in PEM (PKCS#8), not encrypted.

    Raises:
        UnreadableError: if it is none, with the file and the fix.
    """
    return _read_private(path, "a private key in PEM", serialization.load_pem_private_key)


def read_node_key(path: Path) -> PrivateKey:
    """Read a private key in OpenSSH's form, not encrypted.

    Raises:
        UnreadableError: if it is none, with the file and the fix.
    """
    return _read_private(
        path, "a private key in OpenSSH's form", serialization.load_ssh_private_key
    )


def _read_private(path: Path, what: str, load: Callable[..., object]) -> PrivateKey:
    # Without a password: a server that starts by itself has nobody to ask for one.
    key = read_file(path, what, lambda data: load(data, password=None))
    if not isinstance(key, PrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UnreadableError(
            f"{path}: expected a key on curve P-384, got {kind_of(key)}; {AS_PROVISIONED}."
        )
    return key


def read_public_key(path: Path) -> PublicKey:
    """Read a public key in OpenSSH's form.

    Raises:
        UnreadableError: if it is none, with the file and the fix.
    """
    key = read_file(path, "a public key in OpenSSH's form", serialization.load_ssh_public_key)
    return expect_public(str(path), key)


def parse_public_line(line: str) -> PublicKey:
    """Parse a public key in OpenSSH's form.

    Raises:
        UnreadableError: if it is none.
    """
    try:
        key = serialization.load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnreadableError(f"{line[:40]!r} is no public key ({reason_of(error)}).") from None
    return expect_public("public key", key)


def read_file(path: Path, what: str, load: Callable[[bytes], T]) -> T:
    """Read a file with one of cryptography's loaders.

    Args:
        path: file to read.
        what: what the file should hold, for the error.
        load: function that parses the file's content.

    Raises:
        UnreadableError: if the file is missing or cannot be parsed, with the file and the fix.
    """
    try:
        return load(path.read_bytes())
    # TypeError is what the loaders of private keys raise for one that is encrypted.
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise UnreadableError(
            f"{path} cannot be read as {what} ({reason_of(error)}); {AS_PROVISIONED}."
        ) from None


def expect_public(where: str, key: object) -> PublicKey:
    """Return a public key if it is on curve P-384.

    Raises:
        UnreadableError: if it is not, naming where it was found.
    """
    if not is_p384(key):
        raise UnreadableError(
            f"{where}: expected a key on curve P-384, got {kind_of(key)}; {AS_PROVISIONED}."
        )
    return key


def is_p384(key: object) -> TypeGuard[PublicKey]:
    """Return whether a public key is on curve P-384, which Flower's nodes and servers use."""
    return isinstance(key, PublicKey) and isinstance(key.curve, ec.SECP384R1)


def kind_of(key: object) -> str:
    """Return the curve or algorithm of a key, for an error."""
    if isinstance(key, PublicKey | PrivateKey):
        return key.curve.name
    return type(key).__name__.removesuffix("PublicKey")


def reason_of(error: Exception) -> str:
    """Return in a few words why a file cannot be read; cryptography's are long and cite its FAQ."""
    if isinstance(error, OSError):
        return str(error.strerror)
    return "it holds something else, is damaged, or is encrypted"


__all__ = [
    "AS_PROVISIONED",
    "PrivateKey",
    "PublicKey",
    "expect_public",
    "is_p384",
    "key_fingerprint",
    "kind_of",
    "make_key",
    "node_key_text",
    "parse_public_line",
    "private_pem",
    "public_line",
    "read_file",
    "read_node_key",
    "read_private_key",
    "read_public_key",
    "reason_of",
]
