"""Parts of one's own, named by dotted path: ``my_module.TrimmedMean``.

The path is the registry: whoever composes the config names a function or class, found as Python
finds any module, and what it returns stands where a built-in part would. ``_target_`` and
``kwargs`` mean the same at every seam (strategy, aggregator, task, data). Nothing here looks at a
plan: what may be imported on its behalf is decided before, by the institution's policy.
"""

import contextlib
import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from confide.errors import ConfideError, ConfigError
from confide.security.redaction import redact_arguments

log = logging.getLogger(__name__)

LONGEST_PATH, _SHOWN = 200, 60
CUSTOM_TASK_HELP = (
    "dotted path of the task of one's own that RUN was trained with; no other is imported, whatever"
    " its files say"
)
_DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+")


def is_dotted(path: str) -> bool:
    """Tell whether a text could name something inside a module.

    >>> [is_dotted(path) for path in ("my_module.MyTask", "my_module", "os.system()", "a." + "b" * 200)]
    [True, False, False, False]
    """
    return len(path) <= LONGEST_PATH and _DOTTED.fullmatch(path) is not None


def named_problems(path: str | None, kwargs: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with how a part is named."""
    if path is None and kwargs:
        yield f"kwargs={dict(kwargs)} has no effect without _target_; set _target_, or kwargs={{}}."
    if path is not None and not is_dotted(path):
        yield f"_target_={path[:_SHOWN]!r}: expected a dotted path such as my_module.my_part."


def look_in_current_folder(paths: Sequence[str]) -> None:
    """Let Python find modules in the current folder too, last of all, if any part of one's own is named.

    For commands: a script or notebook has its folder on ``sys.path`` anyway. Worker processes take
    the path over.
    """
    if paths and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def find_part(path: str, *, key: str) -> Callable[..., Any]:
    """Import what a dotted path names.

    Args:
        path: of a function or class in a module.
        key: the setting that names it, such as ``strategy``.

    Raises:
        ConfigError: with the path and the reason, if it cannot be imported or called.
    """
    module, _, name = path.rpartition(".")
    named = f"{key}._target_={path}"
    try:
        part = getattr(importlib.import_module(module), name)
    except ConfideError:
        raise
    except Exception as error:  # whatever that module does as it is imported
        log.debug("%s", named, exc_info=True)
        raise ConfigError(
            f"{named}: {_told(error)}. Expected a function or class in a module that Python finds:"
            " one that is installed, in the current folder or on PYTHONPATH."
        ) from error
    if not callable(part):
        raise ConfigError(f"{named} is {type(part).__name__}, expected a function or class.")
    found: Callable[..., Any] = part
    return found


def make_part(path: str, *arguments: Any, key: str, kwargs: Mapping[str, Any]) -> Any:
    """Import what a dotted path names, and call it.

    Args:
        path: of a function or class in a module.
        arguments: of ours.
        key: the setting that names it.
        kwargs: of whoever named it.

    Raises:
        ConfigError: with the path and the reason, if it cannot be imported or raises.
    """
    part = find_part(path, key=key)
    with blamed(path, key=key, kwargs=kwargs):
        return part(*arguments, **kwargs)


@contextlib.contextmanager
def blamed(path: str, *, key: str, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Turn what a part of one's own raises into a mistake of the config, with its path.

    What it raises on purpose passes.

    Raises:
        ConfigError: with the path, the arguments and the reason.
    """
    try:
        yield
    except ConfideError:
        raise
    except Exception as error:  # it is not ours
        log.debug("%s", path, exc_info=True)
        given = f" with {key}.kwargs={redact_arguments(kwargs)}" if kwargs else ""
        raise ConfigError(
            f"{key}._target_={path}{given} raises {_told(error)}. Correct it, or its arguments."
        ) from error


def require(made: Any, names: Sequence[str], *, path: str, key: str, expected: str) -> None:
    """Check that what was made can stand where it is to stand.

    Args:
        made: by a part of one's own.
        names: of what it must have.
        path: of that part.
        key: the setting that names it.
        expected: what it should be, for people.

    Raises:
        ConfigError: naming what it lacks.
    """
    lacking = [name for name in names if not hasattr(made, name)]
    if lacking:
        raise ConfigError(
            f"{key}._target_={path} returns {type(made).__name__}, expected {expected}; it lacks"
            f" {', '.join(lacking)}."
        )


def _told(error: Exception) -> str:
    words = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
    return f"{type(error).__name__}: {words}"


__all__ = [
    "CUSTOM_TASK_HELP",
    "LONGEST_PATH",
    "blamed",
    "find_part",
    "is_dotted",
    "look_in_current_folder",
    "make_part",
    "named_problems",
    "require",
]
