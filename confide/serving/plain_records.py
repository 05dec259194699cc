"""Plain records, for people and scripts: a list of JSON objects, or CSV with a header."""

import collections
import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from confide.errors import DataError
from confide.serving.answering import Columns
from confide.serving.datatypes import json_values
from confide.serving.file_texts import decoded_files
from confide.serving.identity import Identity
from confide.serving.refusal import bad
from confide.serving.signature import Signature
from confide.serving.strict_json import read_json
from confide.tasks.values import UnsupportedValueError, canonical_text, unsupported

Raw = Mapping[str, Sequence[object]]
"""Values of each column as they came."""


def read_records(body: bytes, signature: Signature, *, most_records: int) -> Raw:
    """Read a list of JSON objects, all with the same columns of the model's.

    A missing value is null: a misspelt name would otherwise pass for one.

    Raises:
        RefusedError: with what is wrong.
    """
    rows = read_json(body)
    if not isinstance(rows, list) or not rows:
        raise bad("Expected a list of JSON objects, one a record, column -> value.")
    _refuse_many(len(rows), most_records)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise bad(f"Record {number} is no JSON object, column -> value.")
    present = {name for row in rows for name in row}
    names = [one.name for one in signature.expected(present) if one.name in present]
    for number, row in enumerate(rows, start=1):
        lacking = [name for name in names if name not in row]
        if lacking:
            raise bad(
                f"Record {number} lacks column {', '.join(lacking)}, which other records have;"
                " write null for a value that is missing."
            )
    return {name: [row.get(name) for row in rows] for name in names}


def read_csv(body: bytes, signature: Signature, *, most_records: int) -> Raw:
    """Read CSV (RFC 4180) in UTF-8, strictly; an empty cell is missing.

    Raises:
        RefusedError: with what is wrong.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad(f"The body is not UTF-8: byte {error.start + 1}; send CSV in UTF-8.") from None
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # of the whole process
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if row:
                rows.append(row)
                _refuse_many(len(rows) - 1, most_records)
    except csv.Error as error:
        raise bad(f"Line {reader.line_num} is not CSV: {error}.") from None
    if len(rows) < 2:
        raise bad("Expected CSV with a header line and at least one record.")
    header = rows[0]
    if any(count > 1 for count in collections.Counter(header).values()):
        raise bad("The header names a column twice; leave one of each.")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise bad(f"Record {number} has {len(row)} fields, expected the header's {len(header)}")
    known = [one.name for one in signature.expected(header) if one.name in header]
    places = {name: header.index(name) for name in known}
    return {name: [row[place] or None for row in rows[1:]] for name, place in places.items()}


def _refuse_many(count: int, most_records: int) -> None:
    if count > most_records:
        raise bad(f"A request has at most {most_records} records (--max-records); send several.")


def columns_of(cells: Raw, signature: Signature) -> Columns:
    """Return values as columns of canonical text, files as their bytes.

    Raises:
        RefusedError: if a file is no base 64, or no column of the model is there.
        DataError: if a value is neither text, number nor truth value.
    """
    if not cells:
        names = ", ".join(one.name for one in signature.inputs)
        raise bad(f"The records have no column of the model's; it takes {names}.")
    columns: Columns = {}
    for name, values in cells.items():
        if name in signature.files:
            columns[name] = decoded_files(name, values)
            continue
        columns[name] = [_text(name, one) for one in values]
    return columns


def _text(name: str, value: object) -> str | None:
    try:
        return canonical_text(value)
    except UnsupportedValueError as error:
        raise unsupported(name, error) from None
    except ValueError:  # an integer of thousands of digits
        raise DataError(f"Column {name} holds a number of too many digits.") from None


def answer_of(frame: pandas.DataFrame, signature: Signature, identity: Identity) -> dict[str, Any]:
    """Return the answer to plain records: an object a record."""
    types = {column.name: column.datatype for column in signature.outputs}
    columns = {
        str(name): json_values(frame[name].tolist(), types[str(name)])
        for name in frame
        if name in types
    }
    rows = zip(*columns.values(), strict=True)
    return {
        "model_name": identity.name,
        "model_version": identity.version,
        "parameters": dict(identity.parameters),
        "predictions": [dict(zip(columns, row, strict=True)) for row in rows],
    }


__all__ = ["answer_of", "columns_of", "read_csv", "read_records"]
