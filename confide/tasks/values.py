"""Values as canonical text, so that the same table is the same records whatever it is kept in.

Pyarrow's own cast from numbers to text is not used: it writes 1e-7 where Python writes 1e-07, and
-0 for minus zero.
"""

import math
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

import pyarrow

from confide.errors import DataError
from confide.tasks.schema import fold_boolean, parse_number

_EXACT = 2**53


class UnsupportedValueError(TypeError):
    """A value that is neither text, number, truth value nor date."""


def canonical_text(value: object) -> str | None:
    """Write a typed value as text.

    Args:
        value: from a database, a Parquet file, ...

    Returns:
        None for null and NaN; else its shortest exact text, integers without a fraction.

    Raises:
        UnsupportedValueError: naming the type, if it is bytes, a list or another structure.

    >>> [canonical_text(value) for value in (True, 63.0, 2.5, Decimal("2.50"), float("nan"))]
    ['true', '63', '2.5', '2.5', None]
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | UUID):
        return str(value)
    if isinstance(value, float):
        return None if math.isnan(value) else _float_text(value)
    if isinstance(value, Decimal):
        return None if value.is_nan() else _decimal_text(value)
    if value != value:  # pandas.NaT is a datetime
        return None
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    raise UnsupportedValueError(type(value).__name__)


def _float_text(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)


def _decimal_text(value: Decimal) -> str:
    if not value.is_finite():
        return repr(float(value))
    if value == value.to_integral_value():
        return str(int(value))
    shortest = repr(float(value))
    return shortest if Decimal(shortest) == value else format(value.normalize(), "f")


def canonical_array(values: pyarrow.Array) -> pyarrow.Array:
    """Write a column of any type as text; a value is written once however often it stands there.

    Raises:
        UnsupportedValueError: naming the type.
    """
    kind = values.type
    if pyarrow.types.is_string(kind) or pyarrow.types.is_null(kind):
        return values.cast(pyarrow.string())
    if pyarrow.types.is_nested(kind):
        raise UnsupportedValueError(str(kind))
    encoded = values.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    if pyarrow.types.is_float32(kind) or pyarrow.types.is_float16(kind):
        # The shortest text that means the same float32, not the float64 it was widened to.
        distinct = [
            float(str(value)) for value in encoded.dictionary.to_numpy(zero_copy_only=False)
        ]
    return pyarrow.array([canonical_text(value) for value in distinct], pyarrow.string()).take(
        encoded.indices
    )


def text_column(name: str, values: pyarrow.Array | pyarrow.ChunkedArray) -> pyarrow.Array:
    """Write a column of records as text.

    Raises:
        DataError: naming the column, if it holds bytes, lists or another structure.
    """
    try:
        return canonical_array(
            values.combine_chunks() if isinstance(values, pyarrow.ChunkedArray) else values
        )
    except UnsupportedValueError as error:
        raise unsupported(name, error) from None


def unsupported(column: str, error: UnsupportedValueError) -> DataError:
    """Say that a column holds what is neither text nor a number."""
    return DataError(
        f"Column {column} holds values of type {error}; expected text, numbers, truth values or"
        " dates. Write them as one of these, or choose another column."
    )


def comparable(text: str | None) -> str | None:
    """Return what two texts share if they mean the same.

    A number, a truth value or the text itself.

    >>> [comparable(text) for text in ("63", "63.0", "TRUE", "n/a", "")]
    ['63.0', '63.0', 'true', 'n/a', None]
    """
    if not text:
        return None
    number = parse_number(text)
    return (
        fold_boolean(text) if math.isnan(number) else repr(number + 0.0)
    )  # + 0.0: minus zero is zero


__all__ = [
    "UnsupportedValueError",
    "canonical_array",
    "canonical_text",
    "comparable",
    "text_column",
    "unsupported",
]
