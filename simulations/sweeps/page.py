"""The page of a sweep, which compares its jobs and is written when the last one is done."""

import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from confide.errors import ConfideError, ConfigError
from confide.server.run_folder import REPORT, SUMMARY
from confide.simulations.sweeps.sweep import refused_jobs, sweep_runs

log = logging.getLogger(__name__)


def is_sweep(folder: Path) -> bool:
    """Say whether a folder holds the jobs of a sweep and is not itself a run."""
    return (
        not (folder / SUMMARY).exists()
        and next(folder.glob("**/.hydra/overrides.yaml"), None) is not None
    )


def write_sweep_page(folder: Path, page: Path | None = None) -> Path:
    """Write the page that compares a sweep's jobs.

    Args:
        folder: folder of the sweep (``hydra.sweep.dir``).
        page: path of the page; None for ``report.html`` in the folder.

    Returns:
        The page's path.

    Raises:
        ConfideError: if no job left a model, or the page cannot be written.
    """
    from confide.server.report.read import read_run
    from confide.server.report.write import write_comparison

    jobs = sweep_runs(folder)
    lost = [
        (f"{job.run_dir.relative_to(folder)}: {' '.join(job.overrides)}", job.status)
        for job in jobs
        if job.summary is None and job.status != "refused"
    ]
    lost += [(" ".join(one.overrides), " ".join(one.problems)) for one in refused_jobs(folder)]
    runs = [read_run(job.run_dir) for job in jobs if job.summary is not None]
    if not runs:
        raise ConfigError(f"{folder}: no job of this sweep ended with a model.")
    path = page or folder / REPORT
    write_comparison(runs, path, title=f"Sweep of {len(jobs)} jobs", failed=lost)
    return path


class SweepPage(Callback):
    """A callback of Hydra that writes the page after the last job of ``-m``."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the page; a failure is only a warning."""
        # The jobs have their results already, which a page that fails must not take away
        folder = Path(config.hydra.sweep.dir)
        try:
            print(f"Page of the sweep: {write_sweep_page(folder)}")
        except (ConfideError, OSError) as error:
            log.warning("The sweep's page is not written: %s", error)


__all__ = ["SweepPage", "is_sweep", "write_sweep_page"]
