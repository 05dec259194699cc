"""``confide doctor``: a preflight of a kit; which kind it is, the folder says."""

import importlib
from collections.abc import Sequence
from pathlib import Path

from confide.errors import ConfigError

_KINDS = {
    "client.yaml": "confide.client.commands.doctor",
    "federation.json": "confide.server.commands.doctor",
}

_HELP = """Say what is wrong with a kit, or with this machine, and how to fix it.

usage: confide doctor [KIT] [--json] [OVERRIDES ...]

KIT is an institution's kit (it holds client.yaml) or the coordinator's (federation.json); this
folder if left out. OVERRIDES change client.yaml, as with `confide client`. Nothing is trained,
spent or sent. Run it as the user who runs the kit.
--json prints the same as JSON. Exit status: 0 ready, warnings or not; 1 something is wrong; 2 the command is."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide doctor``.

    Args:
        argv: the words after ``doctor``.

    Returns:
        The exit status.

    Raises:
        ConfigError: if the command is wrong.
    """
    if {"-h", "--help", "help"} & set(argv):
        print(_HELP)
        return 0
    flags = {word for word in argv if word.startswith("-")}
    folders = [word for word in argv if word not in flags and "=" not in word]
    if flags - {"--json"} or len(folders) > 1:
        raise ConfigError(
            "confide doctor: expected [KIT] [--json] [OVERRIDES ...], got"
            f" {' '.join([*sorted(flags), *folders])}."
        )
    folder = Path(*folders).expanduser().resolve()
    kinds = [module for file, module in _KINDS.items() if (folder / file).is_file()]
    if len(kinds) != 1:
        there = "both" if kinds else "neither"
        raise ConfigError(
            f"{folder} holds {there} of {' and '.join(_KINDS)}; name a kit, as `confide provision`"
            " makes it."
        )
    overrides = [word for word in argv if "=" in word]
    status: int = importlib.import_module(kinds[0]).examine(
        folder, overrides, as_json="--json" in flags
    )
    return status


__all__ = ["main"]
