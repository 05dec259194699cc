"""Keys of ledgers: the one that signs heads and exports, and the one that hashes unit ids.

The ledgers of a folder share one file of keys, so that units of two populations can be compared.
"""

import functools
import hashlib
import hmac
import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from confide.errors import LedgerError, words_of
from confide.privacy.randomness import KEY_BYTES
from confide.security.ledger_heads import sign_digest
from confide.storage.files import replace_file

_MAC_BYTES = 16


class LedgerKeys:
    """The two secret keys, in one file.

    Args:
        path: path of the file, which only its owner may read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = b""

    def create(self) -> str:
        """Create the keys if there are none yet, and return the public key."""
        if not self.path.exists():
            raw = os.urandom(2 * KEY_BYTES)
            self.path.parent.mkdir(parents=True, exist_ok=True)

            def write(temporary: Path) -> None:
                temporary.write_bytes(raw)

            replace_file(self.path, write, mode=0o600)
        return self.public_key

    @functools.cached_property
    def public_key(self) -> str:
        """Public key of the signing key: Ed25519, hexadecimal."""
        raw = self.signing_key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return raw.hex()

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """Private key that heads and exports are signed with."""
        return Ed25519PrivateKey.from_private_bytes(self._read()[:KEY_BYTES])

    def sign(self, digest: str) -> str:
        """Sign the hash of an event, in base64."""
        return sign_digest(digest, self.signing_key)

    def mac(self, unit_id: str) -> bytes:
        """Return the keyed hash of a unit's id, 16 bytes."""
        # Keyed: ids such as patient numbers are few enough to try all, were the hash a plain one
        return hmac.digest(self._read()[KEY_BYTES:], unit_id.encode(), hashlib.sha256)[:_MAC_BYTES]

    def _read(self) -> bytes:
        if not self._raw:
            try:
                self._raw = self.path.read_bytes()
            except OSError as error:
                raise LedgerError(
                    f"{self.path} cannot be read ({words_of(error)}); bring the key back."
                ) from None
            if len(self._raw) != 2 * KEY_BYTES:
                raise LedgerError(
                    f"{self.path} holds {len(self._raw)} bytes, expected {2 * KEY_BYTES}; bring the"
                    " key back."
                )
        return self._raw


__all__ = ["LedgerKeys"]
