"""CSV and TSV, read strictly (RFC 4180): what a lenient reader would guess at is refused.

An unclosed quote joins records, a field too many moves a row's values by a column, and no count
shows it. Every value is the text that stands there; an empty cell is null, and no word is.
"""

import contextlib
import csv
import re
from array import array
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pyarrow

from confide.client.records.sources.opened import BATCH, Opened
from confide.client.records.sources.reading import Reading
from confide.client.records.sources.text_files import encoding_notes, text_lines
from confide.errors import DataError

_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_LONGEST = 2**31 - 1
"""Characters of a field; Python's own limit is 131,072."""
_LONG = 10
"""Lines that one record may span without a word about it."""


def open_delimited(
    path: Path, columns: Sequence[str], reading: Reading, *, separator: str
) -> Opened:
    """Open a CSV or TSV file.

    Args:
        path: path of the file.
        columns: names of the columns to keep.
        reading: how it is read.
        separator: sign between fields.

    Raises:
        DataError: with the line, if it is not as strict CSV is.
    """
    with contextlib.closing(text_lines(path, reading)) as top:
        first = next((line for line in top if line.strip()), None)
    if first is None:
        raise DataError(f"data.path={path}: holds blank lines alone; export the records again.")
    # Before it is taken apart: quoted names between other signs are no CSV
    _refuse_other_separator(path, first, separator)
    with contextlib.closing(_rows(path, reading, separator, notes=None)) as rows:
        _, _, header = next(rows)
    # A column without a name is what pandas and R write row numbers into
    names = tuple(name or f"Unnamed: {position}" for position, name in enumerate(header))
    lines = array("Q")
    notes = list(encoding_notes(path, reading.encoding))
    rows = _rows(path, reading, separator, notes=notes)
    kept = {name: position for position, name in enumerate(names) if name in columns}
    return Opened(
        columns=names,
        batches=_batches(path, rows, kept, expected=len(names), lines=lines, notes=notes),
        lines=lines,
        notes=notes,
    )


def _rows(
    path: Path, reading: Reading, separator: str, *, notes: list[str] | None
) -> Generator[tuple[int, str, list[str]], None, None]:
    """Yield each record's last line, its text as it stands there, and its fields."""
    csv.field_size_limit(_LONGEST)  # of the whole process; a clinical note may be long
    current: list[str] = []

    def remembered() -> Iterator[str]:
        for line in text_lines(path, reading, notes):
            current.append(line)
            yield line

    reader = csv.reader(remembered(), delimiter=separator, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            first = reader.line_num - len(current) + 1
            raise DataError(_malformed(path, str(error), first, reader.line_num)) from None
        if row is None:
            return
        raw = current[0] if len(current) == 1 else "".join(current)
        if len(row) > 1 or raw.strip():
            yield reader.line_num, raw, row
        current.clear()


def _malformed(path: Path, why: str, first: int, last: int) -> str:
    """Say what is wrong in the record between two lines, from what Python's reader says."""
    place = f"data.path={path}: line {first}"
    if "unexpected end of data" in why:
        return (
            f"{place}: a quote is opened and never closed, up to the end of the file; close it, or"
            ' write a quote that is part of the text twice ("") in a quoted field.'
        )
    if "new-line character" in why:
        return (
            f"{place}: a carriage return stands alone; save the file with line ends of Unix or"
            " Windows."
        )
    if "expected after" in why:
        opened = f" The quote was opened in line {first}." if last > first else ""
        return (
            f"data.path={path}: line {last}: text follows a closing quote.{opened} Close the quote"
            ' where the text ends, and write a quote that is part of the text twice ("").'
        )
    return f"{place}: is not CSV: {why}."


def _batches(
    path: Path,
    rows: Iterator[tuple[int, str, list[str]]],
    kept: dict[str, int],
    *,
    expected: int,
    lines: "array[int]",
    notes: list[str],
) -> Iterator[pyarrow.Table]:
    next(rows)  # the header
    batch: list[list[str]] = []
    longest, at = 0, 0
    for last, raw, row in rows:
        first = last
        if raw.count("\n") > 1:
            span = raw.count("\n") + (not raw.endswith("\n"))
            first = last - span + 1
            if span > longest:
                longest, at = span, first
        if len(row) != expected:
            raise DataError(_wrong_count(path, first, len(row), expected))
        if '"' in raw and any('"' in field for field in row):
            _refuse_bare_quote(path, first, raw, row)
        lines.append(first)
        batch.append(row)
        if len(batch) == BATCH:
            yield _table(batch, kept)
            batch = []
    if longest > _LONG:
        notes.append(
            f"The record that begins in line {at} of {path.name} spans {longest} lines; if it"
            " should not, a quote is missing there."
        )
    yield _table(batch, kept)


def _table(rows: Sequence[Sequence[str]], kept: dict[str, int]) -> pyarrow.Table:
    return pyarrow.table(
        {
            name: pyarrow.array([row[position] or None for row in rows], pyarrow.string())
            for name, position in kept.items()
        }
    )


def _wrong_count(path: Path, line: int, count: int, expected: int) -> str:
    more = "a field that holds the separator needs quotes" if count > expected else "write them all"
    return (
        f"data.path={path}: line {line} has {count} field{'s' if count > 1 else ''}, expected the"
        f" {expected} of the header; {more}."
    )


def _refuse_bare_quote(path: Path, line: int, raw: str, row: Sequence[str]) -> None:
    """Refuse a quote inside a field that is not quoted.

    It is the text's own or a quoted field's that begins too late, and nobody can tell which.
    """
    for field in row:
        if '"' in field and '"' + field.replace('"', '""') + '"' not in raw:
            raise DataError(
                f"data.path={path}: line {line}: a quote stands inside a field that is not quoted;"
                ' put the field in quotes and write its own quotes twice ("").'
            )


def _refuse_other_separator(path: Path, header: str, separator: str) -> None:
    """Say what separates the fields, if it is by all appearances something else."""
    plain = re.sub(r'"[^"]*"', "", header)
    other = max((sign for sign in _NAMES if sign != separator), key=plain.count)
    if plain.count(other) > plain.count(separator):
        raise DataError(
            f"data.path={path}: the fields of its header are separated by {_NAMES[other]}, expected"
            f" {_NAMES[separator]}, as {path.suffix.lower()} says; export it with"
            f" {_NAMES[separator]}{' and decimal points' if other == ';' else ''}"
            f"{', or call it .tsv' if other == chr(9) else ''}."
        )


__all__ = ["open_delimited"]
