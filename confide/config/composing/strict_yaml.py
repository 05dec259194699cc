"""A YAML file of one schema, every mistake of it at once."""

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from confide.config.composing.own_files import in_file
from confide.config.fields import range_problems
from confide.errors import ConfigError

_Schema = TypeVar("_Schema")


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
        raise ConfigError(f"{path} cannot be read ({error}).") from None
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        raise ConfigError(
            [
                in_file(path, f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}.")
                for e in mistakes
            ]
        ) from None
    problems = list(range_problems(made))
    if problems:
        raise ConfigError([in_file(path, problem) for problem in problems])
    return made


__all__ = ["read_strict"]
