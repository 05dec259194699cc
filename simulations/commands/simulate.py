"""``confide simulate``: Hydra's command line around :func:`confide.simulations.run.simulate`."""

import logging
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
from confide.errors import ConfideError, RunFailedError
from confide.server.run.command_line import (
    Resumption,
    log_unforeseen,
    print_reason,
    resumed_words,
    run_configs,
    run_with_hydra,
    searched_by_hydra,
    split_resume,
    status_of,
    tell_finished,
)
from confide.server.run_folder import (
    Command,
    claimed,
    keep_own_files,
)
from confide.simulations.engines.preload import prepare_workers
from confide.simulations.sweeps.command import is_sweep, run_sweep


def main(argv: Sequence[str]) -> int:
    """Run ``confide simulate`` with Hydra's own words, or ``confide simulate resume=RUN``.

    Args:
        argv: overrides and Hydra's flags (``--help``, ``--cfg job``, ``-m``); beside
            ``resume=RUN`` also ``--without NAME``, for each institution that withdrew.

    Returns:
        The exit status.

    Raises:
        ConfigError: naming every mistake, before anything heavy is imported.
    """
    _quieten_libraries()
    given, resumed = split_resume(argv)
    with run_configs(given, resumed) as words:
        return _main(words, resumed)


def _main(words: Sequence[str], resumed: Resumption | None) -> int:
    if resumed is not None:
        words = resumed_words(resumed.run_dir, words, program="simulate")
        if tell_finished(resumed.run_dir):
            return 0

    if is_sweep(words):
        return run_sweep(words, _sweep_job)

    def run(composed: DictConfig) -> None:
        _run(composed, resumed)

    run_with_hydra("simulate", words, run, resumed=resumed is not None)
    return 0


def _run(composed: DictConfig, resumed: Resumption | None) -> None:
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        _simulate(to_config(composed), run_dir, resumed)
    except (ConfideError, KeyboardInterrupt) as error:
        _end(error, run_dir)
    except Exception as error:
        _end(log_unforeseen(error), run_dir)


def _end(error: ConfideError | KeyboardInterrupt, run_dir: Path) -> NoReturn:
    print_reason("simulate", error, run_dir)
    sys.exit(status_of(error))  # Hydra hands no value on that its function returns


def _sweep_job(composed: DictConfig, silent: bool) -> float | None:
    """Run one job of a sweep, perhaps in a separate process; return the value to choose by."""
    _quieten_libraries()
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        summary = _simulate(to_config(composed), run_dir, silent=silent)
    except ConfideError as error:
        print_reason("simulate", error, run_dir)
        return None
    value: float | None = summary["federated_validation"].get(summary["primary_metric"])
    return value


def _quieten_libraries() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    # Our own progress view says more than the libraries' bars
    os.environ.setdefault("TQDM_DISABLE", "1")
    # On a full disk logging would print a traceback for each line that it cannot write
    logging.raiseExceptions = False


def _simulate(
    config: Config, run_dir: Path, resumed: Resumption | None = None, *, silent: bool = False
) -> dict[str, Any]:
    # Not resolved: ${oc.env:NAME} may be a password, and the command is written to disk
    words = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(words, list)
    command = Command(overrides=[str(word) for word in words], cwd=os.getcwd())
    with claimed(run_dir, config, resume=resumed is not None, command=command):
        with searching(searched_by_hydra()):  # a job of a sweep may run in another process
            keep_own_files(run_dir, command.overrides)
        look_in_current_folder(config.custom_parts)
        if config.simulation.engine == "process":
            prepare_workers()
        # Imported once the config is known to be right and is on disk: torch, transformers and
        # Opacus take seconds.
        from confide.server.progress.make import make_progress
        from confide.server.report.write import write_report_or_warn
        from confide.server.run.withdrawal import withdraw
        from confide.simulations.run import simulate_in

        withdraw(run_dir, resumed.without if resumed else (), least=config.server.min_clients)
        progress = make_progress(
            "quiet" if silent else config.server.progress, config.task.primary_metric
        )
        try:
            summary = simulate_in(config, run_dir, progress=progress)
        except (ConfideError, KeyboardInterrupt) as error:
            progress.failed(_message(error))
            if isinstance(error, RunFailedError):
                write_report_or_warn(run_dir)
            raise
        write_report_or_warn(run_dir)
    progress.finished(summary, run_dir)
    return summary


def _message(error: ConfideError | KeyboardInterrupt) -> str:
    return "interrupted." if isinstance(error, KeyboardInterrupt) else str(error)


__all__ = ["main"]
