"""Own files against the schema: every mistake at once, each with file and line."""

import contextlib
import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, ListConfig, OmegaConf, StringNode, open_dict
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from confide.config.composing.folders import Keys, shown
from confide.config.composing.own_source import kind_problem, parse
from confide.security.redaction import HIDDEN, holds_password, names_secret, redact

_MASKED = f"{HIDDEN}: a password in a file is kept by RUN; write ${{oc.env:NAME}} for it"

_KEY = "\0key"

Sort = Literal["unknown", "unfit", "unwise"]


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """A file of somebody's own that a config was composed from.

    Attributes:
        path: the file.
        name: its config path, such as ``task/credit``.
        package: keys under which its values stand in the config; () for the whole config.
    """

    path: Path
    name: str
    package: Keys

    @property
    def group(self) -> str:
        """The group that it is a choice of."""
        return self.name.rpartition("/")[0]

    @property
    def defaults(self) -> list[str]:
        """The choices that its defaults list names."""
        try:
            listed = parse(self.path).get("defaults")
        except ConfigCompositionException:
            return []
        entries = listed if isinstance(listed, list) else []
        chosen = [entry.values() if isinstance(entry, dict) else [entry] for entry in entries]
        return [str(choice) for choices in chosen for choice in choices]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What is wrong with a value of an own file.

    Attributes:
        file: the file.
        keys: keys of the value in the file; () for the file as a whole.
        text: a sentence, without file and line.
        sort: unknown, of a key that is no setting; unfit, of a value that its setting does not
            take; unwise, of one that it does.
    """

    file: OwnFile
    keys: Keys
    text: str
    sort: Sort = "unfit"

    def __str__(self) -> str:
        return f"{place_of(self.file, self.keys)}: {self.text}" if self.keys else self.text

    def covers(self, problem: str) -> bool:
        """Say whether a problem of the config without this value follows from its absence."""
        setting = ".".join((*self.file.package, *self.keys))
        # Of a column whose minimum cannot be read, it does not help that minimum is not set
        around = setting.rpartition(".")[0] if len(self.keys) > 1 else setting
        follows = (f"{around}.", *(f"{setting}{sign}" for sign in "=: "))
        return self.sort == "unfit" and bool(setting) and problem.startswith(follows)


def place_of(file: OwnFile, keys: Keys) -> str:
    """Return FILE:LINE of a value, or of the nearest one around it."""
    lines = _lines(file.path)
    line = next((lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in lines), 1)
    return f"{shown(file.path)}:{line}"


def _lines(path: Path) -> dict[Keys, int]:
    """Return keys -> line, from 1."""
    found: dict[Keys, int] = {}

    def walk(node: yaml.Node | None, keys: Keys) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*keys, str(key.value))
                found.setdefault(inner, key.start_mark.line + 1)
                walk(value, inner)

    with contextlib.suppress(OSError, UnicodeError, yaml.YAMLError):
        walk(yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader), ())
    return found


def _written(path: Path) -> dict[Keys, str]:
    """Return keys -> word that stands there without quotes, positions in lists among the keys."""
    found: dict[Keys, str] = {}

    # Keys as YAML reads them, since that is how values are looked up: an unquoted no is False
    def read(node: yaml.ScalarNode) -> str:
        made = OmegaConf.create(f"[{node.value}]")
        return str(made[0]) if isinstance(made, ListConfig) and len(made) == 1 else str(node.value)

    def walk(node: yaml.Node, keys: Keys) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = key.value if key.style else read(key)
                if not key.style:
                    found[(*keys, name, _KEY)] = key.value
                walk(value, (*keys, name))
        elif isinstance(node, yaml.SequenceNode):
            for position, value in enumerate(node.value):
                walk(value, (*keys, str(position)))
        elif node.style is None:
            found[keys] = node.value

    with contextlib.suppress(OSError, UnicodeError, yaml.YAMLError, OmegaConfBaseException):
        top = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
        if top is not None:
            walk(top, ())
    return found


def find_mistakes(base: DictConfig, files: Iterable[OwnFile]) -> list[Mistake]:
    """Hold own files to the schema.

    Args:
        base: config composed without their values; it is changed.
        files: files in the order in which they are merged.
    """
    found: list[Mistake] = []
    for file in files:
        if file.package[:1] == ("hydra",):
            continue  # Hydra's own settings, whose schema it keeps itself
        try:
            raw = parse(file.path)
        except ConfigCompositionException as error:
            found.append(Mistake(file=file, keys=(), text=str(error)))
            continue
        values = {key: value for key, value in raw.items() if key not in ("defaults", "hydra")}
        problem = kind_problem(file.group, raw)
        if problem:
            keys = ("kind",) if "kind" in raw else ()
            text = problem if keys else f"{shown(file.path)}: {problem}"
            found.append(Mistake(file=file, keys=keys, text=text))
            values.pop("kind", None)
        node = _inside(base, file.package)
        if node is not None:
            found += _merge(node, values, file, (), _written(file.path))
    return found


def _inside(base: DictConfig, package: Keys) -> DictConfig | None:
    node: Any = base
    for key in package:
        node = node._get_node(key) if isinstance(node, DictConfig) else None
    return node if isinstance(node, DictConfig) else None


def _merge(
    node: DictConfig,
    values: Mapping[Any, Any],
    file: OwnFile,
    keys: Keys,
    written: Mapping[Keys, str],
) -> Iterator[Mistake]:
    """Set values one by one, and yield a mistake for each that cannot be."""
    mapping = node._metadata.object_type is dict
    for key, value in values.items():
        inner = (*keys, str(key))
        dotted = ".".join((*file.package, *inner))
        sort: Sort = "unfit"
        try:
            if isinstance(value, dict) and value and _is_mapping(node, key, mapping=mapping):
                child = node._get_node(key)
                assert isinstance(child, DictConfig)
                yield from _merge(child, value, file, inner, written)
                continue
            unwise = _read_otherwise(node._get_node(key), value, inner, written)
            secret = _secret(value, inner)
            with open_dict(node) if mapping else contextlib.nullcontext():
                node[key] = value
            if unwise is None and secret is None:
                continue
            sort = "unwise"
            text = f"{dotted}={secret}." if secret else f"{dotted}: {unwise}."
        except (ConfigKeyError, AttributeError):
            sort, text = "unknown", f"there is no setting {dotted}.{_guess(key, node, file, keys)}"
        except OmegaConfBaseException as error:
            otherwise = _read_otherwise(node._get_node(key), value, inner, written)
            numbers = (
                [str(one) for one in value if not isinstance(one, str)]
                if isinstance(value, dict)
                else []
            )
            if otherwise:
                text = f"{dotted}: {otherwise}."
            elif numbers:
                text = f'{dotted}: keys are texts; write {numbers[0]} in quotes: "{numbers[0]}".'
            else:
                text = f"{dotted}={value}: {str(error).strip().splitlines()[0].rstrip('.')}."
        yield Mistake(file=file, keys=inner, text=redact(text), sort=sort)


def _is_mapping(node: DictConfig, key: Any, *, mapping: bool) -> bool:
    """Say whether a setting holds settings of its own; a new element of a mapping is made."""
    if mapping and key not in node and dataclasses.is_dataclass(node._metadata.element_type):
        with open_dict(node):
            node[key] = node._metadata.element_type
    child = node._get_node(key)
    return isinstance(child, DictConfig) and not child._is_none() and not child._is_missing()


def _guess(key: Any, node: DictConfig, file: OwnFile, keys: Keys) -> str:
    close = difflib.get_close_matches(str(key), map(str, node), n=2, cutoff=0.6)
    where = (*file.package, *keys)
    names = [".".join((*where, name)) for name in close]
    return f" Did you mean {' or '.join(names)}?" if names else ""


def _read_otherwise(node: Any, value: Any, keys: Keys, written: Mapping[Keys, str]) -> str | None:
    """Say so where YAML reads a word as something else, such as ``no``, and a text is expected."""
    pairs: list[tuple[Keys, Any]] = []
    if isinstance(node, ListConfig) and isinstance(value, list):
        pairs = [((*keys, str(i)), one) for i, one in enumerate(value)]
        is_text = node._metadata.element_type is str
    elif isinstance(node, DictConfig) and isinstance(value, dict):
        pairs = [((*keys, str(key)), one) for key, one in value.items()]
        # A key's own spelling stands at its place with a mark behind it
        pairs += [((*keys, str(key), _KEY), key) for key in value]
        is_text = node._metadata.element_type is str
    else:
        pairs, is_text = [(keys, value)], isinstance(node, StringNode)
    wrong = {
        written[place]: str(one)
        for place, one in pairs
        # No text at all is something else than a text that is null in a list
        if (one is not None or place != keys)
        and not isinstance(one, str)
        and written.get(place, str(one)) != str(one)
    }
    if not is_text or not wrong:
        return None
    read = ", ".join(f"{word} as {one}" for word, one in wrong.items())
    return f'YAML reads {read}; write it in quotes: "{next(iter(wrong))}"'


def _secret(value: Any, keys: Keys) -> str | None:
    if not isinstance(value, str):
        return None
    named = "kwargs" in keys and names_secret(keys[-1]) and "${" not in value
    return _MASKED if named or holds_password(value) else None


def locate(problem: str, files: Sequence[OwnFile], overridden: Sequence[str]) -> str:
    """Put FILE:LINE before a problem that begins with a setting of an own file.

    Args:
        problem: a sentence that begins with a setting, as checks of ranges write it.
        files: own files in the order in which they are merged.
        overridden: settings that the command line sets, which are not the file's any more.
    """
    best: tuple[int, OwnFile, Keys] | None = None
    for file in files:
        for keys in _lines(file.path):
            setting = ".".join((*file.package, *keys))
            if problem.startswith(tuple(setting + sign for sign in "=:. ")) and (
                best is None or len(setting) >= best[0]
            ):
                best = len(setting), file, keys
    typed = max((len(key) for key in overridden if problem.startswith(key)), default=-1)
    if best is None or typed >= best[0]:
        return problem
    return f"{place_of(best[1], best[2])}: {problem}"


def in_file(
    path: Path, problem: str, *, name: str | None = None, overridden: Sequence[str] = ()
) -> str:
    """Put FILE:LINE before a problem of a file that is a config of its own, such as a policy.

    Args:
        path: the file, whose problem it is.
        problem: a sentence that begins with a setting; FILE alone is put before any other.
        name: what FILE is called; None for its path.
        overridden: settings that the command line sets.
    """
    located = locate(problem, [OwnFile(path=path, name=path.stem, package=())], overridden)
    place = located.removesuffix(problem).removeprefix(shown(path)) or ": "
    return f"{name or shown(path)}{place}{problem}"


__all__ = ["Mistake", "OwnFile", "find_mistakes", "in_file", "locate", "place_of"]
