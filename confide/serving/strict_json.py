"""JSON from outside, read strictly (RFC 8259): what readers would guess at is refused.

Python's own reader takes NaN, keeps one of two equal keys, and gives half a character for half a
surrogate pair.
"""

import collections
import json
from typing import Any, NoReturn

from confide.serving.refusal import bad

_SHOWN = 40


def read_json(data: bytes) -> Any:
    """Read JSON in UTF-8.

    Raises:
        RefusedError: with the place and the reason.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise bad(f"The body is not UTF-8: byte {error.start + 1}; send JSON in UTF-8.") from None
    if not text.strip():
        raise bad("The body is empty; expected JSON.")
    if text.startswith("\ufeff"):
        raise bad("The body begins with a byte order mark; send JSON without it.")
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise bad("The JSON nests lists or objects too deeply.") from None
    except json.JSONDecodeError as error:
        raise bad(f"The body is not JSON: {error.msg} at character {error.pos + 1}.") from None
    except ValueError as error:  # the decoder's own functions, and integers of too many digits
        raise bad(f"The body is not JSON as expected: {error}") from None
    if "\\u" in text:
        _refuse_halves(value)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"{_short(twice)} stands twice in one object; leave one of them.")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON; write null for a value that is missing.")


def _refuse_halves(value: Any) -> None:
    """Refuse half of a surrogate pair, which no text can hold."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str) and any("\ud800" <= sign <= "\udfff" for sign in one):
            raise bad("A text holds half of a character (a surrogate alone); write the text again.")


def _short(name: str) -> str:
    return ascii(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)

__all__ = ["read_json"]
