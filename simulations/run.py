"""A whole simulation: records, federation, baselines, and what it leaves in RUN."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confide.config.run import Config
from confide.server.run.progress_view import ProgressView
from confide.server.run.run import carry_out, open_run
from confide.server.run.withdrawal import withdraw
from confide.server.run_folder import claimed, keep_own_files
from confide.simulations.accounts.ledgers import job_name
from confide.simulations.preparing import prepare


def simulate(
    config: Config,
    run_dir: Path,
    *,
    progress: ProgressView,
    resume: bool = False,
    without: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a federation on this machine, or go on with one that was stopped.

    Args:
        config: the checked config.
        run_dir: RUN, made if need be.
        progress: shown to whoever watches.
        resume: whether RUN holds a run, with the same config, that is to go on.
        without: names of institutions that withdraw from the run that goes on.
        overrides: what the config was composed from, for the own files among it.

    Returns:
        The summary, as in ``RUN/summary.json``.

    Raises:
        ConfideError: if the records, the backbone or the privacy asked for do not allow it, too few
            institutions answer, or RUN cannot be written or belongs to another run.
    """
    with claimed(run_dir, config, resume=resume):
        keep_own_files(run_dir, overrides)
        withdraw(run_dir, without, least=config.server.min_clients)
        return simulate_in(config, run_dir, progress=progress)


def simulate_in(config: Config, run_dir: Path, *, progress: ProgressView) -> dict[str, Any]:
    """Run in a folder that this process holds already, from its last checkpoint if it has one.

    See :func:`simulate`.
    """
    run = open_run(config, run_dir, progress=progress, job_fn=job_name)
    return carry_out(run, prepare)


__all__ = ["simulate", "simulate_in"]
