"""Shamir's secret sharing, over the integers modulo 2^256 - 189.

Shamir 1979, "How to share a secret". Any ``threshold`` shares give the secret, fewer give nothing.
"""

import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from confide.secure_aggregation.keys import LABEL

PRIME = 2**256 - 189
SHARE_BYTES = 32
COMMITMENT_BYTES = 32
_DRAWN_BYTES = 40
"""Bytes of which a number below the prime is made: their remainder is uniform to within 2^-64."""


class Polynomials:
    """Coefficients that derive from a key, so that a question asked again is answered alike.

    Args:
        key: 32 bytes, used for nothing else.
    """

    def __init__(self, key: bytes) -> None:
        self._stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def split(self, secret: int, *, threshold: int, count: int) -> list[bytes]:
        """Split a secret.

        Args:
            secret: 0 to ``PRIME`` - 1.
            threshold: shares that give it back, 1 to ``count``.
            count: how many there are; share i, from 0, is the polynomial at i + 1.

        Returns:
            Shares of ``SHARE_BYTES`` each.
        """
        coefficients = [secret, *(self._coefficient() for _ in range(threshold - 1))]
        shares = []
        for place in range(1, count + 1):
            value = 0
            for coefficient in reversed(coefficients):
                value = (value * place + coefficient) % PRIME
            shares.append(value.to_bytes(SHARE_BYTES, "little"))
        return shares

    def _coefficient(self) -> int:
        return to_secret(self._stream.update(bytes(_DRAWN_BYTES)))


def to_secret(material: bytes) -> int:
    """Turn 40 bytes of key material into a number below the prime, uniform to within 2^-64."""
    return int.from_bytes(material, "little") % PRIME


def joined(shares: Sequence[bytes], weights: Sequence[int]) -> int:
    """Return the secret of some shares.

    Args:
        shares: as many as the threshold, of different places; read as numbers modulo the prime.
        weights: of their places (:func:`weights_of`), in the same order.
    """
    numbers = (int.from_bytes(share, "little") for share in shares)
    return sum(weight * number for weight, number in zip(weights, numbers, strict=True)) % PRIME


def weights_of(places: Sequence[int]) -> list[int]:
    """Return Lagrange's weights at zero for shares of different places, from 0."""
    at = [place + 1 for place in places]
    weights = []
    for i, x in enumerate(at):
        top = bottom = 1
        for j, other in enumerate(at):
            if i != j:
                top, bottom = top * other % PRIME, bottom * (other - x) % PRIME
        weights.append(top * pow(bottom, -1, PRIME) % PRIME)
    return weights


def commitment(secret: int, about: str) -> bytes:
    """Return what fixes a secret without telling it: it is uniform on 256 bits.

    Args:
        secret: 0 to ``PRIME`` - 1.
        about: what it is a secret of.
    """
    text = LABEL + b"/commitment/" + about.encode() + b"/" + secret.to_bytes(SHARE_BYTES, "little")
    return hashlib.sha256(text).digest()


__all__ = [
    "COMMITMENT_BYTES",
    "PRIME",
    "SHARE_BYTES",
    "Polynomials",
    "commitment",
    "joined",
    "to_secret",
    "weights_of",
]
