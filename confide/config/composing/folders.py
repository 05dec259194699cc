"""A project's own folders of configs: where choices of a group are looked for before confide's own.

``conf/`` in the current folder is found by itself; ``--config-dir`` and ``hydra.searchpath`` name
others. Hydra asks :mod:`confide.config.composing.own_source` for what they hold. Nothing of Hydra
is imported here.
"""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from confide.errors import ConfigError

CONF_MODULE = "confide.conf"
FOUND_HERE = "conf"
CONFIG_DIR_HELP = (
    "--config-dir DIR (-cd) adds a folder of your own configs; conf/ in the current folder is found"
    " by itself."
)
_FLAGS = ("--config-dir", "-cd")
_SEARCH_PATH = "hydra.searchpath"
Keys = tuple[str, ...]
"""Keys from the top of a file to one of its values."""


@dataclass
class Search:
    """Where own configs are looked for, and what was found.

    Attributes:
        folders: absolute paths, the first one first.
        loaded: config path, such as ``task/credit`` -> its file, in the order of loading.
        left_out: says of a file and keys in it whether to compose without them, while mistakes are
            collected; None to compose with everything.
        schemas: whether tasks and backbones get the schema of their kind.
    """

    folders: tuple[Path, ...] = ()
    loaded: dict[str, Path] = field(default_factory=dict)
    left_out: Callable[[Path, Keys], bool] | None = None
    schemas: bool = True


# Hydra composes deep inside its own classes, which know nothing of a caller's arguments.
_SEARCH: ContextVar[Search | None] = ContextVar("own configs", default=None)


def current() -> Search:
    """Return where own configs are looked for now."""
    return _SEARCH.get() or Search()


@contextlib.contextmanager
def _searched(search: Search) -> Iterator[None]:
    """Make a search the current one while the block runs."""
    token = _SEARCH.set(search)
    try:
        yield
    finally:
        _SEARCH.reset(token)


@contextlib.contextmanager
def searching(folders: Sequence[str | Path], *, schemas: bool = True) -> Iterator[Search]:
    """Look for own configs in folders, the first one first, while the block runs.

    Args:
        folders: paths, relative to the current folder, ``file://PATH`` or ``pkg://PACKAGE``.
        schemas: whether tasks and backbones get the schema of their kind.

    Raises:
        ConfigError: naming every folder that is not there.
    """
    found, problems = [], []
    for folder in folders:
        try:
            found.append(_place(str(folder)))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    search = Search(tuple(dict.fromkeys(found)), schemas=schemas)
    with _searched(search):
        yield search


@contextlib.contextmanager
def composing_without(left_out: Callable[[Path, Keys], bool]) -> Iterator[Search]:
    """Compose without some values of own files while the block runs."""
    search = Search(current().folders, left_out=left_out)
    with _searched(search):
        yield search


@contextlib.contextmanager
def own_configs(words: Sequence[str], *, more: Sequence[str | Path] = ()) -> Iterator[list[str]]:
    """Look for own configs where a command line says, and in ``conf/`` of the current folder.

    Args:
        words: command line; the rest of it is what the block gets.
        more: further folders, which come first.

    Raises:
        ConfigError: naming every folder that is not there.
    """
    given, rest = split_config_dirs(words)
    with searching([*more, *given, *found_here()]):
        yield rest


def found_here() -> list[Path]:
    """Return ``conf/`` of the current folder, if it is there and somebody's own."""
    folder = Path.cwd() / FOUND_HERE
    spec = importlib.util.find_spec(CONF_MODULE)
    # In a clone of the repository it is confide's own
    ours = {Path(path).resolve() for path in (spec and spec.submodule_search_locations) or ()}
    if not folder.is_dir() or folder.resolve() in ours:
        return []
    return [folder] if os.access(folder, os.R_OK | os.X_OK) else []


def split_config_dirs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take ``--config-dir DIR``, ``-cd DIR`` and ``hydra.searchpath=[...]`` out of a command line.

    Returns:
        The folders, in the order given, and the rest.

    Raises:
        ConfigError: if a flag has no folder.

    >>> split_config_dirs(["a=1", "-cd", "mine", "--config-dir=theirs"])
    (['mine', 'theirs'], ['a=1'])
    """
    folders: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        flag, equals, value = word.partition("=")
        if flag in _FLAGS:
            value = value if equals else next(left, "")
            if not value:
                raise ConfigError(f"{flag}: expected a folder of configs.")
            folders.append(value)
        elif flag.lstrip("+") == _SEARCH_PATH:
            folders += _listed(word)
        else:
            rest.append(word)
    return folders, rest


def as_search_path(words: Sequence[str]) -> list[str]:
    """Turn a command line's folders of own configs into one override of Hydra's.

    For what is composed in a folder of its own, such as a kit, whose files come first.

    Raises:
        ConfigError: naming every folder that is not there.
    """
    given, rest = split_config_dirs(words)
    with searching([*given, *found_here()]) as search:
        listed = ",".join(
            "'{}'".format(str(folder).replace("\\", r"\\").replace("'", r"\'"))
            for folder in search.folders
        )
    return [*rest, *([f"{_SEARCH_PATH}=[{listed}]"] if listed else [])]


def _listed(word: str) -> list[str]:
    """Read the value of ``hydra.searchpath``."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        value = OverridesParser.create().parse_override(word).value()
        folders = OmegaConf.to_container(OmegaConf.create({"folders": value}), resolve=True)
        assert isinstance(folders, dict)
        listed = folders["folders"]
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{word}: {str(error).splitlines()[0]}") from None
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise ConfigError(f"{word}: expected a list of folders, [DIR,pkg://PACKAGE].")
    return listed


def _place(folder: str) -> Path:
    """Return the absolute path of a folder of configs."""
    if folder.startswith("pkg://"):
        name = folder.removeprefix("pkg://").strip("/").replace("/", ".")
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        places = list((spec and spec.submodule_search_locations) or ())
        if not places:
            raise ConfigError(f"{folder}: there is no installed package {name}.")
        return Path(places[0]).resolve()
    path = Path(os.path.abspath(Path(folder.removeprefix("file://")).expanduser()))
    if not path.is_dir():
        what = "is a file" if path.exists() else "is not there"
        raise ConfigError(f"--config-dir={folder}: {path} {what}; name a folder of configs.")
    return path


def shown(path: Path) -> str:
    """Return a path as a person would type it: relative to the current folder if it is inside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


__all__ = [
    "CONFIG_DIR_HELP",
    "CONF_MODULE",
    "FOUND_HERE",
    "Keys",
    "Search",
    "as_search_path",
    "composing_without",
    "current",
    "found_here",
    "own_configs",
    "searching",
    "shown",
    "split_config_dirs",
]
