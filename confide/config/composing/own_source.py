"""Own configs as Hydra reads them: a source of configs that knows confide's schemas.

An own file wins over confide's of the same name; only ``config.yaml``, the table of contents, is
always confide's. A task, backbone or tuning without a defaults list gets the schema of its
``kind``, and a task that of its outcome's.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from confide.config.composing.choices import schema_name
from confide.config.composing.folders import CONF_MODULE, Keys, current, shown
from confide.config.models.table import BACKBONES
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.outcomes.table import OUTCOMES
from confide.config.tasks.table import TASKS
from confide.config.tunings.table import TUNINGS

SCHEME = "own"
KINDS: dict[str, Mapping[str, Any]] = {
    "task": TASKS,
    "backbone": BACKBONES,
    "tuning": TUNINGS,
}
"""Groups whose files have the schema of their ``kind``."""
_PRIMARY = ("config", "config.yaml")
_PACKAGE = re.compile(r"#\s*@package\s+(\S+)")


class OwnSource(FileConfigSource):
    """A folder of own configs."""

    @staticmethod
    def scheme() -> str:
        """Return what begins its paths."""
        return SCHEME

    def is_config(self, config_path: str) -> bool:
        """Say whether there is such a file; a table of contents is none."""
        return config_path not in _PRIMARY and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List choices, or groups; a folder that this user may not read has none."""
        try:
            return super().list(config_path, results_filter)
        except OSError:
            return []

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file.

        Raises:
            ConfigCompositionException: with file and line, if it is not a mapping in YAML, or does
                not name its kind.
        """
        file = Path(self.path) / self._normalize_file_name(config_path)
        search = current()
        search.loaded[config_path.removesuffix(".yaml")] = file
        group = config_path.rpartition("/")[0]
        raw: dict[Any, Any] = {}
        try:
            raw = parse(file)
            problem = kind_problem(group, raw) if search.schemas else None
            if problem:
                raise ConfigCompositionException(f"{shown(file)}: {problem}")
        except ConfigCompositionException:
            if search.left_out is None:
                raise
        schema, outcome = schema_of(group, raw) if search.schemas else None, outcome_of(raw)
        if search.left_out is not None:
            raw = {
                key: _kept(value, file, (str(key),))
                for key, value in raw.items()
                if key == "defaults" or not search.left_out(file, (str(key),))
            }
        if schema is not None:
            parts = [{"outcome": outcome}] if group == "task" else []
            raw = {"defaults": [schema_name(schema), *parts, "_self_"], **raw}
        return ConfigResult(
            config=OmegaConf.create(raw),
            path=self.full_path(),
            provider=self.provider,
            header=_header(file, group),
        )


def parse(file: Path) -> dict[Any, Any]:
    """Read a file of keys and values.

    Raises:
        ConfigCompositionException: with file and line, if it is anything else.
    """
    try:
        config = OmegaConf.create(file.read_text(encoding="utf-8-sig"))
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        why = error.problem or error.context
        raise ConfigCompositionException(f"{shown(file)}{line}: is not YAML: {why}.") from None
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ConfigCompositionException(
            f"{shown(file)}:{number}: is not UTF-8; save the file as UTF-8."
        ) from None
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        why = str(error).strip().splitlines()[0].rstrip(".")
        raise ConfigCompositionException(f"{shown(file)}: cannot be read: {why}.") from None
    raw = OmegaConf.to_container(config, resolve=False)
    if not isinstance(raw, dict):
        raise ConfigCompositionException(
            f"{shown(file)}: expected keys and values, got a {type(raw).__name__}."
        )
    return raw


def kind_problem(group: str, raw: Mapping[Any, Any]) -> str | None:
    """Say what is wrong with the kind of an own file that has no defaults list."""
    if group not in KINDS or "defaults" in raw:
        return None
    if raw.get("kind") in KINDS[group]:
        return _outcome_problem(raw) if group == "task" else None
    known = ", ".join(KINDS[group])
    if "kind" not in raw:
        return f"kind is not set; expected one of {known}, or a defaults list."
    return f"{group}.kind={raw['kind']}: expected one of {known}."


def _outcome_problem(raw: Mapping[Any, Any]) -> str | None:
    """Say what is wrong with the kind of an own task's outcome."""
    said = raw.get("outcome", {"kind": _usual_outcome(raw)})
    if isinstance(said, dict) and "kind" not in said and _usual_outcome(raw) != DEFAULT_OUTCOME:
        return None  # there is no other
    kind = said.get("kind") if isinstance(said, dict) else said
    if isinstance(said, dict) and kind in OUTCOMES:
        return None
    known = ", ".join(OUTCOMES)
    if isinstance(said, dict) and "kind" not in said:
        return f"outcome.kind is not set; expected one of {known}."
    return f"outcome.kind={kind}: expected one of {known}."


def outcome_of(raw: Mapping[Any, Any]) -> str:
    """Name the outcome whose settings a task's file may hold."""
    said = raw.get("outcome")
    kind = said.get("kind", _usual_outcome(raw)) if isinstance(said, dict) else None
    return str(kind) if kind in OUTCOMES else _usual_outcome(raw)


def _usual_outcome(raw: Mapping[Any, Any]) -> str:
    """Name the outcome of a task's file that names none."""
    kind = raw.get("kind")
    return TASKS[kind].outcomes[0] if kind in TASKS else DEFAULT_OUTCOME


def schema_of(group: str, raw: Mapping[Any, Any]) -> str | None:
    """Name the kind whose schema a file gets; None if it needs none.

    Without a kind that is known, the one that most of its keys belong to.
    """
    if group not in KINDS or "defaults" in raw:
        return None
    kinds = KINDS[group]
    if raw.get("kind") in kinds:
        return str(raw["kind"])
    return max(kinds, key=lambda name: len({f.name for f in fields(kinds[name].schema)} & set(raw)))


def _kept(value: Any, file: Path, keys: Keys) -> Any:
    """Return a value without those inside it that are left out."""
    left_out = current().left_out
    assert left_out is not None
    if not isinstance(value, dict):
        return value
    return {
        key: _kept(inner, file, (*keys, str(key)))
        for key, inner in value.items()
        if not left_out(file, (*keys, str(key)))
    }


def _header(file: Path, group: str) -> dict[str, str | None]:
    # Hydra's own reading stops at the first comment that is no directive, and fails on "# @me"
    top = itertools.takewhile(
        lambda line: not line or line.startswith("#"), map(str.strip, _lines(file))
    )
    found = [match[1] for match in map(_PACKAGE.fullmatch, top) if match]
    # An experiment sets several groups; without this it would set one that is called experiment
    return {"package": found[0] if found else "_global_" if group == "experiment" else None}


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError):
        return []


class OwnSearchPath(SearchPathPlugin):
    """Puts the folders that are searched now before confide's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add them; what is composed in another folder, such as a kit, comes before them."""
        ours = SearchPathQuery(provider="main", path=f"pkg://{CONF_MODULE}")
        is_ours = any(element.path == ours.path for element in search_path.get_path())
        put = functools.partial(search_path.prepend, anchor=ours) if is_ours else search_path.append
        for folder in current().folders:
            put(provider=SCHEME, path=f"{SCHEME}://{folder}")


def register_source() -> None:
    """Tell Hydra of own configs."""
    plugins = Plugins.instance()
    for plugin in (OwnSource, OwnSearchPath):
        plugins.register(plugin)


__all__ = ["KINDS", "SCHEME", "kind_problem", "parse", "register_source", "schema_of"]
