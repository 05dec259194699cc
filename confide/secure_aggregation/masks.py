"""Masks: streams of integers modulo 2^64 that are added to a vector and taken off again.

A stream is AES-256 in counter mode under a key that is used for this stream alone. A vector with
one mask that nobody knows is uniform on all vectors of its length.
"""

import hashlib
from collections.abc import Iterator

import numpy
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from confide.secure_aggregation.keys import LABEL
from confide.secure_aggregation.shares import SHARE_BYTES

Words = NDArray[numpy.uint64]
_WORD = 8
_BLOCK = 2**15  # words expanded at a time: 256 KiB, which a processor's cache holds
_ROOM = 15  # bytes that the cipher wants beyond those that it fills
_ZEROS = bytes(_WORD * _BLOCK)


def add_mask(vector: Words, secret: int) -> None:
    """Add the mask of a secret, in place, modulo 2^64.

    Args:
        vector: uint64, shape [d].
        secret: 0 to ``PRIME`` - 1, of this mask alone.
    """
    for part, stream in _parts(vector, secret):
        numpy.add(part, stream, out=part)


def remove_mask(vector: Words, secret: int) -> None:
    """Take the mask of a secret off, in place, modulo 2^64.

    Args:
        vector: uint64, shape [d].
        secret: as it was added.
    """
    for part, stream in _parts(vector, secret):
        numpy.subtract(part, stream, out=part)


def _parts(vector: Words, secret: int) -> Iterator[tuple[Words, Words]]:
    key = hashlib.sha256(LABEL + b"/mask/" + secret.to_bytes(SHARE_BYTES, "little")).digest()
    cipher = Cipher(AES256(key), CTR(bytes(16))).encryptor()
    filled = bytearray(_WORD * _BLOCK + _ROOM)
    # Little-endian everywhere: both sides have to read the same integers.
    stream = numpy.frombuffer(filled, dtype="<u8", count=_BLOCK)
    for start in range(0, len(vector), _BLOCK):
        part = vector[start : start + _BLOCK]
        cipher.update_into(memoryview(_ZEROS)[: _WORD * len(part)], filled)
        yield part, stream[: len(part)]


__all__ = ["Words", "add_mask", "remove_mask"]
