"""What an institution's kit keeps of jobs: their last plans, and which its people stopped."""

import logging
from pathlib import Path

from confide.client.deployment.kit import InstitutionKit
from confide.errors import ConfideError
from confide.storage.files import folder_name, make_private_folder, write_text

log = logging.getLogger(__name__)

_MOST_PLANS = 100


def is_stopped(kit: InstitutionKit, job: str) -> bool:
    """Return whether the institution's people stopped a job."""
    return stop_mark(kit, job).exists()


def stop_mark(kit: InstitutionKit, job: str) -> Path:
    """Return the file whose existence marks a job as stopped."""
    return kit.own / "stopped" / folder_name(job)


def plan_path(kit: InstitutionKit, job: str) -> Path:
    """Return the file of a job's last plan."""
    return kit.own / "plans" / f"{folder_name(job)}.json"


def keep_plan(kit: InstitutionKit, job: str, text: str) -> None:
    """Keep the last plans, for ``confide client approve`` and for people to read."""
    path = plan_path(kit, job)
    folder = path.parent
    try:
        if path.exists() and path.read_text() == text:
            return
        make_private_folder(folder)
        others = sorted(
            (kept for kept in folder.glob("*.json") if kept != path),
            key=lambda kept: kept.stat().st_mtime,
        )
        for old in others[: max(0, len(others) - _MOST_PLANS + 1)]:
            old.unlink(missing_ok=True)
        write_text(path, text, mode=0o600)
    # Not worth failing a request for: the plan is only to be read.
    except (OSError, ConfideError) as error:
        log.warning("The plan of job %s could not be kept: %s", job, error)


__all__ = ["is_stopped", "keep_plan", "plan_path", "stop_mark"]
