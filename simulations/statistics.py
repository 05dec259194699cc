"""Statistics of a federation on this machine."""

from pathlib import Path
from typing import Any

from confide.config.run import Config
from confide.server.report.write import write_statistics
from confide.server.run.progress_view import ProgressView
from confide.server.run.run import open_run
from confide.server.statistics.gather import gather
from confide.simulations.accounts.ledgers import job_name
from confide.simulations.preparing import prepare


def ask_statistics(config: Config, run_dir: Path, *, progress: ProgressView) -> dict[str, Any]:
    """Ask a simulation's institutions for statistics, and write what they say and its page.

    Args:
        config: the checked config.
        run_dir: RUN, which this process holds.
        progress: shown to whoever watches.

    Returns:
        What ``RUN/statistics.json`` holds.

    Raises:
        ConfideError: if the records or the privacy asked for do not allow it, too few institutions
            answer, or RUN cannot be written.
    """
    found = gather(open_run(config, run_dir, progress=progress, job_fn=job_name), prepare)
    write_statistics(run_dir)
    return found


__all__ = ["ask_statistics"]
