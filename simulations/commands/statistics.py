"""``confide statistics``: figures of the columns, of a simulation or of real institutions."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from confide.config.composing.compose import to_config
from confide.config.composing.folders import searching
from confide.config.custom import look_in_current_folder
from confide.config.run import Config
from confide.errors import ConfideError, ConfigError
from confide.server.deployment.start import is_kit, new_words, start
from confide.server.run.command_line import (
    ASKED_ANEW,
    INFORMATION_FLAGS,
    MULTIRUN,
    log_unforeseen,
    print_reason,
    run_configs,
    run_with_hydra,
    searched_by_hydra,
    split_resume,
    status_of,
)
from confide.server.run_folder import Command, claimed, keep_own_files
from confide.simulations.engines.preload import prepare_workers

_PROGRAM = "statistics"


def main(argv: Sequence[str]) -> int:
    """Run ``confide statistics [OVERRIDES]``, or ``confide statistics KIT [OVERRIDES]``.

    Args:
        argv: overrides and Hydra's flags (``--help``, ``--cfg job``), and the coordinator's kit
            where real institutions are asked.

    Returns:
        Exit status.

    Raises:
        ConfigError: naming every mistake, before anything is started.
    """
    given, resumed = split_resume(argv)
    if resumed is not None:
        raise ConfigError(f"resume={resumed.run_dir}: {ASKED_ANEW}")
    with run_configs(given, None) as words:
        if MULTIRUN & set(words):
            raise ConfigError(
                "confide statistics: a sweep would spend every institution's budget many times; ask"
                " for statistics once."
            )
        deployed = any(map(is_kit, words))
        if INFORMATION_FLAGS & set(words):
            words = ["hydra/help=statistics", *(word for word in words if not is_kit(word))]
        elif deployed:
            words = new_words(words, program=_PROGRAM)

        def run(composed: DictConfig) -> None:
            if deployed:
                start(composed, None, program=_PROGRAM)
            else:
                _run(composed)

        run_with_hydra(_PROGRAM, words, run)
    return 0


def _run(composed: DictConfig) -> None:
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        _simulate(to_config(composed), run_dir)
    except (ConfideError, KeyboardInterrupt) as error:
        _end(error, run_dir)
    except Exception as error:
        _end(log_unforeseen(error), run_dir)


def _end(error: ConfideError | KeyboardInterrupt, run_dir: Path) -> NoReturn:
    print_reason(_PROGRAM, error, run_dir)
    sys.exit(status_of(error))


def _simulate(config: Config, run_dir: Path) -> dict[str, Any]:
    # Not resolved: ${oc.env:NAME} may be a password, and the command is written to disk
    words = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(words, list)
    overrides = [str(word) for word in words]
    command = Command(overrides=overrides, cwd=os.getcwd(), program=_PROGRAM)
    with claimed(run_dir, config, resume=False, command=command):
        with searching(searched_by_hydra()):
            keep_own_files(run_dir, overrides)
        look_in_current_folder(config.custom_parts)
        if config.simulation.engine == "process":
            prepare_workers()
        # Imported once the config is known to be right and is on disk: torch takes seconds
        from confide.server.progress.make import make_progress
        from confide.server.statistics.told import show_statistics
        from confide.simulations.statistics import ask_statistics

        progress = make_progress(config.server.progress, config.task.primary_metric)
        found = ask_statistics(config, run_dir, progress=progress)
    if config.server.progress == "json":
        print(json.dumps({"event": "statistics", **found}))
    else:
        show_statistics(found, run_dir)
    return found


__all__ = ["main"]
