"""``confide doctor``: checks a kit, of either kind, and this machine before anything is started."""

from collections.abc import Sequence

from confide.config.composing.folders import split_config_dirs
from confide.deployment.either_kit import kit_and_overrides, module_of
from confide.errors import ConfigError

_HELP = """Check a kit and this machine, and explain how to fix what is wrong.

usage: confide doctor [KIT] [--json] [--config-dir DIR] [OVERRIDES ...]

KIT is an institution's kit (it holds client.yaml) or the coordinator's (federation.json); the
current folder if left out. OVERRIDES change client.yaml, as with `confide client`. Nothing is
trained, spent or sent. Run it as the user who runs the kit. --config-dir DIR (-cd) adds a folder of
your own configs, from which client.yaml or an override takes files: +policy=mine is
DIR/policy/mine.yaml; conf/ in the current folder is found by itself.

--json prints the same as JSON.
Exit status: 0 ready, with or without warnings; 1 something is wrong; 2 the command is wrong."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide doctor``.

    Args:
        argv: words after ``doctor``.

    Returns:
        Exit status.

    Raises:
        ConfigError: if the command is wrong.
    """
    if {"-h", "--help", "help"} & set(argv):
        print(_HELP)
        return 0
    given, words = split_config_dirs(argv)
    flags = {word for word in words if word.startswith("-")}
    folders = [word for word in words if word not in flags and "=" not in word]
    if flags - {"--json"} or len(folders) > 1:
        raise ConfigError(
            "confide doctor: expected [KIT] [--json] [OVERRIDES ...], got"
            f" {' '.join([*sorted(flags), *folders])}."
        )
    overrides = [word for word in words if "=" in word]
    folder, overrides, side = kit_and_overrides(folders, overrides, given)
    status: int = module_of(side, "commands.doctor").examine(
        folder, overrides, as_json="--json" in flags
    )
    return status


__all__ = ["main"]
