"""A kit of either side, as commands that serve both are given it."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from confide.config.composing.folders import as_search_path
from confide.errors import ConfigError

_FILES = {"client.yaml": "client", "federation.json": "server"}


def kit_and_overrides(
    folders: Sequence[str], overrides: Sequence[str], config_dirs: Sequence[str]
) -> tuple[Path, list[str], str]:
    """Find the kit that a command is for, and what it is composed with.

    A coordinator's kit is composed from no other files, so that ``conf/`` in the current folder is
    nothing to it.

    Args:
        folders: the kit's folder, or nothing for the current one.
        overrides: changes of ``client.yaml``.
        config_dirs: folders of own configs that the command line names.

    Returns:
        The folder; the overrides, folders of own configs among them; and client or server.

    Raises:
        ConfigError: if it is no kit, or a folder of own configs is named that it has no use for.
    """
    folder = Path(*folders).expanduser().resolve()
    sides = [side for file, side in _FILES.items() if (folder / file).is_file()]
    if len(sides) != 1:
        count = "both" if sides else "neither"
        raise ConfigError(
            f"{folder} holds {count} of {' and '.join(_FILES)}; name a kit that `confide provision`"
            " made."
        )
    if sides == ["client"]:
        configs = [f"--config-dir={name}" for name in config_dirs]
        return folder, as_search_path([*configs, *overrides]), "client"
    if config_dirs:
        raise ConfigError("--config-dir: a coordinator's kit is composed from no other files.")
    return folder, list(overrides), "server"


def module_of(side: str, name: str) -> ModuleType:
    """Import a module of one side by name, since this floor is below both and may import neither.

    Args:
        side: client or server.
        name: of the module inside that side.
    """
    return importlib.import_module(f"confide.{side}.{name}")


__all__ = ["kit_and_overrides", "module_of"]
