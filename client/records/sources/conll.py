"""Files with a word and its tag a line, and a blank line behind each sentence (CoNLL 2003).

Columns stand between tabs, where a line holds one, else between blanks. A file names none: the
first one is ``words``, the last ``tags``, those between ``column_2``, ``column_3`` and so on. A
line that begins with -DOCSTART- begins a document, whose number is each sentence's ``document``.
"""

import contextlib
import itertools
import re
from array import array
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow

from confide.client.records.sources.opened import BATCH, Opened
from confide.client.records.sources.reading import Reading
from confide.client.records.sources.text_files import encoding_notes, text_lines
from confide.errors import DataError
from confide.tasks.spans.words import list_text

WORDS, TAGS, DOCUMENT = "words", "tags", "document"
_DOCUMENT_START = "-DOCSTART-"
_BLANKS = re.compile(r"[ \t]+")
"""Not every sign that Python takes for a blank: a no-break space belongs to its word."""
_PROSE = ".txt"
"""Ends the names of files that may hold prose."""
_TAG = re.compile(r"[oO]|\S+[-_]\S+|[A-Z_]+|\d+")
"""What the last column of a file with a word a line looks like; numbers stand for tags."""


class _Sentence(NamedTuple):
    """A sentence: its first line, the fields of its words, and how many documents began so far."""

    line: int
    rows: list[list[str]]
    document: int


def open_conll(path: Path, columns: Sequence[str], reading: Reading) -> Opened:
    """Open a file with a word a line.

    Raises:
        DataError: with the line, if its words have unlike numbers of columns.
    """
    with contextlib.closing(_sentences(path, reading, notes=None)) as sentences:
        first = next(sentences, None)
    if first is None:
        raise DataError(f"data.path={path}: holds no word; expected a word and its tag a line.")
    names = _names(len(first.rows[0]))
    lines = array("Q")
    notes = list(encoding_notes(path, reading.encoding))
    kept = [name for name in (*names, DOCUMENT) if name in columns]
    rows = _sentences(path, reading, notes=notes)
    return Opened(
        columns=(*names, DOCUMENT),
        batches=(
            _table(batch, names, kept, lines)
            for batch in iter(lambda: list(itertools.islice(rows, BATCH)), [])
        ),
        lines=lines,
        notes=notes,
    )


def _names(width: int) -> tuple[str, ...]:
    between = tuple(f"column_{number}" for number in range(2, width))
    return (WORDS, *between, TAGS) if width > 1 else (WORDS,)


def _sentences(
    path: Path, reading: Reading, *, notes: list[str] | None
) -> Generator[_Sentence, None, None]:
    rows: list[list[str]] = []
    first = document = width = 0
    for number, raw in enumerate(text_lines(path, reading, notes), start=1):
        line = raw.rstrip("\r\n")
        if not line.strip() or line.startswith(_DOCUMENT_START):
            if rows:
                yield _Sentence(first, rows, document)
            rows = []
            document += line.startswith(_DOCUMENT_START)
            continue
        fields = line.split("\t") if "\t" in line else _BLANKS.split(line.strip(" "))
        if not width and len(fields) > 1 and path.suffix.lower() == _PROSE:
            _refuse_prose(path, number, fields[-1])
        width = width or len(fields)
        if len(fields) != width:
            raise DataError(
                f"data.path={path}: line {number} has {len(fields)}"
                f" field{'s' if len(fields) > 1 else ''}, expected the {width} of the first word:"
                " a word, then its tag, between tabs or blanks, and a blank line behind each"
                " sentence."
            )
        first = first if rows else number
        rows.append(fields)
    if rows:
        yield _Sentence(first, rows, document)


def _refuse_prose(path: Path, line: int, last: str) -> None:
    """Refuse a text, of which each first word would be taken for a word with its tag behind it."""
    if not _TAG.fullmatch(last):
        raise DataError(
            f"data.path={path}: line {line} ends in {last!r}, which is no tag: a .txt has a word"
            " and its tag a line, and a blank line behind each sentence; name it .conll if it has."
            " Texts belong into a column of a .csv or .jsonl."
        )


def _table(
    sentences: Sequence[_Sentence],
    names: Sequence[str],
    kept: Sequence[str],
    lines: "array[int]",
) -> pyarrow.Table:
    lines.extend(sentence.line for sentence in sentences)
    made: dict[str, pyarrow.Array] = {}
    for name in kept:
        values = (
            [str(sentence.document) for sentence in sentences]
            if name == DOCUMENT
            else [
                list_text([fields[names.index(name)] for fields in sentence.rows])
                for sentence in sentences
            ]
        )
        made[name] = pyarrow.array(values, pyarrow.string())
    return pyarrow.table(made)


__all__ = ["DOCUMENT", "TAGS", "WORDS", "open_conll"]
