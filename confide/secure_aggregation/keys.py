"""Keys that derive from a secret and what it is used for."""

import struct

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LABEL = b"confide-sum-v1"
"""In all that is hashed, signed or derived here: another protocol's bytes are never these."""


def derive(secret: bytes, *purpose: bytes, length: int = 32) -> bytes:
    """Derive a key by HKDF-SHA256 (RFC 5869).

    Args:
        secret: key material with at least 256 bits of entropy.
        purpose: what the key is for; different purposes give unrelated keys.
        length: of the key, in bytes.
    """
    # With their lengths: otherwise ("ab", "c") and ("a", "bc") would give the same key
    info = b"".join(struct.pack("<I", len(part)) + part for part in (LABEL, *purpose))
    return HKDF(SHA256(), length, salt=None, info=info).derive(secret)


__all__ = ["LABEL", "derive"]
