"""``confide.simulate``: a federation on this machine, from Python.

Nothing is printed, no handler is added to any logger, nothing exits the process, and what belongs
to the process (torch's threads, generators of random numbers, Hydra's state) is left as it was.
Errors are raised.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from confide.config.composing.compose import compose, is_hydra
from confide.config.composing.folders import own_configs
from confide.config.composing.quoting import quote_texts
from confide.config.run import Config
from confide.errors import ConfigError, RunFailedError
from confide.server.new_folders import new_run_folder, refuse_finished
from confide.server.run_folder import (
    described,
    finished,
    kept_own_files,
    refuse_changes,
)
from confide.simulations.process_settings import quiet_imports, threads_kept, without_bars
from confide.simulations.result import Result, load_run

Progress = Literal["quiet", "plain"]
_ONE_AT_A_TIME = threading.RLock()
"""Of this process: torch's generator and number of threads, and Hydra's state, are its own."""


def simulate(
    overrides: Sequence[str] = (),
    *,
    config_dir: str | Path | Sequence[str | Path] = (),
    run_dir: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = "quiet",
) -> Result:
    """Run a federation on this machine; several threads that ask for it wait for each other.

    Args:
        overrides: as on the command line, such as ``["experiment=heart_disease",
            "strategy=fedadam"]``.
        config_dir: folder of own configs, or several; conf/ in the current folder is found by
            itself.
        run_dir: RUN, made if need be; ``runs/DATE/TIME`` when None.
        resume: whether RUN holds a run, with the same overrides, that is to go on; a finished one
            is returned as it is.
        overwrite: whether a finished run in RUN may be lost.
        progress: what is written to stderr: nothing (quiet), or a line a round (plain);
            ``server.progress`` is for commands.

    Returns:
        What it left.

    Raises:
        TypeError: if ``overrides`` is no sequence of strings.
        ConfideError: if the config is wrong (all mistakes at once), records or privacy do not allow
            it, or the run fails.
    """
    if isinstance(overrides, str) or not all(isinstance(word, str) for word in overrides):
        raise TypeError(
            f'Expected a sequence of overrides such as ["strategy=fedadam"]; got {overrides!r}.'
        )
    folders = [config_dir] if isinstance(config_dir, str | Path) else list(config_dir)
    if resume and run_dir is not None and (kept := kept_own_files(Path(run_dir).expanduser())):
        # The run brings what it began with: the folders may be gone, or say something else by now
        folders = [*kept, *(folder for folder in folders if Path(folder).is_dir())]
    with _ONE_AT_A_TIME, own_configs(overrides, more=folders) as rest:
        words = quote_texts(rest)
        config = _config(words, run_dir=run_dir, resume=resume)
        folder = new_run_folder() if run_dir is None else Path(run_dir).expanduser().resolve()
        if resume and finished(folder) is not None:
            refuse_changes(folder, described(config))
        else:
            if not overwrite:
                refuse_finished(folder, fix="resume=True returns it, overwrite=True starts anew.")
            _run(config, folder, words, resume=resume, progress=progress)
    return load_run(folder, custom_tasks=config.task.custom_tasks)


def _config(overrides: Sequence[str], *, run_dir: str | Path | None, resume: bool) -> Config:
    problems = [
        f"{word}: a setting of Hydra's command line; give run_dir=RUN instead."
        for word in overrides
        if is_hydra(word)
    ]
    if resume and run_dir is None:
        problems.append("resume=True: run_dir=None names no run; give run_dir=RUN.")
    if problems:
        raise ConfigError(problems)
    return compose(overrides)


def _run(
    config: Config, folder: Path, overrides: Sequence[str], *, resume: bool, progress: Progress
) -> None:
    if config.simulation.engine == "process":
        from confide.simulations.engines.preload import prepare_workers

        prepare_workers()  # first: they import while this process does
    with quiet_imports():
        from confide.server.progress.make import make_progress
        from confide.server.report.write import write_report_or_warn
        from confide.simulations.run import simulate as run
    with threads_kept(), without_bars():
        try:
            run(
                config,
                folder,
                progress=make_progress(progress, config.task.primary_metric),
                resume=resume,
                overrides=overrides,
            )
        except RunFailedError:
            write_report_or_warn(folder)
            raise
        write_report_or_warn(folder)


__all__ = ["Progress", "simulate"]
