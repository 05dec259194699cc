"""Writes requests and replies as a header and chunks, and reads them.

Everything is checked before it is kept: a message that does not fit is refused by its header, so
that a receiver never holds more than its own limit, and memory grows with the bytes that arrived
and not with those that were announced. Tensors are npy files, as :mod:`confide.protocol.tensors`
writes them; their values and dtypes are checked when they are decoded.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Array, ArrayRecord

from confide.client.service import trainer_pb2 as pb
from confide.errors import ProtocolError
from confide.metrics.tally import ScoreTally
from confide.protocol.messages import SCORED, Evaluation, Reply, Request
from confide.protocol.plan import LONGEST_PLAN

CHUNK_BYTES = 2**20
MESSAGE_BYTES = 4 * 2**20
"""Size of the largest message: a header with the most names, which is larger than a chunk."""

_DTYPE, _STYPE, _ITEM_BYTES = "float32", "numpy.ndarray", 4
_LONGEST_NPY_HEADER = 1024
_MOST_DIMENSIONS = 32
_LONGEST_NAME = 300
_LONGEST_TEXT = 300
_MOST_NUMBERS = 1000

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


def request_parts(request: Request) -> Iterator[pb.RequestPart]:
    """Write a request: its header at once, its tensors in chunks as they are sent.

    Raises:
        ProtocolError: if it cannot be written, for instance tensors that are not float32.
    """
    # Not a generator, so that a mistake is raised here and not inside gRPC's thread.
    try:
        header = pb.RequestHeader(
            plan=request.plan,
            server_round=request.server_round,
            splits=request.splits,
            ledger_head=request.ledger_head,
            arrays=_signatures(request.arrays),
        )
    except (TypeError, ValueError):  # not encodable as UTF-8, or beyond 64 bits
        raise ProtocolError(
            "Expected plan, splits and ledger_head as text, server_round as an integer."
        ) from None
    first = pb.RequestPart(header=header)
    _check_header_size(first.ByteSize())
    return itertools.chain(
        [first], (pb.RequestPart(chunk=chunk) for chunk in _chunks(request.arrays))
    )


def reply_parts(reply: Reply) -> Iterator[pb.ReplyPart]:
    """Write a reply: its header at once, its tensors in chunks as they are sent.

    Raises:
        ProtocolError: if it cannot be written, for instance tensors that are not float32.
    """
    try:
        header = pb.ReplyHeader(
            institution=reply.institution,
            refusal=reply.refusal,
            figures=_numbers(reply.figures),
            num_examples=reply.num_examples,
            evaluations=[
                pb.Evaluation(
                    split=split, metrics=_numbers(metrics), tally=_tally(reply.tallies.get(split))
                )
                for split, metrics in reply.evaluations.items()
            ],
            ledger_head=reply.ledger_head,
            arrays=_signatures(reply.arrays),
        )
    except (TypeError, ValueError):
        raise ProtocolError(
            "Expected names as text, figures and metrics as numbers of 64 bits."
        ) from None
    first = pb.ReplyPart(header=header)
    _check_header_size(first.ByteSize())
    return itertools.chain([first], (pb.ReplyPart(chunk=chunk) for chunk in _chunks(reply.arrays)))


def read_request(parts: Iterator[pb.RequestPart], limits: WireLimits) -> Request:
    """Read a request to its end.

    Args:
        parts: parts as they arrive.
        limits: limits of what is accepted.

    Raises:
        ProtocolError: if it is not a request, or exceeds the limits (``too_large``, before any
            tensor is kept).
    """
    part = next(parts, None)
    if part is None or part.WhichOneof("part") != "header":
        raise ProtocolError("Expected a request to begin with a header.")
    header = part.header
    _check_texts(header.ledger_head)
    if len(header.plan) > LONGEST_PLAN:
        raise ProtocolError(
            f"Expected a plan of at most {LONGEST_PLAN} characters; got {len(header.plan)}.",
            code="too_large",
        )
    _check_splits(header.splits)
    return Request(
        plan=header.plan,
        server_round=header.server_round,
        arrays=_read_arrays(header, parts, limits),
        splits=list(header.splits),
        ledger_head=header.ledger_head,
    )


def read_reply(parts: Iterator[pb.ReplyPart], limits: WireLimits) -> Reply:
    """Read a reply to its end.

    Args:
        parts: parts as they arrive.
        limits: limits of what is accepted.

    Raises:
        ProtocolError: if it is not a reply, or exceeds the limits (``too_large``, before any tensor
            is kept).
    """
    part = next(parts, None)
    if part is None or part.WhichOneof("part") != "header":
        raise ProtocolError("Expected a reply to begin with a header.")
    header = part.header
    _check_texts(header.institution, header.refusal, header.ledger_head)
    if header.num_examples < 0:
        raise ProtocolError(f"Expected num_examples={header.num_examples} >= 0.")
    _check_splits([evaluation.split for evaluation in header.evaluations])
    return Reply(
        institution=header.institution,
        refusal=header.refusal if header.HasField("refusal") else None,
        figures=_read_numbers(header.figures),
        num_examples=header.num_examples,
        evaluations={
            evaluation.split: _read_numbers(evaluation.metrics) for evaluation in header.evaluations
        },
        ledger_head=header.ledger_head,
        arrays=_read_arrays(header, parts, limits),
        tallies={
            evaluation.split: _read_tally(evaluation.tally)
            for evaluation in header.evaluations
            if evaluation.HasField("tally")
        },
    )


def _check_header_size(size: int) -> None:
    if size > MESSAGE_BYTES:
        raise ProtocolError(
            f"Expected a header of at most {MESSAGE_BYTES} bytes; got {size}.", code="too_large"
        )


def _check_texts(*texts: str) -> None:
    if any(len(text) > _LONGEST_TEXT for text in texts):
        raise ProtocolError(
            f"Expected names, codes and heads of at most {_LONGEST_TEXT} characters."
        )


def _check_splits(splits: Sequence[str]) -> None:
    if len(splits) > len(SCORED) or len({*splits} & {*SCORED}) != len(splits):
        raise ProtocolError(f"Expected splits among {', '.join(SCORED)}, each once.")


def _numbers(values: Evaluation) -> list[pb.Number]:
    return [
        (
            pb.Number(name=name, integer=value)
            if isinstance(value, int)
            else pb.Number(name=name, real=value)
        )
        for name, value in values.items()
    ]


def _read_numbers(numbers: Sequence[pb.Number]) -> dict[str, float]:
    if len(numbers) > _MOST_NUMBERS:
        raise ProtocolError(f"Expected at most {_MOST_NUMBERS} figures; got {len(numbers)}.")
    _check_texts(*(number.name for number in numbers))
    values: dict[str, float] = {}
    for number in numbers:
        kind = number.WhichOneof("value")
        if kind is None or number.name in values:
            raise ProtocolError("Expected every figure to have one name and one value.")
        values[number.name] = number.real if kind == "real" else number.integer
    return values


def _tally(tally: ScoreTally | None) -> pb.Tally | None:
    if tally is None:
        return None
    sums = [pb.Sums(statistic=name, values=values) for name, values in tally.sums.items()]
    return pb.Tally(sums=sums, std=tally.std)


def _read_tally(told: pb.Tally) -> ScoreTally:
    if len(told.sums) > _MOST_NUMBERS:
        raise ProtocolError(f"Expected at most {_MOST_NUMBERS} statistics; got {len(told.sums)}.")
    _check_texts(*(one.statistic for one in told.sums))
    tally = ScoreTally(sums={one.statistic: list(one.values) for one in told.sums}, std=told.std)
    problem = tally.problem()
    if problem is not None:
        raise ProtocolError(f"Expected {problem}.")
    return tally


def _signatures(arrays: Mapping[str, Array] | None) -> pb.Signatures | None:
    if arrays is None:
        return None
    signatures = []
    for name, array in arrays.items():
        if array.dtype != _DTYPE or array.stype != _STYPE:
            raise ProtocolError(
                f"Tensor {name}: expected {_DTYPE}, got {array.dtype} ({array.stype}).",
                code="tensor_dtype",
            )
        signatures.append(pb.Signature(name=name, shape=array.shape, num_bytes=len(array.data)))
        _check_signature(signatures[-1])
    return pb.Signatures(
        tensors=signatures, num_bytes=sum(signature.num_bytes for signature in signatures)
    )


def _check_signature(signature: pb.Signature) -> None:
    if not 0 < len(signature.name) <= _LONGEST_NAME:
        raise ProtocolError(
            f"Expected names of tensors of 1 to {_LONGEST_NAME} characters.", code="tensor_names"
        )
    if len(signature.shape) > _MOST_DIMENSIONS or any(size < 0 for size in signature.shape):
        raise ProtocolError(
            f"Tensor {signature.name}: expected at most {_MOST_DIMENSIONS} dimensions >= 0.",
            code="tensor_shape",
        )
    values = _ITEM_BYTES * math.prod(signature.shape)
    if not values < signature.num_bytes <= values + _LONGEST_NPY_HEADER:
        raise ProtocolError(
            f"Tensor {signature.name}: expected an npy file of {values} bytes of values, got"
            f" num_bytes={signature.num_bytes}.",
            code="tensor_shape",
        )


def _chunks(arrays: Mapping[str, Array] | None) -> Iterator[pb.Chunk]:
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


def _read_arrays(
    header: pb.RequestHeader | pb.ReplyHeader, parts: Iterator[_Part], limits: WireLimits
) -> ArrayRecord | None:
    """Read the tensors that a header announces, and make sure that nothing follows them."""
    record = None
    if header.HasField("arrays"):
        limits.check(header.arrays)
        record = ArrayRecord()
        stream = _ByteStream(parts, header.arrays.num_bytes)
        for signature in header.arrays.tensors:
            record[signature.name] = Array(
                _DTYPE, tuple(signature.shape), _STYPE, stream.read(signature.num_bytes)
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


__all__ = [
    "CHUNK_BYTES",
    "MESSAGE_BYTES",
    "WireLimits",
    "read_reply",
    "read_request",
    "reply_parts",
    "request_parts",
]
