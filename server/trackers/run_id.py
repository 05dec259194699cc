"""Keeps a tracker's id of a run with its checkpoints, so that a resumed run continues under it."""

from pathlib import Path

from confide.server.run_folder import CHECKPOINTS
from confide.storage.files import write_text


def kept_id(run_dir: Path, tracker: str) -> str | None:
    """Return the id that an earlier process of this run kept; None if there is none."""
    try:
        return _file(run_dir, tracker).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def keep_id(run_dir: Path, tracker: str, run_id: str) -> None:
    """Keep the id for later processes of this run."""
    path = _file(run_dir, tracker)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"{run_id}\n")


def _file(run_dir: Path, tracker: str) -> Path:
    return run_dir / CHECKPOINTS / f"{tracker}_run.txt"


__all__ = ["keep_id", "kept_id"]
