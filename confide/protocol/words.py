"""A masked vector as it travels: one npy array of integers modulo 2^32 or 2^64."""

from typing import Any

import numpy
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal

Words = NDArray[numpy.unsignedinteger[Any]]
"""Unsigned integers, added up modulo 2^64 or 2^32."""

MASKED = "masked"
"""Name of the one array in a reply to a masked sum."""
_STYPE = "numpy.ndarray"
_DTYPES: dict[int, numpy.dtype[Any]] = {32: numpy.dtype("<u4"), 64: numpy.dtype("<u8")}


def dtype_of(bits: int) -> numpy.dtype[Any]:
    """Return the type of words of 32 or 64 bits, little-endian."""
    return _DTYPES[bits]


def encode_words(words: Words) -> ArrayRecord:
    """Pack words into a record that Flower can read."""
    bits = 8 * words.dtype.itemsize
    plain = numpy.ascontiguousarray(words, dtype=_DTYPES[bits])
    data = _header(bits, len(plain)) + plain.tobytes()
    return ArrayRecord({MASKED: Array(plain.dtype.name, (len(plain),), _STYPE, data)})


def decode_words(record: ArrayRecord, *, bits: int, length: int) -> Words:
    """Unpack words after checking them against what was expected.

    Args:
        record: what came over the wire.
        bits: of each word, 32 or 64.
        length: d, number of words.

    Returns:
        Words in memory of their own, shape [d].

    Raises:
        ProtocolError: if there are others.
    """
    if list(record) != [MASKED]:
        raise ProtocolError("Expected one masked vector.", code=Refusal.TENSOR_NAMES)
    array, dtype = record[MASKED], _DTYPES[bits]
    if array.dtype != dtype.name or array.stype != _STYPE:
        raise ProtocolError(
            f"Expected masked words of type {dtype.name}, got {array.dtype} ({array.stype}).",
            code=Refusal.TENSOR_DTYPE,
        )
    header, size = _header(bits, length), length * dtype.itemsize
    # Compared, not parsed: numpy's reader never sees what a stranger wrote
    if (
        tuple(array.shape) != (length,)
        or len(array.data) != len(header) + size
        or not array.data.startswith(header)
    ):
        raise ProtocolError(
            f"Expected {length} masked words, got shape {list(array.shape)}.",
            code=Refusal.TENSOR_SHAPE,
        )
    words: Words = numpy.frombuffer(array.data, dtype=dtype, offset=len(header)).copy()
    return words


def _header(bits: int, length: int) -> bytes:
    """Return the header of the npy format, version 1.0."""
    text = f"{{'descr': '{_DTYPES[bits].str}', 'fortran_order': False, 'shape': ({length},), }}"
    room = -(10 + len(text) + 1) % 64
    padded = (text + " " * room + "\n").encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


__all__ = ["MASKED", "Words", "decode_words", "dtype_of", "encode_words"]
