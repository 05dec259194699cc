"""Folders of new runs and sweeps: nobody else's, and nothing finished in them."""

import datetime
import itertools
from pathlib import Path

from confide.errors import ConfigError, StorageError
from confide.server.run_folder import COMMAND, STATISTICS, finished


def new_folder(first: Path) -> Path:
    """Make a folder that nobody else has: another process may begin within the same second.

    Args:
        first: its path; with -2, -3 and so on behind it if it is there.

    Raises:
        StorageError: if it cannot be made.
    """
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageError(f"{folder} cannot be made: {error}; name another.") from None
        return folder
    raise AssertionError("itertools.count ends")


def new_run_folder() -> Path:
    """Make the folder of a run for which none is named: ``runs/DATE/TIME``."""
    now = datetime.datetime.now()
    return new_folder(Path("runs").resolve() / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}")


def refuse_finished(run_dir: Path, *, fix: str) -> None:
    """Check that a new run would not overwrite a finished one.

    Args:
        run_dir: folder of the new run.
        fix: what to do about it.

    Raises:
        ConfigError: if it holds a finished run.
    """
    if (run_dir / STATISTICS).is_file():
        raise ConfigError(f"{run_dir} holds statistics, which would be lost. {fix}")
    summary = finished(run_dir)
    if summary is not None:
        raise ConfigError(
            f"{run_dir} holds a finished run (model {str(summary.get('model_sha256'))[:12]}), which"
            f" would be lost. {fix}"
        )


def refuse_jobs(sweep_dir: Path) -> None:
    """Check that a folder is free for a new sweep.

    Raises:
        ConfigError: if it holds runs.
    """
    jobs = sorted(path.parent.name for path in sweep_dir.rglob(COMMAND))
    if jobs or (sweep_dir / COMMAND).exists():
        held = f"holds {len(jobs)} jobs of a sweep" if jobs else "is the folder of a run"
        raise ConfigError(
            f"{sweep_dir} {held}, whose results would be mixed with new ones. Choose another"
            " hydra.sweep.dir, or say --overwrite."
        )


__all__ = ["new_folder", "new_run_folder", "refuse_finished", "refuse_jobs"]
