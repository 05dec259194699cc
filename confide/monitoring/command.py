"""``confide dashboard``: shows one side's state to this machine, from files alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from confide.config.composing.folders import split_config_dirs
from confide.deployment.either_kit import kit_and_overrides, module_of
from confide.deployment.logs import log_to_stderr
from confide.errors import ConfigError
from confide.monitoring.address import DEFAULT
from confide.monitoring.serve import serve

_HELP = f"""Show a side's state on this machine: a page, /metrics, /health and /ready.

usage: confide dashboard [KIT] [--listen ADDRESS] [OVERRIDES ...]

KIT is an institution's kit (it holds client.yaml) or the coordinator's (federation.json); the
current folder if left out. ADDRESS is 127.0.0.1:PORT, [::1]:PORT or unix:/PATH, a socket that this
user alone may use; {DEFAULT} if left out. OVERRIDES change client.yaml, as with `confide client`.

Only files are read, nothing can be changed, and nothing else has to run. Run it as the user who
runs the kit; with three users, as the trainer's. Over loopback the page is for that user alone;
every user of this machine can read the rest. --config-dir DIR is as with `confide client`."""


def main(argv: Sequence[str]) -> int:
    """Run ``confide dashboard`` until it is told to end.

    Args:
        argv: words after ``dashboard``.

    Returns:
        Exit status.

    Raises:
        ConfigError: if the command is wrong.
    """
    if {"-h", "--help", "help"} & set(argv):
        print(_HELP)
        return 0
    given, words = split_config_dirs(argv)
    parser = argparse.ArgumentParser(prog="confide dashboard", add_help=False, exit_on_error=False)
    parser.add_argument("--listen", default=DEFAULT)
    parser.add_argument("--with-parent", action="store_true")
    parser.add_argument("words", nargs="*")
    try:
        arguments, unknown = parser.parse_known_intermixed_args(words)
    except argparse.ArgumentError as error:
        raise ConfigError(f"confide dashboard: {error}.") from None
    overrides = [word for word in arguments.words if "=" in word and not Path(word).is_dir()]
    folders = [word for word in arguments.words if word not in overrides]
    if unknown or len(folders) > 1:
        raise ConfigError(
            "confide dashboard: expected [KIT] [--listen ADDRESS] [OVERRIDES ...], got"
            f" {' '.join([*unknown, *folders])}."
        )
    folder, overrides, side = kit_and_overrides(folders, overrides, given)
    log_to_stderr()
    app = module_of(side, "monitoring.site").make(folder, overrides)
    serve(app, arguments.listen, with_parent=arguments.with_parent)
    return 0


__all__ = ["main"]
