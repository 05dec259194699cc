"""Keys on curve P-384: made, written, read, compared by fingerprint.

Servers read their keys in PEM (PKCS#8), SuperNodes in OpenSSH's form; public keys of institutions
are OpenSSH's one line. A key may be encrypted with a passphrase (:mod:`.passphrases`): it is PKCS#8
then, a SuperNode's too. Errors name the file, the kind of key that it holds, and the fix.
"""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard, TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import UnreadableError
from confide.security.parsing import DAMAGED
from confide.security.passphrases import FOLDER, passphrase_for, passphrase_name

T = TypeVar("T")
PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
AS_PROVISIONED = "bring back the file that `confide provision` wrote"
"""The fix for a file that is damaged or replaced."""


def make_key() -> PrivateKey:
    """Generate a private key on curve P-384."""
    return ec.generate_private_key(ec.SECP384R1())


def private_pem(key: PrivateKey, passphrase: bytes | None = None) -> str:
    """Write a private key as PKCS#8 PEM, the form that TLS servers read.

    Args:
        key: the key.
        passphrase: that it is encrypted with; None leaves it as it is.
    """
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    ).decode()


def node_key_text(key: PrivateKey) -> str:
    """Write a private key in OpenSSH's form, which SuperNodes read; not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()


def new_pem(path: Path) -> str:
    """Make a key for a file, encrypted if there is a passphrase for it.

    Raises:
        UnreadableError: if the passphrase cannot be used.
    """
    return private_pem(make_key(), passphrase_for(path))


def new_node_text(path: Path) -> str:
    """Make a node's key for a file, in OpenSSH's form, or encrypted if there is a passphrase.

    Raises:
        UnreadableError: if the passphrase cannot be used.
    """
    passphrase, key = passphrase_for(path), make_key()
    return node_key_text(key) if passphrase is None else private_pem(key, passphrase)


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
    """Read a private key in PEM (PKCS#8), encrypted or not.

    Raises:
        UnreadableError: if it is none, or is encrypted and its passphrase is missing or another.
    """
    return _read_private(path, "a private key in PEM", serialization.load_pem_private_key)


def read_node_key(path: Path) -> PrivateKey:
    """Read a private key in OpenSSH's form, or encrypted in PEM.

    Raises:
        UnreadableError: if it is none, or is encrypted and its passphrase is missing or another.
    """
    return _read_private(path, "a private key in OpenSSH's form", _load_node_key)


def _load_node_key(data: bytes, password: bytes | None) -> object:
    if _ENCRYPTED in data:
        return serialization.load_pem_private_key(data, password)
    return serialization.load_ssh_private_key(data, password)


def is_encrypted(path: Path) -> bool:
    """Return whether a file holds an encrypted key in PEM; False if it cannot be read."""
    try:
        return _ENCRYPTED in path.read_bytes()
    except OSError:
        return False


def _read_private(path: Path, what: str, load: Callable[..., object]) -> PrivateKey:
    # A server that starts by itself has nobody to ask for a passphrase
    passphrase = passphrase_for(path) if is_encrypted(path) else None
    if passphrase is None and is_encrypted(path):
        raise UnreadableError(
            f"{path} is encrypted, and its passphrase is not here; put it into the file"
            f" {passphrase_name(path)} of the folder that {FOLDER} names (mode 0600), or give it"
            f" to the service (LoadCredential={passphrase_name(path)}:FILE)."
        )
    try:
        key = read_file(path, what, lambda data: load(data, password=passphrase))
    except UnreadableError:
        if passphrase is None:
            raise
        raise UnreadableError(
            f"{path} is encrypted with another passphrase than that in {passphrase_name(path)}, or"
            " is damaged; bring the passphrase that it was encrypted with."
        ) from None
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
    except DAMAGED as error:
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
    except (OSError, *DAMAGED) as error:
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
    "is_encrypted",
    "is_p384",
    "key_fingerprint",
    "kind_of",
    "make_key",
    "new_node_text",
    "new_pem",
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
