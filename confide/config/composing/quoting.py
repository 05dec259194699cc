"""Texts on the command line, quoted where Hydra's grammar would give them another meaning.

Hydra reads 1_2 as 12 and 1e3 as 1000, and stops at Chinese, parentheses, ~ and <. Of a setting that
is a text, whatever was typed is meant.
"""

import dataclasses
import re
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from confide.config.models.table import BACKBONES
from confide.config.outcomes.table import OUTCOMES
from confide.config.run import Config
from confide.config.tasks.table import TASKS
from confide.config.tunings.table import TUNINGS

Kind = Literal["text", "texts", "named texts", "other"]

_OVERRIDE = re.compile(r"(?P<key>\+{0,2}[\w./@$-]+)=(?P<value>.*)", re.DOTALL | re.ASCII)
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)", re.DOTALL)
_QUOTED_NAME = re.compile(r"\s*(['\"])(.*?)\1\s*:")
_BRACKETS = {"[": "]", "{": "}", "(": ")"}


def quote_texts(
    overrides: Sequence[str], *, sweeping: bool = False, schema: type = Config
) -> list[str]:
    """Quote the values of settings that are texts, where Hydra would read them otherwise.

    Args:
        overrides: words of a command line; what is no override is returned as it is.
        sweeping: whether commas stand between the values of a sweep.
        schema: dataclass of the config.
    """
    return [quoted for word in overrides for quoted in _quote(word, sweeping, schema)]


def _quote(word: str, sweeping: bool, schema: type) -> list[str]:
    found = _OVERRIDE.fullmatch(word)
    # A word without a dot chooses from a group, whose names need no quotes
    if found is None or "." not in found["key"] or not found["value"].strip():
        return [word]
    key, value = found["key"], found["value"].strip()
    kind = _kind(key.lstrip("+").split("@")[0].split("."), schema)
    if _is_read_as_meant(word, value, kind, sweeping):
        return [word]
    parts = _split(value) if sweeping else [value]
    if kind == "texts" and all(part[:1] == "[" and part[-1:] == "]" for part in parts):
        lists = (",".join(map(_in_quotes, _split(part[1:-1]))) for part in parts)
        return [f"{key}={','.join(f'[{one}]' for one in lists)}"]
    if kind == "named texts" and value[0] == "{" and value[-1] == "}" and len(parts) == 1:
        pairs = dict(map(_pair, _split(value[1:-1])))
        if all(re.fullmatch(r"\w+", name, re.ASCII) for name in pairs):
            # One by one: in braces Hydra reads the key 0 as a number, which is no text's name
            return [f"++{key.lstrip('+')}.{name}={text}" for name, text in pairs.items()]
        return [f"{key}={{{','.join(f'{name}:{text}' for name, text in pairs.items())}}}"]
    if kind == "other" and value[0] == "{" and value[-1] == "}":
        return [f"{key}={','.join(map(_with_plain_names, parts))}"]
    if kind in ("texts", "named texts") or (kind == "other" and value[0] in _BRACKETS):
        return [word]
    return [f"{key}={','.join(map(_in_quotes, parts))}"]


def _is_read_as_meant(word: str, value: str, kind: Kind, sweeping: bool) -> bool:
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return _FUNCTION.fullmatch(value) is not None
    if kind == "other" or _FUNCTION.fullmatch(value):
        return True
    if override.is_sweep_override():
        parts = _split(value)
        # Without -m Hydra says that a sweep needs it, which is meant if each value is quoted
        return all(map(_is_quoted, parts)) if not sweeping else all(map(_is_text, parts))
    read = override.value()
    if isinstance(read, list):
        return kind == "texts" and all(isinstance(one, str) for one in read)
    if isinstance(read, dict):
        named = [*read, *read.values()]
        return kind == "named texts" and all(isinstance(one, str) for one in named)
    return read is None or isinstance(read, str) or kind != "text"


def _is_text(part: str) -> bool:
    try:
        return isinstance(OverridesParser.create().parse_override(f"a={part}").value(), str)
    except HydraException:
        return False


def _is_quoted(part: str) -> bool:
    return len(part) > 1 and part[0] in "'\"" and part[-1] == part[0]


def _in_quotes(part: str) -> str:
    """Quote a text, unless it is in quotes or is all interpolation."""
    if _is_quoted(part) or re.fullmatch(r"\$\{[^{}]*\}", part):
        return part
    return str(QuotedString(text=part, quote=Quote.single).with_quotes())


def _pair(part: str) -> tuple[str, str]:
    """Return a key without quotes, for which Hydra's grammar has no place, and a quoted value."""
    key, _, value = part.partition(":")
    key = key.strip()
    return key[1:-1] if _is_quoted(key) else key, _in_quotes(value.strip())


def _with_plain_names(part: str) -> str:
    """Take the quotes off the names in braces, and escape them: {'size (cm)': [5]}."""
    if part[:1] != "{" or part[-1:] != "}":
        return part
    pairs = (_named_value(pair) for pair in _split(part[1:-1]))
    return f"{{{','.join(f'{name}: {_with_plain_names(value)}' for name, value in pairs)}}}"


def _named_value(pair: str) -> tuple[str, str]:
    """Return a name as Hydra's grammar takes it, without quotes, and its value."""
    found = _QUOTED_NAME.match(pair)
    name, _, value = pair.partition(":") if found is None else (found[2], "", pair[found.end() :])
    plain = re.sub(r"\\(.)", r"\1", name.strip())
    return re.sub(r"([\\()\[\]{}:=,])", r"\\\1", plain), value.strip()


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no quotes and no brackets."""
    parts, start, quote, depth, escaped = [], 0, "", 0, False
    for position, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and not text[start:position].strip():
            quote = char
        elif char in _BRACKETS:
            depth += 1
        elif char in _BRACKETS.values():
            depth = max(0, depth - 1)
        elif char == "," and not depth:
            parts.append(text[start:position].strip())
            start = position + 1
    last = text[start:].strip()
    return [*parts, last] if last or parts else []


# --- the kind of a setting


def _kind(keys: Sequence[str], schema: type) -> Kind:
    """Say what a setting holds, by the type that its schema declares."""
    found: list[Any] = [schema]
    choices = False
    for key in keys:
        found, choices = _inner(found, key)
    kinds = list({_kind_of(hint) for hint in found})
    return kinds[0] if len(kinds) == 1 and not choices else "other"


def _inner(hints: Sequence[Any], key: str) -> tuple[list[Any], bool]:
    """Return the types that a key has under some types, and whether it has a list of choices."""
    found: list[Any] = []
    choices = False
    for hint in hints:
        if get_origin(hint) is dict:
            found += _parts(get_args(hint)[1])
        elif dataclasses.is_dataclass(hint):
            fields = {field.name: field for field in dataclasses.fields(hint)}
            if key in fields:
                found += _parts(get_type_hints(hint)[key])
                choices = choices or bool(fields[key].metadata.get("choices"))
    return found, choices


def _parts(hint: Any) -> Iterator[Any]:
    """Yield the types that a setting may have: those of a union, and the kinds of a base."""
    if get_origin(hint) in (Union, types.UnionType):
        for one in get_args(hint):
            if one is not type(None):
                yield from _parts(one)
        return
    schemas = [
        *(kind.schema for kind in TASKS.values()),
        *(kind.schema for kind in OUTCOMES.values()),
        *(kind.schema for kind in BACKBONES.values()),
        *(kind.schema for kind in TUNINGS.values()),
    ]
    kinds = [one for one in schemas if isinstance(hint, type) and issubclass(one, hint)]
    yield from kinds or [hint]


def _kind_of(hint: Any) -> Kind:
    if hint is str:
        return "text"
    if get_origin(hint) is list and get_args(hint) == (str,):
        return "texts"
    if get_origin(hint) is dict and get_args(hint) == (str, str):
        return "named texts"
    return "other"


__all__ = ["quote_texts"]
