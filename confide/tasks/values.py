"""Values as canonical text, so that a table gives the same records in every file format."""

import contextlib
import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

import pyarrow

from confide.config.spelling import number_text
from confide.errors import DataError
from confide.held import same_held
from confide.tasks.reading import fold_boolean, parse_number

# Up to here float64 holds every integer exactly, so that dropping the fraction loses nothing
_EXACT = 2**53
_BOOLEANS = {"true": "1.0", "false": "0.0"}


class UnsupportedValueError(TypeError):
    """A value that is neither text, number, truth value nor date."""


def canonical_text(value: object) -> str | None:
    """Return a typed value as text.

    Args:
        value: value from a database, a Parquet file, ...

    Returns:
        None for null and NaN; otherwise the shortest exact text, integers without a fraction. Of a
        list JSON, each of its values as text; of its objects, such as the messages of a
        conversation, all keys that have a value, in the order of the alphabet.

    Raises:
        UnsupportedValueError: naming the type, if it is bytes, a list of lists or another
            structure.

    >>> [canonical_text(value) for value in (True, 63.0, 2.5, Decimal("2.50"), float("nan"))]
    ['true', '63', '2.5', '2.5', None]
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):  # before int, of which bool is a subclass
        return "true" if value else "false"
    if isinstance(value, int | UUID):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        # Beyond 2^53 a float no longer names one integer.
        exact = value.is_integer() and abs(value) < _EXACT
        return str(int(value)) if exact else repr(value)
    if isinstance(value, Decimal):
        return None if value.is_nan() else _decimal_text(value)
    if isinstance(value, datetime | date | time):
        return _moment_text(value)
    if isinstance(value, list) and not any(isinstance(one, list) for one in value):
        return json.dumps([*map(_inner, value)], ensure_ascii=False, separators=(",", ":"))
    raise UnsupportedValueError(type(value).__name__)


def _inner(value: object) -> object:
    """Return what stands in a list, for JSON."""
    if isinstance(value, dict):
        # Parquet has every key in every object, in an order of its own, and JSON lines have not
        found = {str(key): _inner(value[key]) for key in sorted(value, key=str)}
        return {key: one for key, one in found.items() if one is not None}
    return [*map(_inner, value)] if isinstance(value, list) else canonical_text(value)


def _moment_text(value: datetime | date | time) -> str | None:
    if value != value:  # pandas.NaT is a datetime
        return None
    return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()


def _decimal_text(value: Decimal) -> str:
    if not value.is_finite():
        return repr(float(value))
    if value == value.to_integral_value():
        return str(int(value))
    shortest = repr(float(value))
    return shortest if Decimal(shortest) == value else format(value.normalize(), "f")


def canonical_array(values: pyarrow.Array) -> pyarrow.Array:
    """Return a column of any type as text.

    Raises:
        UnsupportedValueError: naming the type.
    """
    # Pyarrow's own cast from numbers to text is not used: it writes 1e-7 where Python writes 1e-07,
    # and -0 for minus zero. Each distinct value is converted once, since columns repeat few values.
    kind = values.type
    if pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind):
        values, kind = values.cast(pyarrow.string()), pyarrow.string()
    if pyarrow.types.is_string(kind) or pyarrow.types.is_null(kind):
        return values.cast(pyarrow.string())
    if _is_list(kind):
        return pyarrow.array(map(canonical_text, values.to_pylist()), pyarrow.string())
    if pyarrow.types.is_nested(kind):
        raise UnsupportedValueError(str(kind))
    encoded = values.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    if pyarrow.types.is_float32(kind) or pyarrow.types.is_float16(kind):
        # The shortest text that means the same float32, not the float64 it was converted to
        distinct = [
            float(str(value)) for value in encoded.dictionary.to_numpy(zero_copy_only=False)
        ]
    return pyarrow.array([canonical_text(value) for value in distinct], pyarrow.string()).take(
        encoded.indices
    )


def _is_list(kind: pyarrow.DataType) -> bool:
    """Tell a list of plain values, or of objects, from other structures."""
    lists = (
        pyarrow.types.is_list,
        pyarrow.types.is_large_list,
        pyarrow.types.is_fixed_size_list,
    )
    if not any(test(kind) for test in lists):
        return False
    items = kind.value_type
    return pyarrow.types.is_struct(items) or not pyarrow.types.is_nested(items)


def text_column(name: str, values: pyarrow.Array | pyarrow.ChunkedArray) -> pyarrow.Array:
    """Return a column of records as text.

    Raises:
        DataError: naming the column, if it holds bytes, lists or another structure, or text that
            is not UTF-8.
    """
    try:
        values.validate(full=True)  # whoever wrote the file may not have looked
        return canonical_array(
            values.combine_chunks() if isinstance(values, pyarrow.ChunkedArray) else values
        )
    except UnsupportedValueError as error:
        raise unsupported(name, error) from None
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(
            f"Column {name} holds text that is not UTF-8 ({str(error).splitlines()[0]}); write the"
            " file again from text that was decoded."
        ) from None


class UnsupportedColumnError(DataError):
    """A column's values are of a type that no schema reads.

    Args:
        column: its name.
        kind: the type.
    """

    def __init__(self, column: str, kind: str) -> None:
        super().__init__(
            f"Column {column} holds values of type {kind}; expected text, numbers, truth values or"
            " dates. Write them as one of these, or choose another column."
        )
        self.column, self.kind = column, kind


def unsupported(column: str, error: UnsupportedValueError) -> UnsupportedColumnError:
    """Return the error for a column whose values are of an unsupported type."""
    return UnsupportedColumnError(column, str(error))


def comparable(text: str | None) -> str | None:
    """Return a form that is equal for two texts that mean the same.

    The form is a number's or the text itself. A truth value is 1 or 0, which is what it is in a
    database without them. Of a picture or a sound it is the hash of its content, wherever it lies.

    >>> [comparable(text) for text in ("63", "63.0", "TRUE", "n/a", "")]
    ['63.0', '63.0', '1.0', 'n/a', None]
    """
    if not text:
        return None
    held = same_held(text)
    if held is not None:
        return held
    number = parse_number(text)
    if math.isnan(number):
        return _BOOLEANS.get(fold_boolean(text), text)
    if abs(number) >= _EXACT:  # float64 would make one number of two
        with contextlib.suppress(ArithmeticError):
            return number_text(text.strip())
    return repr(number + 0.0)  # + 0.0 turns minus zero into zero


__all__ = [
    "UnsupportedColumnError",
    "UnsupportedValueError",
    "canonical_array",
    "canonical_text",
    "comparable",
    "text_column",
    "unsupported",
]
