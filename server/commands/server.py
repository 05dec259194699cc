"""``confide server``: a coordinator runs a federation of real institutions."""

from collections.abc import Sequence

from omegaconf import DictConfig

from confide.server.deployment.start import is_kit, new_words, start
from confide.server.run.command_line import (
    INFORMATION_FLAGS,
    Resumption,
    resumed_words,
    run_configs,
    run_with_hydra,
    split_resume,
    tell_finished,
)


def main(argv: Sequence[str]) -> int:
    """Run ``confide server KIT [OVERRIDES]``, or go on with ``confide server --resume RUN``.

    Args:
        argv: coordinator's kit, overrides and Hydra's flags (``--help``, ``--cfg job``); beside
            ``--resume RUN`` also ``--without NAME``, for each institution that withdrew.

    Returns:
        Exit status.

    Raises:
        ConfigError: naming every mistake, before anything is started.
    """
    given, resumed = split_resume(argv)
    with run_configs(given, resumed) as words:
        return _main(words, resumed)


def _main(words: Sequence[str], resumed: Resumption | None) -> int:
    # A resumed run has the settings with which it began, its kit and job among them.
    if resumed is not None:
        words = resumed_words(resumed.run_dir, words, program="server")
        if tell_finished(resumed.run_dir):
            return 0
    elif INFORMATION_FLAGS & set(words):
        # Without the kit, whose folder Hydra would take for an override.
        words = ["hydra/help=server", *(word for word in words if not is_kit(word))]
    else:
        words = new_words(words)

    def run(composed: DictConfig) -> None:
        start(composed, resumed)

    run_with_hydra("server", words, run, resumed=resumed is not None)
    return 0


__all__ = ["main"]
