"""Custom parts of a run, named by dotted path: ``my_module.TrimmedMean``.

The path is the registry: the config names a function or class, which is imported like any module,
and what it returns takes the place of a built-in part. ``_target_`` and ``kwargs`` mean the same at
every seam (strategy, aggregator, task, data). Nothing here looks at a plan: what may be imported on
its behalf is decided before, by the institution's policy.
"""

import contextlib
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from confide.config.examples import UNDER_GPL, how_to_install
from confide.errors import ConfideError, ConfigError, UnforeseenError
from confide.security.redaction import redact_arguments

log = logging.getLogger(__name__)

# Paths come from plans too, and are written to logs and ledgers
LONGEST_PATH = 200
_SHOWN = 60
CUSTOM_TASK_HELP = (
    "dotted path of the custom task that RUN was trained with; no other task is imported, whatever"
    " its files say"
)
BACKBONE_HELP = "folder of the pretrained backbone, if it lies elsewhere than when RUN was trained"
_imported: dict[str, str] = {}
"""Module of a custom part -> the setting that named it; for messages alone."""
_DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+")


def is_dotted(path: str) -> bool:
    """Say whether a text could name something inside a module.

    >>> [is_dotted(path) for path in ("my_module.MyTask", "my_module", "os.system()")]
    [True, False, False]
    """
    # Not match() with $, which a newline at the end would pass.
    return len(path) <= LONGEST_PATH and _DOTTED.fullmatch(path) is not None


def implementation(path: str) -> Any:
    """Import what an entry of one of confide's own tables names.

    Configs are checked without torch, so the tables name implementations instead of importing them.
    These names are constants of confide's code; what a config or plan names is
    :func:`find_part`'s.

    >>> implementation("math.floor")(2.5)
    2
    """
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def named_problems(path: str | None, kwargs: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each mistake in how a custom part is named."""
    if path is None and kwargs:
        yield f"kwargs={dict(kwargs)} has no effect without _target_; set _target_, or kwargs={{}}."
    if path is not None and not is_dotted(path):
        yield f"_target_={path[:_SHOWN]!r}: expected a dotted path such as my_module.my_part."


def look_in_current_folder(paths: Sequence[str]) -> None:
    """Let Python find modules in the current folder too, if any custom part is named.

    Only for commands: a script or notebook has its folder on ``sys.path`` anyway.
    """
    # Last of all, so that a file there cannot replace an installed module by its name. Worker
    # processes take over the path.
    if paths and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def find_part(path: str, *, key: str) -> Callable[..., Any]:
    """Import what a dotted path names.

    Args:
        path: dotted path of a function or class in a module.
        key: setting that names it, such as ``strategy``.

    Raises:
        ConfigError: with the path and the reason, if it cannot be imported or called.
    """
    module, _, name = path.rpartition(".")
    named = f"{key}._target_={path}"
    _imported[module] = named
    try:
        part = getattr(importlib.import_module(module), name)
    except ConfideError:
        raise
    except Exception as error:  # code of somebody else, which may raise anything
        log.debug("%s", named, exc_info=True)
        package = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package in UNDER_GPL:
            fix = how_to_install(package)
            raise ConfigError(f"{named}: package {package} is not installed; {fix}") from None
        raise ConfigError(
            f"{named}: {_reason(error)}. Expected a function or class in a module that Python"
            " finds: one that is installed, in the current folder or on PYTHONPATH."
        ) from error
    if not callable(part):
        raise ConfigError(f"{named} is {type(part).__name__}, expected a function or class.")
    checked: Callable[..., Any] = part
    return checked


def make_part(path: str, *arguments: Any, key: str, kwargs: Mapping[str, Any]) -> Any:
    """Import what a dotted path names, and call it.

    Args:
        path: dotted path of a function or class in a module.
        arguments: positional arguments, given by confide.
        key: setting that names it.
        kwargs: keyword arguments, given in the config.

    Raises:
        ConfigError: with the path and the reason, if it cannot be imported or raises.
    """
    part = find_part(path, key=key)
    with blamed(path, key=key, kwargs=kwargs):
        return part(*arguments, **kwargs)


@contextlib.contextmanager
def blamed(path: str, *, key: str, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Turn an exception of a custom part into an error of the config, with the part's path.

    Errors of confide, which it raises on purpose, are passed on.

    Raises:
        ConfigError: with the path, the arguments and the reason.
    """
    try:
        yield
    except ConfideError:
        raise
    except Exception as error:  # code of somebody else, which may raise anything
        log.debug("%s", path, exc_info=True)
        given = f" with {key}.kwargs={redact_arguments(kwargs)}" if kwargs else ""
        raise ConfigError(
            f"{key}._target_={path}{given} raises {_reason(error)}. Correct it, or its arguments."
        ) from error


def unforeseen(error: Exception) -> UnforeseenError:
    """Return what stands for an exception that nobody foresaw.

    It names the custom part of the run that raised it, or that gave other code what it raised at.
    """
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        named = _imported.get(frame.f_globals.get("__name__", ""))
        if named is not None:
            code = frame.f_code
            where = f"{named}: {code.co_name}, line {line} of {code.co_filename},"
            return UnforeseenError(error, part=where)
    return UnforeseenError(error)


def require(made: Any, names: Sequence[str], *, path: str, key: str, expected: str) -> None:
    """Check that what a custom part returned has the attributes it needs.

    Args:
        made: object that the part returned.
        names: names of the attributes it must have.
        path: dotted path of the part.
        key: setting that names the part.
        expected: description of what was expected, for messages.

    Raises:
        ConfigError: naming the missing attributes.
    """
    # By attributes, not by class: a custom part need not inherit from anything of confide's.
    lacking = [name for name in names if not hasattr(made, name)]
    if lacking:
        raise ConfigError(
            f"{key}._target_={path} returns {type(made).__name__}, expected {expected}; it lacks"
            f" {', '.join(lacking)}."
        )


def _reason(error: Exception) -> str:
    words = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
    return f"{type(error).__name__}: {words}"


__all__ = [
    "BACKBONE_HELP",
    "CUSTOM_TASK_HELP",
    "LONGEST_PATH",
    "blamed",
    "find_part",
    "implementation",
    "is_dotted",
    "look_in_current_folder",
    "make_part",
    "named_problems",
    "require",
    "unforeseen",
]
