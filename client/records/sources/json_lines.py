"""JSON: one object a line, or a list of objects."""

import contextlib
import itertools
import json
from array import array
from collections.abc import Generator, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow

from confide.client.records.sources.opened import BATCH, Opened
from confide.client.records.sources.reading import Reading
from confide.client.records.sources.text_files import encoding_notes, text_lines
from confide.errors import DataError
from confide.tasks.values import UnsupportedValueError, canonical_text, unsupported


class Number(str):
    """A number as it stands in a JSON file."""

    __slots__ = ()


def open_json_lines(path: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open a file with one JSON object a line.

    Raises:
        DataError: with the line, if it is something else.
    """
    # Lines are parsed here: pyarrow's JSON reader would turn text that looks like a date into a
    # timestamp, and guess types from the first 10 MB.
    lines = array("Q")
    notes = list(encoding_notes(path, reading.encoding))
    with contextlib.closing(_objects(path, reading, array("Q"), notes=None)) as objects:
        # Of many lines and not of the first: a line may leave out columns that are null
        names = tuple(
            dict.fromkeys(name for row in itertools.islice(objects, BATCH) for name in row)
        )
    if not names:
        raise DataError(
            f"data.path={path}: no line holds a record; expected one JSON object a line."
        )
    kept = [name for name in names if name in columns]
    rows = _objects(path, reading, lines, notes=notes)
    return Opened(
        columns=names,
        batches=_tables(rows, kept, reading),
        is_json=reading.whole,
        lines=lines,
        notes=notes,
    )


def open_json(path: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open a file that is a list of JSON objects, or has one a line.

    A list is read whole, into memory.

    Raises:
        DataError: with the line or the record, if it is something else.
    """
    with contextlib.closing(text_lines(path, reading)) as found:
        first = next((line for line in found if line.strip()), "")
    if not first.lstrip().startswith("["):
        return open_json_lines(path, columns, reading)
    notes = list(encoding_notes(path, reading.encoding))
    rows = _listed(path, "".join(text_lines(path, reading, notes)), reading)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise DataError(
            f"data.path={path}: the list holds no record; expected a list of JSON objects."
        )
    kept = [name for name in names if name in columns]
    return Opened(
        columns=names,
        batches=_tables(iter(rows), kept, reading),
        is_json=reading.whole,
        notes=notes,
    )


def decoded(path: Path, text: str, reading: Reading, *, expected: str) -> Any:
    """Decode the text of a whole JSON file.

    Args:
        path: of the file, for messages.
        text: what stands in it.
        reading: how it is read.
        expected: what it should be, for messages.

    Raises:
        DataError: with the line, if it is no JSON, nests too deeply or names a key twice.
    """
    try:
        return _decoder(reading).decode(text.strip())
    except RecursionError:
        raise DataError(
            f"data.path={path}: nests lists or objects too deeply; {expected}."
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"data.path={path}: line {error.lineno} is not JSON: {error.msg} at character"
            f" {error.colno}; {expected}."
        ) from None
    except _RepeatedKeyError as error:
        raise DataError(
            f"data.path={path}: an object names {error} twice; leave one of them."
        ) from None


def _listed(path: Path, text: str, reading: Reading) -> list[dict[str, Any]]:
    expected = "expected a list of JSON objects, column -> value"
    rows = decoded(path, text, reading, expected=expected)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"data.path={path}: record {number} is no JSON object; {expected}.")
        if any(map(_is_broken, row.values())):
            raise DataError(
                f"data.path={path}: record {number} holds half of a character (a surrogate alone);"
                " write the text again."
            )
    return rows  # type: ignore[no-any-return]


def _tables(
    rows: Iterator[dict[str, Any]], kept: Sequence[str], reading: Reading
) -> Iterator[pyarrow.Table]:
    table = json_table if reading.whole else table_of
    while batch := list(itertools.islice(rows, BATCH)):
        yield table([[row.get(name) for row in batch] for name in kept], kept)


def _decoder(reading: Reading) -> json.JSONDecoder:
    numbers: dict[str, Any] = {"parse_int": Number, "parse_float": Number} if reading.whole else {}
    return json.JSONDecoder(object_pairs_hook=_once, **numbers)


def _objects(
    path: Path, reading: Reading, lines: "array[int]", *, notes: list[str] | None
) -> Generator[dict[str, Any], None, None]:
    decode = _decoder(reading).decode
    for number, line in enumerate(text_lines(path, reading, notes), start=1):
        if not line.strip():
            continue
        try:
            value = decode(line.rstrip("\r\n"))
        except RecursionError:
            raise DataError(
                f"data.path={path}: line {number} nests lists or objects too deeply; expected one"
                " JSON object a line, column -> value."
            ) from None
        except json.JSONDecodeError as error:
            raise DataError(
                f"data.path={path}: line {number} is not JSON: {error.msg} at character"
                f" {error.pos + 1}; expected one JSON object a line."
            ) from None
        except _RepeatedKeyError as error:
            raise DataError(
                f"data.path={path}: line {number} names {error} twice; leave one of them."
            ) from None
        if not isinstance(value, dict):
            raise DataError(
                f"data.path={path}: line {number} is not a JSON object; expected one a line,"
                " column -> value."
            )
        if "\\u" in line and any(map(_is_broken, value.values())):
            raise DataError(
                f"data.path={path}: line {number} holds half of a character (a surrogate alone);"
                " write the text again."
            )
        lines.append(number)
        yield value


class _RepeatedKeyError(ValueError):
    """A key that an object has twice, of which JSON's readers keep one and say nothing."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKeyError(next(name for name in names if names.count(name) > 1))
    return made


def _is_broken(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_is_broken, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value)


def table_of(
    values: Sequence[Sequence[object]], columns: Sequence[str], *, as_is: Sequence[str] = ()
) -> pyarrow.Table:
    """Convert columns of Python values to canonical text.

    Args:
        values: of each column.
        columns: their names.
        as_is: names of columns that are not converted.

    Raises:
        DataError: naming a column whose values cannot be written so.
    """
    made = {}
    for name, column in zip(columns, values, strict=True):
        if name in as_is:
            made[name] = pyarrow.array(column)
            continue
        try:
            made[name] = pyarrow.array(
                [canonical_text(value) for value in column], pyarrow.string()
            )
        except UnsupportedValueError as error:
            raise unsupported(name, error) from None
    return pyarrow.table(made)


def json_table(values: Sequence[Sequence[object]], columns: Sequence[str]) -> pyarrow.Table:
    """Convert columns of Python values to JSON, numbers as they were written.

    Raises:
        DataError: naming a column whose values JSON has no form for.
    """
    made = {}
    for name, column in zip(columns, values, strict=True):
        try:
            made[name] = pyarrow.array([_json(value) for value in column], pyarrow.string())
        except UnsupportedValueError as error:
            raise unsupported(name, error) from None
    return pyarrow.table(made)


def _json(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        inner = (f"{_json(str(key))}: {_json(one) or 'null'}" for key, one in value.items())
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_json(one) or "null" for one in value) + "]"
    if isinstance(value, Decimal) and value.is_finite():
        return format(value, "f")
    if isinstance(value, bool | int | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return None if value != value else json.dumps(value)
    return json.dumps(canonical_text(value), ensure_ascii=False)


__all__ = ["Number", "decoded", "json_table", "open_json", "open_json_lines", "table_of"]
