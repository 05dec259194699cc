"""A YAML file of one schema, every mistake of it at once."""

import dataclasses
import json
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from confide.config.composing.own_files import in_file
from confide.config.composing.problems import near
from confide.config.fields import range_problems
from confide.errors import ConfigError, words_of

_Schema = TypeVar("_Schema")
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
"""What pydantic calls a key that a schema does not have."""


def read_strict(path: Path, schema: type[_Schema]) -> _Schema:
    """Read a file; what it leaves out has its default.

    Args:
        path: the file.
        schema: dataclass of settings.

    Raises:
        ConfigError: naming every key that is unknown, mistyped or out of range.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
        # By way of JSON, as plans are read: the same values are valid in both
        made: _Schema = TypeAdapter(schema).validate_json(json.dumps(raw))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: is not YAML: {error.problem}.") from None
    except (OSError, TypeError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read ({words_of(error)}).") from None
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        raise ConfigError(
            [
                in_file(path, _told(e["type"], [*map(str, e["loc"])], e["input"], e["msg"], schema))
                for e in mistakes
            ]
        ) from None
    problems = list(range_problems(made))
    if problems:
        raise ConfigError([in_file(path, problem) for problem in problems])
    return made


def _told(kind: str, place: Sequence[str], value: object, why: str, schema: type) -> str:
    """Say what is wrong with one value, and which setting an unknown one may have meant."""
    begins = f"{'.'.join(place)}={value!r}: "
    if kind not in _UNKNOWN:
        return f"{begins}{why}."
    known = _settings_at(schema, place[:-1])
    return f"{begins}there is no such setting.{near(place[-1], known) if known else ''}"


def _settings_at(schema: object, place: Sequence[str]) -> list[str]:
    """Name the settings of a schema within a schema; [] where it is none."""
    if not dataclasses.is_dataclass(schema):
        return []
    if not place:
        return [field.name for field in dataclasses.fields(schema)]
    inner = typing.get_type_hints(schema).get(place[0])
    return _settings_at(inner, place[1:])


__all__ = ["read_strict"]
