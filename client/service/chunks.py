"""Tensors of a request or a reply: announced by a header, carried in chunks.

Everything is checked before it is kept: tensors that do not fit are refused by their header, so
that a receiver never holds more than its own limit, and memory grows with the bytes that arrived
and not with those that were announced. Tensors are npy files, as :mod:`confide.protocol.tensors`
and :mod:`confide.protocol.words` write them; their values, and that the files hold the dtype that
was announced, are checked when they are decoded.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord

from confide.client.service import trainer_pb2 as pb
from confide.errors import ProtocolError

CHUNK_BYTES = 2**20

_FLOAT32, _STYPE = "float32", "numpy.ndarray"
_ITEM_BYTES = {_FLOAT32: 4, "uint32": 4, "uint64": 8}
"""dtype -> bytes of a value."""
_LONGEST_NPY_HEADER = 1024
_MOST_DIMENSIONS = 32
_LONGEST_NAME = 300

_Part = pb.RequestPart | pb.ReplyPart


@dataclass(frozen=True, kw_only=True)
class WireLimits:
    """Limits of what a receiver accepts.

    Attributes:
        max_bytes: size of all tensors together, in bytes.
        max_tensors: number of tensors.
    """

    max_bytes: int = 2**30
    max_tensors: int = 8192

    def check(self, announced: pb.Signatures) -> None:
        """Check the tensors that a header announces, before any of them is read.

        Raises:
            ProtocolError: if they exceed the limits, or could not be read one by one.
        """
        count = len(announced.tensors)
        if count > self.max_tensors:
            raise ProtocolError(
                f"Expected at most max_tensors={self.max_tensors}; got {count}.",
                code="tensor_names",
            )
        if announced.num_bytes > self.max_bytes:
            raise ProtocolError(
                f"Expected at most max_bytes={self.max_bytes} of tensors; {announced.num_bytes}"
                " were announced. Train fewer tensors, or raise the limit.",
                code="too_large",
            )
        for signature in announced.tensors:
            _check_signature(signature)
        if len({signature.name for signature in announced.tensors}) < count:
            raise ProtocolError(
                "Expected every tensor to have a name of its own.", code="tensor_names"
            )
        # The limit was held against the announced sum, so it has to be the true one.
        if sum(signature.num_bytes for signature in announced.tensors) != announced.num_bytes:
            raise ProtocolError("Expected num_bytes of the header to be the sum over its tensors.")


def signatures(arrays: Mapping[str, Array] | None) -> pb.Signatures | None:
    """Announce tensors, or masked words.

    Raises:
        ProtocolError: if they cannot be carried, for instance by their dtype.
    """
    if arrays is None:
        return None
    announced = []
    for name, array in arrays.items():
        if array.dtype not in _ITEM_BYTES or array.stype != _STYPE:
            raise _wrong_dtype(name, f"{array.dtype} ({array.stype})")
        signature = pb.Signature(name=name, shape=array.shape, num_bytes=len(array.data))
        if array.dtype != _FLOAT32:
            signature.dtype = array.dtype
        _check_signature(signature)
        announced.append(signature)
    return pb.Signatures(
        tensors=announced, num_bytes=sum(signature.num_bytes for signature in announced)
    )


def _check_signature(signature: pb.Signature) -> None:
    if not 0 < len(signature.name) <= _LONGEST_NAME:
        raise ProtocolError(
            f"Expected names of tensors of 1 to {_LONGEST_NAME} characters.", code="tensor_names"
        )
    dtype = signature.dtype or _FLOAT32
    if dtype not in _ITEM_BYTES:
        raise _wrong_dtype(signature.name, dtype)
    if len(signature.shape) > _MOST_DIMENSIONS or any(size < 0 for size in signature.shape):
        raise ProtocolError(
            f"Tensor {signature.name}: expected at most {_MOST_DIMENSIONS} dimensions >= 0.",
            code="tensor_shape",
        )
    values = _ITEM_BYTES[dtype] * math.prod(signature.shape)
    if not values < signature.num_bytes <= values + _LONGEST_NPY_HEADER:
        raise ProtocolError(
            f"Tensor {signature.name}: expected an npy file of {values} bytes of values, got"
            f" num_bytes={signature.num_bytes}.",
            code="tensor_shape",
        )


def _wrong_dtype(name: str, dtype: str) -> ProtocolError:
    return ProtocolError(
        f"Tensor {name}: expected float32, or uint32 or uint64 of masked words; got"
        f" {dtype[:_LONGEST_NAME]}.",
        code="tensor_dtype",
    )


def chunks(arrays: Mapping[str, Array] | None) -> Iterator[pb.Chunk]:
    """Cut npy files into chunks of 1 MiB; small files share one."""
    # Memory views, so that a tensor is copied once, into its chunk, and not as a whole.
    parts: list[memoryview] = []
    offset = size = 0
    for array in (arrays or {}).values():
        data = memoryview(array.data)
        while data:
            parts.append(data[: CHUNK_BYTES - size])
            size += len(parts[-1])
            data = data[len(parts[-1]) :]
            if size == CHUNK_BYTES:
                yield pb.Chunk(offset=offset, data=b"".join(parts))
                parts, offset, size = [], offset + size, 0
    if parts:
        yield pb.Chunk(offset=offset, data=b"".join(parts))


def read_arrays(
    header: pb.RequestHeader | pb.ReplyHeader, parts: Iterator[_Part], limits: WireLimits
) -> ArrayRecord | None:
    """Read the tensors that a header announces, and make sure that nothing follows them.

    Args:
        header: as it arrived.
        parts: all that follows it.
        limits: limits of what is accepted.

    Raises:
        ProtocolError: if they exceed the limits, or are not what was announced.
    """
    record = None
    if header.HasField("arrays"):
        limits.check(header.arrays)
        record = ArrayRecord()
        stream = _ByteStream(parts, header.arrays.num_bytes)
        for signature in header.arrays.tensors:
            record[signature.name] = Array(
                signature.dtype or _FLOAT32,
                tuple(signature.shape),
                _STYPE,
                stream.read(signature.num_bytes),
            )
    if next(parts, None) is not None:
        raise ProtocolError("Expected nothing after the last byte that the header announced.")
    return record


class _ByteStream:
    """Reads chunks as one sequence of bytes, each of which is copied once.

    Args:
        parts: parts of the message after its header.
        total: number of bytes that the header announced.
    """

    def __init__(self, parts: Iterator[_Part], total: int) -> None:
        self._parts = parts
        self._offset, self._total = 0, total
        self._rest = memoryview(b"")

    def read(self, count: int) -> bytes:
        """Read the next bytes; raise ProtocolError if fewer arrive."""
        pieces: list[memoryview] = []
        while count:
            if not self._rest:
                part = next(self._parts, None)
                if part is None or part.WhichOneof("part") != "chunk":
                    raise ProtocolError(
                        f"Expected chunks up to byte {self._total}; they end at {self._offset}."
                    )
                offset, data = part.chunk.offset, part.chunk.data
                # Only the last chunk may be smaller: many tiny ones would cost more memory than
                # they hold.
                size = min(CHUNK_BYTES, self._total - self._offset)
                if offset != self._offset or len(data) != size:
                    raise ProtocolError(
                        f"Expected a chunk of {size} bytes at offset={self._offset}; got"
                        f" {len(data)} at offset={offset}."
                    )
                self._offset += size
                self._rest = memoryview(data)
            pieces.append(self._rest[:count])
            self._rest = self._rest[count:]
            count -= len(pieces[-1])
        return b"".join(pieces)


__all__ = ["CHUNK_BYTES", "WireLimits", "chunks", "read_arrays", "signatures"]
