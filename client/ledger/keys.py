"""Keys of one institution's ledger: of unit ids and of a round's secret."""

import functools
import hashlib
import hmac
import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from confide.errors import LedgerError
from confide.privacy.randomness import KEY_BYTES
from confide.storage.files import replace_file

_MAC_BYTES = 16


class LedgerKeys:
    """What only the institution knows.

    The key that signs exports and the key of unit hashes, in one file.

    Args:
        path: of the file, readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = b""

    def create(self) -> str:
        """Make new keys, unless there are some, and return the public one."""
        if not self.path.exists():
            raw = os.urandom(2 * KEY_BYTES)
            self.path.parent.mkdir(parents=True, exist_ok=True)

            def write(temporary: Path) -> None:
                temporary.write_bytes(raw)

            replace_file(self.path, write, mode=0o600)
        return self.public_key

    @functools.cached_property
    def public_key(self) -> str:
        """Ed25519, hexadecimal."""
        raw = self.signing_key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return raw.hex()

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """What exports are signed with."""
        return Ed25519PrivateKey.from_private_bytes(self._read()[:KEY_BYTES])

    def mac(self, unit_id: str) -> bytes:
        """Return the keyed hash of a unit's id, 16 bytes."""
        return hmac.digest(self._read()[KEY_BYTES:], unit_id.encode(), hashlib.sha256)[:_MAC_BYTES]

    def _read(self) -> bytes:
        if not self._raw:
            try:
                self._raw = self.path.read_bytes()
            except OSError as error:
                raise LedgerError(
                    f"{self.path} cannot be read ({error}); bring the key back."
                ) from None
            if len(self._raw) != 2 * KEY_BYTES:
                raise LedgerError(
                    f"{self.path} holds {len(self._raw)} bytes, expected {2 * KEY_BYTES}; bring the"
                    " key back."
                )
        return self._raw


__all__ = ["LedgerKeys"]
