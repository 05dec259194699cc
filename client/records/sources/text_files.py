"""Text files, decoded strictly: a character that cannot be read is an error and not a replacement.

What a lenient reader puts in place of a character is nobody's text, and a model learns it all the
same.
"""

import codecs
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

from confide.client.records.sources.reading import Reading
from confide.errors import DataError

_HEAD = 1 << 16
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks; those of UTF-32 first, of which one begins like one of UTF-16."""
_GUESSES = ("cp1252", "cp1251", "gb18030", "shift_jis", "big5", "euc_kr")
_FEW_NULLS = 4


def text_lines(
    path: Path, reading: Reading, notes: list[str] | None = None
) -> Generator[str, None, None]:
    """Yield the lines of a text file, each with its line feed.

    A carriage return alone ends no line. A byte order mark is left out.

    Args:
        path: path of the file.
        reading: its encoding, and whether what cannot be decoded is replaced.
        notes: list that a sentence on what was replaced is added to, once all lines were read.

    Raises:
        DataError: with the line, if it cannot be decoded or holds a null character.
    """
    encoding = reading.encoding
    _refuse_other_encoding(path, encoding)
    replaced = 0
    try:
        with path.open(encoding=encoding, errors=reading.errors, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                replaced += "\ufffd" in line
                if "\0" in line:
                    raise DataError(
                        f"data.path={path}: line {number} holds a null character, which no text"
                        " has; export the records again."
                    )
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError:
        raise DataError(_undecodable(path, encoding)) from None
    if replaced and notes is not None and reading.errors == "replace":
        notes.append(
            f"{path.name}: {replaced:,} lines hold characters that are not {encoding.upper()}; each"
            " was replaced by U+FFFD (data.encoding_errors=replace)."
        )


def encoding_notes(path: Path, encoding: str) -> Iterator[str]:
    """Yield a sentence if a file is UTF-8, by all appearances, and is read as something else."""
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        return
    with path.open("rb") as file:
        head = file.read(_HEAD)
    try:
        # Its last character may be cut off
        text = codecs.getincrementaldecoder("utf-8")("strict").decode(head)
    except UnicodeDecodeError:
        return
    if not text.isascii() and "\0" not in text:
        yield (
            f"{path.name} is UTF-8, by all appearances, and is read as data.encoding={encoding};"
            " look at its letters, or leave data.encoding out."
        )


def _refuse_other_encoding(path: Path, encoding: str) -> None:
    """Refuse UTF-16 and UTF-32 by name, which else are read as letters and null characters."""
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return
    with path.open("rb") as file:
        head = file.read(_HEAD)
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if marked:
        raise DataError(
            f"data.path={path}: is {marked.upper()}, by its byte order mark, and not"
            f" {encoding.upper()}; {_named(marked)}, or save it as UTF-8."
        )
    nulls = [head[parity::2].count(0) for parity in (0, 1)]
    if sum(nulls) >= _FEW_NULLS and 0 in nulls:
        name = "utf-16-le" if nulls[1] else "utf-16-be"
        raise DataError(
            f"data.path={path}: looks like UTF-16 without a byte order mark, since every other"
            f" byte of its ASCII letters is null; {_named(name)}, or save it as UTF-8."
        )


def _named(encoding: str) -> str:
    """Say how an encoding is named to a run, and to commands such as predict and data draft."""
    return f"set data.encoding={encoding}, of a command with a file --encoding {encoding}"


def _undecodable(path: Path, encoding: str) -> str:
    """Say where a file cannot be decoded, and what may be meant."""
    line, error = _first_error(path, encoding)
    where = f"line {line} " if line is not None else ""
    if error is not None and error.reason == "unexpected end of data" and _is_at_end(path, error):
        return (
            f"data.path={path}: {where}ends in the middle of a character; the file was cut off."
            " Export the records again."
        )
    why = f"{where}is not {encoding.upper()}"
    if error is not None:
        why += f" (byte 0x{error.object[error.start]:02x}: {error.reason})"
    fitting = [name for name in _GUESSES if name != encoding and _decodes(path, name)]
    guess = (
        f" Its bytes would fit {', '.join(fitting)}: name the one that wrote it, and look at the"
        " letters."
        if fitting
        else ""
    )
    return (
        f"data.path={path}: {why}; save it as UTF-8, or name its encoding: {_named('NAME')}.{guess}"
        " If it cannot be mended, data.encoding_errors=replace (--encoding-errors replace) puts"
        " U+FFFD in place of such characters, and says in how many lines."
    )


def _first_error(path: Path, encoding: str) -> tuple[int | None, UnicodeDecodeError | None]:
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        # A line feed is several bytes, and a byte of it part of other characters
        try:
            path.read_bytes().decode(encoding)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(encoding, errors="ignore")
            return before.count("\n") + 1, error
        return None, None
    with path.open("rb") as file:
        return _first_bad_line(file, encoding)


def _first_bad_line(file: IO[bytes], encoding: str) -> tuple[int | None, UnicodeDecodeError | None]:
    for number, raw in enumerate(file, start=1):
        try:
            raw.decode(encoding)
        except UnicodeDecodeError as error:
            return number, error
    return None, None


def _is_at_end(path: Path, error: UnicodeDecodeError) -> bool:
    """Say whether nothing follows the bytes that could not be decoded."""
    with path.open("rb") as file:
        file.seek(-min(len(error.object), path.stat().st_size), 2)
        return error.end == len(error.object) and file.read() == error.object


def _decodes(path: Path, encoding: str) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    try:
        codecs.getincrementaldecoder(encoding)("strict").decode(head)
    except UnicodeDecodeError:
        return False
    return True


__all__ = ["encoding_notes", "text_lines"]
