"""When two spellings are one name, and how to tell why two that look alike are not.

Names are what a table is matched by: ids, owners, institutions, labels, categories, columns. File
formats write the same one differently: 1 is 1.0 in a column with gaps, true is True or TRUE.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

_BOOLEANS = {"true": "1", "false": "0"}
# Not 007 and not 1e5, which are codes more often than numbers: what is taken for two names that are
# one is told at once, what is taken for one name that are two is not
_NUMBER = re.compile(
    r"[+-]?(?:0|[1-9]\d*)(?:\.\d*)?(?:[eE][+-]\d{1,3})?|[+-]?\d\.\d+[eE][+-]?\d{1,3}", re.ASCII
)
# Letters of other scripts that look like Latin ones
_ALIKE = str.maketrans(
    "АВЕКМНОРСТХаеорсухіΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
    "ABEKMHOPCTXaeopcyxiABEZHIKMNOPTYXo",
)


def canonical_name(text: str) -> str:
    """Return the one spelling of a name.

    A number's is the shortest exact one, a truth value's is in lower case, any other name's is
    itself.

    >>> [canonical_name(name) for name in ("1.0", "-0", "2.50", "1e+20", "TRUE", "007", "1e5", "a")]
    ['1', '0', '2.5', '100000000000000000000', 'true', '007', '1e5', 'a']
    """
    stripped = text.strip()
    folded = stripped.lower()
    if folded in _BOOLEANS:
        return folded
    return number_text(stripped) if _NUMBER.fullmatch(stripped) else text


def number_text(text: str) -> str:
    """Return the shortest text of a number: of a whole one all its digits, else of its float64.

    Args:
        text: a number in decimal digits.
    """
    number = float(text)
    if abs(number) == float("inf"):
        return text
    exact = Decimal(text)
    # Above 2^53 float64 no longer tells whole numbers apart
    if exact == exact.to_integral_value():
        return str(int(exact))
    return str(int(number)) if number.is_integer() else repr(number)


def name_index(names: Sequence[str]) -> dict[str, int]:
    """Return the canonical spellings of names -> position of each.

    Where all of them are truth values, or all are 0 and 1, either stands for the other: a database
    may have no truth values.

    >>> name_index(["no", "yes"]), name_index(["0", "1.0"])
    ({'no': 0, 'yes': 1}, {'0': 0, '1': 1, 'false': 0, 'true': 1})
    """
    found = {canonical_name(name): i for i, name in enumerate(names)}
    if found.keys() <= _BOOLEANS.keys():
        return {**found, **{_BOOLEANS[name]: i for name, i in found.items()}}
    if found.keys() <= set(_BOOLEANS.values()):
        words = {digit: word for word, digit in _BOOLEANS.items()}
        return {**found, **{words[name]: i for name, i in found.items()}}
    return found


def spelled_in(index: Mapping[str, object], text: str) -> str:
    """Return the spelling of a name in an index: without the spaces around it, unless one has them.

    >>> [spelled_in({"yes": 0, " no": 1}, text) for text in (" yes ", " no", "1.0 ")]
    ['yes', ' no', '1']
    """
    name = canonical_name(text)
    return name if name in index else canonical_name(text.strip())


def repeats(names: Iterable[str]) -> bool:
    """Say whether two names are one, however they are spelled."""
    listed = [canonical_name(name) for name in names]
    return len(set(listed)) < len(listed)


def counted(number: int, noun: str) -> str:
    """Return a number of things.

    >>> counted(1, "record"), counted(20, "record")
    ('1 record', '20 records')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def written(name: str) -> str:
    r"""Return a name in quotes, with whatever could not be seen in it as an escape.

    >>> print(written("sex"), written("\u200bsex"), written("cafe\u0301"), written("\u5e74"))
    'sex' '\u200bsex' 'cafe\u0301' '年'
    """
    seen = "".join(
        char
        if char == " " or (char.isprintable() and not unicodedata.combining(char))
        else char.encode("unicode_escape").decode()
        for char in name
    )
    return f"'{seen}'"


def difference(name: str, other: str) -> str | None:
    """Say by what alone two names differ; None if they differ by more, or not at all.

    >>> print(difference("sex", "\u200bsex"))
    an invisible character (U+200B ZERO WIDTH SPACE)
    >>> difference("Sex ", "sex"), difference("sex", "six")
    ('upper and lower case and spaces', None)
    """
    if name == other or _formed(name, _FORMS) != _formed(other, _FORMS):
        return None
    needed = list(_FORMS)
    for form in _FORMS:
        without = [one for one in needed if one != form]
        if _formed(name, without) == _formed(other, without):
            needed = without
    hidden = [char for char in dict.fromkeys(name + other) if _is_invisible(char)]
    shown = ", ".join(f"U+{ord(char):04X} {unicodedata.name(char, '')}".strip() for char in hidden)
    return " and ".join(f"{form} ({shown})" if form == _INVISIBLE else form for form in needed)


def nearest(name: str, others: Iterable[str]) -> str | None:
    """Say which of other names differs from a name in what is easily overlooked; None if none."""
    for other in others:
        why = difference(name, other)
        if why is not None:
            return f"{written(name)} differs from {written(other)} only by {why}"
    return None


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) in ("Cf", "Cc") and not char.isspace()


def _visible(text: str) -> str:
    return "".join(char for char in text if not _is_invisible(char))


_INVISIBLE = "an invisible character"
# From the plainest difference to the one that is believed last: where several forms make two names
# equal, the last ones are left out first
_FORMS: dict[str, Callable[[str], str]] = {
    "letters of another alphabet that look alike": lambda text: text.translate(_ALIKE),
    "full-width or other forms of characters": lambda text: unicodedata.normalize("NFKC", text),
    "upper and lower case": str.casefold,
    "the Unicode form of its characters (composed or not)": (
        lambda text: unicodedata.normalize("NFC", text)
    ),
    "spaces": lambda text: "".join(text.split()),
    _INVISIBLE: _visible,
}


def _formed(text: str, forms: Iterable[str]) -> str:
    for form in forms:
        text = _FORMS[form](text)
    return text


__all__ = [
    "canonical_name",
    "counted",
    "difference",
    "name_index",
    "nearest",
    "number_text",
    "repeats",
    "spelled_in",
    "written",
]
