"""References that an institution keeps in its kit's folder of state, one a model."""

from pathlib import Path

from confide.client.deployment.kit import InstitutionKit
from confide.client.drift.profile import SUFFIX, Profile, read_profile, write_profile
from confide.errors import ConfigError, UnreadableError
from confide.storage.files import make_private_folder

_OF_A_JOB = 2


def reference_path(kit: InstitutionKit, model_sha256: str) -> Path:
    """Return where a kit keeps the reference of a model."""
    return kit.own / "drift" / f"{model_sha256}{SUFFIX}"


def keep_reference(kit: InstitutionKit, profile: Profile) -> Path:
    """Keep a model's reference in the kit, readable by its owner alone; the oldest ones go.

    Of one job those of two models are kept, its own and the one that it is compared with: whoever
    has more scored drives out none of another job's.

    Returns:
        The file.

    Raises:
        StorageError: if it cannot be written.
    """
    path = reference_path(kit, profile.model_sha256)
    make_private_folder(path.parent)
    write_profile(path, profile)
    there = sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda it: it.stat().st_mtime_ns)
    others = [it for it in there if it != path]
    own = [it for it in others if profile.job and _job_of(it) == profile.job]
    gone = own[: len(own) - _OF_A_JOB + 1] if len(own) >= _OF_A_JOB else []
    left = [it for it in others if it not in gone]
    gone += left[: max(0, len(left) + 1 - max(kit.config.drift_references, 1))]
    for old in gone:
        old.unlink(missing_ok=True)
    return path


def _job_of(path: Path) -> str | None:
    try:
        return read_profile(path).job
    except UnreadableError:
        return None


def kept_reference(kit: InstitutionKit, model_sha256: str) -> Profile:
    """Return the reference that a kit keeps of a model.

    Raises:
        ConfigError: if it keeps none.
        UnreadableError: if it is damaged.
    """
    path = reference_path(kit, model_sha256)
    if not path.is_file():
        raise ConfigError(
            f"--kit {kit.folder}: no reference of model {model_sha256[:12]} is kept there; name"
            " records like those at training, with --reference RECORDS, and it is kept."
        )
    return read_profile(path)


__all__ = ["keep_reference", "kept_reference", "reference_path"]
