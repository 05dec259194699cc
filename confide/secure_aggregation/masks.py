"""Masks: streams of integers modulo 2^64 or 2^32, added to a vector and taken off again.

A stream is AES-256 in counter mode under a key that is used for this stream alone. A vector with
one mask that nobody knows is uniform on all vectors of its length.
"""

import hashlib
from collections.abc import Iterator

import numpy
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from confide.protocol.words import Words, dtype_of
from confide.secure_aggregation.keys import LABEL
from confide.secure_aggregation.shares import SHARE_BYTES

_BLOCK = 2**18  # bytes expanded at a time: a processor's cache holds them
_ROOM = 15  # bytes that the cipher wants beyond those that it fills
_ZEROS = bytes(_BLOCK)


def add_mask(vector: Words, secret: int) -> None:
    """Add the mask of a secret, in place, modulo 2^64 or 2^32.

    Args:
        vector: uint64 or uint32, shape [d].
        secret: 0 to ``PRIME`` - 1, of this mask alone.
    """
    for part, stream in _parts(vector, secret):
        numpy.add(part, stream, out=part)


def remove_mask(vector: Words, secret: int) -> None:
    """Take the mask of a secret off, in place, modulo 2^64 or 2^32.

    Args:
        vector: uint64 or uint32, shape [d].
        secret: as it was added.
    """
    for part, stream in _parts(vector, secret):
        numpy.subtract(part, stream, out=part)


def _parts(vector: Words, secret: int) -> Iterator[tuple[Words, Words]]:
    key = hashlib.sha256(LABEL + b"/mask/" + secret.to_bytes(SHARE_BYTES, "little")).digest()
    cipher = Cipher(AES256(key), CTR(bytes(16))).encryptor()
    filled = bytearray(_BLOCK + _ROOM)
    size = vector.dtype.itemsize
    # Little-endian everywhere: both sides have to read the same integers
    stream = numpy.frombuffer(filled, dtype=dtype_of(8 * size), count=_BLOCK // size)
    for start in range(0, len(vector), len(stream)):
        part = vector[start : start + len(stream)]
        cipher.update_into(memoryview(_ZEROS)[: part.nbytes], filled)
        yield part, stream[: len(part)]


__all__ = ["add_mask", "remove_mask"]
