"""Values as text -> numbers, and what is wrong with them.

Needs no torch.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy
import pandas

_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+", re.ASCII)
_BOOLEANS = {"true": 1.0, "false": 0.0}


class Problem(NamedTuple):
    """What is wrong with records.

    Attributes:
        text: a sentence with the column, the count and the fix.
        record: position of the first record that it is found in, from 0; None if in none alone.
        where: bool, shape [n]; each record that it is found in; None: not known of each.
        why: what is wrong with one of these, such as ``unknown category``; "" without ``where``.
    """

    text: str
    record: int | None = None
    where: Any = None
    why: str = ""


def holds_half(text: str) -> bool:
    """Say whether JSON names half of a character, a surrogate alone, which no tokenizer takes."""
    if "\\u" not in text:
        return False
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):  # told where it is read
        return False
    return False


def fold_boolean(text: str) -> str:
    """Write true and false, which databases and spreadsheets capitalise at will, in lower case."""
    folded = text.lower()
    return folded if folded in _BOOLEANS else text


def number_of(text: str) -> float:
    """Return the number of a text; that of a truth value is 1 or 0, as in databases."""
    truth = _BOOLEANS.get(text.lower())
    return parse_number(text) if truth is None else truth


def parse_number(text: str) -> float:
    """Return the finite number a text stands for, or NaN."""
    try:
        number = float(text)
    except ValueError:
        return numpy.nan
    # Python reads 1_000 as a number; nobody else who writes tables means it.
    return number if numpy.isfinite(number) and "_" not in text else numpy.nan


def decimal_commas(text: Sequence[str], codes: Any) -> str:
    """Say how many values have a decimal comma; "" if none has.

    Args:
        text: the value of each code.
        codes: the code of each value, -1 where null.
    """
    commas = numpy.array([*(bool(_DECIMAL_COMMA.fullmatch(value)) for value in text), False])[codes]
    if not commas.any():
        return ""
    return f" {commas.sum()} have a decimal comma where a point belongs."


def distinct_of(values: Sequence[object]) -> tuple[Any, Sequence[object]]:
    """Return the code of each value, -1 where null, and the value of each code."""
    listed = numpy.empty(len(values), dtype=object)
    listed[:] = list(values)
    codes, distinct = pandas.factorize(listed)
    return codes, distinct


def first(where: Any) -> int:
    """Return the first place where something holds."""
    return int(numpy.argmax(where))


__all__ = [
    "Problem",
    "decimal_commas",
    "distinct_of",
    "first",
    "fold_boolean",
    "number_of",
    "parse_number",
]
