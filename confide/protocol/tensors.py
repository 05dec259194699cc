"""Named tensors, and how they travel in Flower's records.

Only trainable tensors travel, as float32. Names, shapes and dtypes are checked on both sides before
anything is loaded.
"""

import functools
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from confide.errors import ProtocolError
from confide.protocol.refusals import Refusal
from confide.storage.tensor_files import sha256

Tensors = dict[str, Tensor]
"""Parameter name -> float32 tensor on the CPU. A model's values, or an update (local minus
global)."""
Shapes = dict[str, tuple[int, ...]]

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_STYPE = "numpy.ndarray"
_DTYPE = "float32"


# Formatting a header takes longer than copying a small tensor.
@functools.lru_cache(maxsize=4096)
def _npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """Return the signature of named tensors."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def encode(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Pack named float32 CPU tensors into a record Flower can read (``.npy`` bytes, one copy).

    Raises:
        TypeError: for another dtype.
    """
    flat = flatten(tensors, tensors).detach()
    if flat.dtype != torch.float32:
        raise TypeError(f"Expected float32 tensors; got {flat.dtype}.")
    values = flat.numpy().view(np.uint8).data
    # Filled one by one: its constructor copies and checks three times over.
    record = ArrayRecord()
    end = 0
    for name, tensor in tensors.items():
        shape = tuple(tensor.shape)
        start = end
        end = start + 4 * math.prod(shape)
        record[name] = Array(
            _DTYPE, shape, _STYPE, b"".join((_npy_header(shape), values[start:end]))
        )
    return record


@dataclass(frozen=True, eq=False)
class DecodedTensors:
    """What a record holds.

    Attributes:
        tensors: by name, in memory of their own; not to be changed.
    """

    tensors: Tensors

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, shapes and values, computed when it is first asked for."""
        return sha256(self.tensors)

    @cached_property
    def largest(self) -> float:
        """Largest absolute value."""
        return _largest(flatten(self.tensors, self.tensors))

    def split(self, prefix: str) -> tuple[Tensors, Tensors]:
        """Do as :func:`split_prefix`, once for all institutions that are sent the same."""
        if prefix not in self._split:
            self._split[prefix] = split_prefix(prefix, self.tensors)
        return self._split[prefix]

    @cached_property
    def _split(self) -> dict[str, tuple[Tensors, Tensors]]:
        return {}


def decode(record: ArrayRecord, expected: Shapes, *, max_value: float) -> DecodedTensors:
    """Unpack a record after checking it against the expected signature.

    Args:
        record: what came over the wire.
        expected: every name that must be there, with its shape, and no other.
        max_value: largest absolute value allowed; NaN and infinity never are, whatever the bound.

    Returns:
        The tensors, in the order of ``expected``, with their digest.

    Raises:
        ProtocolError: naming tensors that are missing, unexpected, of another shape or dtype,
            malformed, or whose values are not finite or too large.
    """
    flat = read_values(record, expected)
    tensors = unflatten(flat, expected)
    # One look at everything; only if it fails, one at each tensor, for its name. Above float32's
    # largest number there is only infinity, which no bound allows.
    if not _largest(flat) <= min(max_value, LARGEST_FLOAT32):
        check_values(tensors, max_value=min(max_value, LARGEST_FLOAT32))
    return DecodedTensors(tensors)


def read_values(record: ArrayRecord, expected: Shapes) -> Tensor:
    """Copy a record's values, float32 of shape [d], without a look at them.

    Args:
        record: what came over the wire.
        expected: every name that must be there, with its shape, and no other.

    Raises:
        ProtocolError: naming tensors that are missing, unexpected, of another shape or dtype, or
            malformed.
    """
    if len(record) != len(expected) or any(name not in record for name in expected):
        missing = sorted(expected.keys() - record.keys())
        unexpected = sorted(record.keys() - expected.keys())
        raise ProtocolError(
            f"Expected other tensors: missing {_some(missing)}, unexpected {_some(unexpected)}.",
            code=Refusal.TENSOR_NAMES,
        )
    flat = torch.empty(sum(map(math.prod, expected.values())))
    end = 0
    values = flat.numpy().view(np.uint8).data
    for name, shape in expected.items():
        # What the record says of itself is not trusted: its bytes must be these exactly.
        array = record[name]
        header = _npy_header(shape)
        count = math.prod(shape)
        if array.dtype != _DTYPE or array.stype != _STYPE:
            raise ProtocolError(
                f"Tensor {name}: expected {_DTYPE}, got {array.dtype} ({array.stype}).",
                code=Refusal.TENSOR_DTYPE,
            )
        if (
            tuple(array.shape) != shape
            # Compared, not parsed: numpy's reader never sees what a stranger wrote.
            or not array.data.startswith(header)
            or len(array.data) != len(header) + 4 * count
        ):
            raise ProtocolError(
                f"Tensor {name}: expected {4 * count} bytes of shape {list(shape)}, got"
                f" {list(array.shape)}.",
                code=Refusal.TENSOR_SHAPE,
            )
        start = end
        end = start + 4 * count
        values[start:end] = memoryview(array.data)[len(header) :]
    return flat


class DecodeFn(Protocol):
    """Unpacks a record after checking it, as :func:`decode` does."""

    def __call__(
        self, record: ArrayRecord, expected: Shapes, *, max_value: float
    ) -> DecodedTensors:
        """Return the tensors of such shapes that a record tells of."""


class Decoder:
    """Decodes what one model is sent.

    A record is checked and copied once, however many institutions of a process are given it: in a
    simulation that is most of a small round's time.

    Args:
        shapes: every tensor's name and shape.
    """

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._expected: tuple[Shapes, DecodeFn] = {}, decode
        self._record: ArrayRecord | None = None
        self._decoded: DecodedTensors | None = None

    def decode(
        self,
        record: ArrayRecord,
        shapes: Shapes | None = None,
        decode_fn: DecodeFn = decode,
    ) -> DecodedTensors:
        """Check and decode a record.

        Args:
            record: what came over the wire.
            shapes: every name that must be there, with its shape; None for the model's.
            decode_fn: reads it.

        Raises:
            ProtocolError: naming the tensor that does not fit.
        """
        expected = (self._shapes if shapes is None else shapes), decode_fn
        # The record is held, so that no other one can come to have its identity.
        is_known = self._record is record and self._expected == expected
        if self._decoded is None or not is_known:
            self._decoded = decode_fn(record, expected[0], max_value=LARGEST_FLOAT32)
            self._record = record
            self._expected = expected
        return self._decoded


def flatten(tensors: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    """Join named tensors into one vector, in the order of ``names``.

    There is no copy if they lie one after the other in memory, as :func:`decode` lays them out.
    """
    parts = [tensors[name] for name in names]
    if not parts:
        return torch.empty(0)
    offset = 0
    storage = parts[0].untyped_storage().data_ptr()
    for part in parts:
        if (
            part.storage_offset() != offset
            or not part.is_contiguous()
            or part.untyped_storage().data_ptr() != storage
        ):
            return torch.cat([part.reshape(-1) for part in parts])
        offset += part.numel()
    return parts[0].as_strided((offset,), (1,))


def unflatten(flat: Tensor, shapes: Shapes) -> Tensors:
    """Cut a vector into named tensors that share its memory; :func:`flatten` undoes it."""
    parts = flat.split([math.prod(shape) for shape in shapes.values()])
    return {
        name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def split_prefix(prefix: str, tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Return tensors whose names have no such prefix, and those that have, without it."""
    others: Tensors = {}
    found: Tensors = {}
    # One pass that keeps the order: tensors are hashed and summed in it
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = tensor
        else:
            others[name] = tensor
    return others, found


def check_values(tensors: Mapping[str, Tensor], *, max_value: float) -> None:
    """Refuse NaN, infinity and absolute values above a bound.

    Raises:
        ProtocolError: naming the tensor.
    """
    for name, tensor in tensors.items():
        largest = _largest(tensor)
        if largest > max_value:
            what = (
                "a value that is not finite"
                if math.isinf(largest)
                else f"a value of size {largest:g} > {max_value:g}"
            )
            raise ProtocolError(f"Tensor {name} holds {what}.", code=Refusal.TENSOR_VALUES)


def _largest(tensor: Tensor) -> float:
    """Return the largest absolute value, infinity for NaN."""
    if not tensor.numel():
        return 0.0
    low, high = (float(v) for v in torch.aminmax(tensor))
    return math.inf if math.isnan(low) or math.isnan(high) else max(abs(low), abs(high))


BYTES_PER_VALUE = 4
"""Tensors travel as float32."""


def num_values(shapes: Shapes) -> int:
    """Count the values of tensors of these shapes."""
    return sum(map(math.prod, shapes.values()))


def num_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the size of the values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:5]) or "none"
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


__all__ = [
    "LARGEST_FLOAT32",
    "DecodeFn",
    "DecodedTensors",
    "Decoder",
    "Shapes",
    "Tensors",
    "check_values",
    "decode",
    "encode",
    "flatten",
    "num_bytes",
    "read_values",
    "shapes_of",
    "split_prefix",
    "unflatten",
]
