"""Datatypes of the Open Inference Protocol, and how values of each travel: as JSON, or as bytes.

Binary values are little-endian, one after the other; BYTES have their length before them, four
bytes (Triton's binary data extension).
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from confide.serving.refusal import bad
from confide.tasks.values import canonical_text

Cells = list[str | None]
"""Values of a column as canonical text; None where one is missing."""
Files = list[bytes | None]
"""Files of a column, each as its bytes."""
BYTES, BOOL = "BYTES", "BOOL"
_LENGTH = struct.Struct("<I")
_LARGEST_FLOAT = {"FP16": 65504.0, "FP32": 3.4028234663852886e38, "FP64": math.inf}
_NUMBERS: dict[str, numpy.dtype[Any]] = {
    "FP16": numpy.dtype("<f2"),
    "FP32": numpy.dtype("<f4"),
    "FP64": numpy.dtype("<f8"),
    **{f"INT{bits}": numpy.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": numpy.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    BOOL: numpy.dtype("?"),
}
DATATYPES = (BYTES, *_NUMBERS)


@dataclass(frozen=True)
class Values:
    """One column of n values.

    Attributes:
        name: of the column, for problems.
        datatype: one of :data:`DATATYPES`.
    """

    name: str
    datatype: str

    def from_json(self, listed: Sequence[Any]) -> Cells:
        """Read JSON's values as canonical text; null is a missing value.

        Raises:
            RefusedError: naming the first value that is none of the datatype.
        """
        fits = {BYTES: _is_text, BOOL: _is_bool}.get(self.datatype)
        for number, value in enumerate(listed, start=1):
            if value is None:
                continue
            if not (fits(value) if fits else _is_number(value, self.datatype)):
                raise bad(
                    f"inputs.{self.name}: value {number} is {_told(value)}, expected"
                    f" {self.datatype}{_range(self.datatype)}, or null where it is missing."
                )
        if self.datatype == BYTES:
            return list(listed)
        if self.datatype.startswith("FP"):
            return [None if one is None else self._float_text(one) for one in listed]
        return list(map(canonical_text, listed))

    def _float_text(self, value: float) -> str | None:
        # As short as it means the same number in its own precision
        return canonical_text(float(str(_NUMBERS[self.datatype].type(value))))

    def from_binary(self, data: bytes, count: int, *, are_texts: bool) -> Cells | Files:
        """Read binary values, numbers as canonical text; NaN is a missing value.

        Args:
            data: the bytes of this column alone.
            count: how many values there are.
            are_texts: whether BYTES are texts, in UTF-8.

        Raises:
            RefusedError: if they are not that many values of the datatype.
        """
        if self.datatype == BYTES:
            return self._read_bytes(data, count, are_texts=are_texts)
        dtype = _NUMBERS[self.datatype]
        if len(data) != count * dtype.itemsize:
            raise bad(
                f"inputs.{self.name}: {len(data)} bytes of binary data; {count} values of"
                f" {self.datatype} have {count * dtype.itemsize}."
            )
        if self.datatype == BOOL and any(byte > 1 for byte in data):
            raise bad(f"inputs.{self.name}: a BOOL is a byte of 0 or 1.")
        values = numpy.frombuffer(data, dtype)
        if self.datatype.startswith("FP"):
            return [self._float_text(one) for one in values]
        return list(map(canonical_text, values.tolist()))

    def _read_bytes(self, data: bytes, count: int, *, are_texts: bool) -> Cells | Files:
        found: Files = []
        start = 0
        for number in range(1, count + 1):
            end = start + _LENGTH.size
            size = _LENGTH.unpack_from(data, start)[0] if end <= len(data) else len(data)
            if end + size > len(data):
                raise bad(
                    f"inputs.{self.name}: its {len(data)} bytes end within value {number} of"
                    f" {count}; each value has its length before it, four bytes, little-endian."
                )
            found.append(data[end : end + size])
            start = end + size
        if start != len(data):
            raise bad(f"inputs.{self.name}: {len(data) - start} bytes follow its {count} values.")
        if not are_texts:
            return found
        try:
            return [None if one is None else one.decode() for one in found]
        except UnicodeDecodeError:
            raise bad(f"inputs.{self.name}: a value is not UTF-8; send texts in UTF-8.") from None


def json_values(values: Sequence[Any], datatype: str) -> list[Any]:
    """Write a column's values for JSON; what is missing is null."""
    if datatype == BYTES:
        return [None if _is_missing(one) else str(one) for one in values]
    if datatype.startswith("FP"):
        # As short as it means the same number in its own precision, as `confide predict` writes
        dtype = _NUMBERS[datatype]
        return [
            None if _is_missing(one) or not math.isfinite(one) else float(str(dtype.type(one)))
            for one in values
        ]
    return [None if _is_missing(one) else _NUMBERS[datatype].type(one).item() for one in values]


def binary_values(values: Iterable[Any], datatype: str) -> bytes:
    """Write a column's values as bytes; a missing number is NaN, and a missing text empty."""
    if datatype == BYTES:
        texts = ("" if _is_missing(one) else str(one) for one in values)
        encoded = [text.encode() for text in texts]
        return b"".join(part for one in encoded for part in (_LENGTH.pack(len(one)), one))
    listed = [math.nan if _is_missing(one) else one for one in values]
    return numpy.array(listed).astype(_NUMBERS[datatype]).tobytes()


def datatype_of(values: NDArray[Any]) -> str:
    """Return the datatype of an array."""
    little = values.dtype.newbyteorder("<")
    return next((name for name, dtype in _NUMBERS.items() if dtype == little), BYTES)


def _is_missing(value: Any) -> bool:
    return value is None or value != value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any, datatype: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if datatype in _LARGEST_FLOAT:
        try:
            return math.isfinite(value) and abs(float(value)) <= _LARGEST_FLOAT[datatype]
        except OverflowError:
            return False
    low, high = _bounds(datatype)
    return isinstance(value, int) and low <= value <= high


def _range(datatype: str) -> str:
    if datatype in _LARGEST_FLOAT:
        return ", a finite number"
    if datatype in (BYTES, BOOL):
        return {BYTES: ", a text", BOOL: ", true or false"}[datatype]
    low, high = _bounds(datatype)
    return f", an integer from {low} to {high}"


def _bounds(datatype: str) -> tuple[int, int]:
    """Return the smallest and the largest integer of a datatype, such as INT64."""
    size = 8 * _NUMBERS[datatype].itemsize
    return (
        (0, 2**size - 1) if datatype.startswith("U") else (-(2 ** (size - 1)), 2 ** (size - 1) - 1)
    )


def _told(value: Any) -> str:
    """Say what kind of value came, without quoting it."""
    kinds = {bool: "a truth value", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number that is not, or of another range")


__all__ = [
    "BOOL",
    "BYTES",
    "DATATYPES",
    "Cells",
    "Files",
    "Values",
    "binary_values",
    "datatype_of",
    "json_values",
]
