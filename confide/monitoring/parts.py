"""What both sides' snapshots are made of: processes, certificates, disks, what could not be read.

A snapshot is made from files alone, which other processes write meanwhile, or which are another
user's. So each part may be unknown, and none of them ever raises.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from confide.deployment.checks import Finding, ok, validity
from confide.deployment.lifetime import processes, starts
from confide.errors import ConfideError
from confide.monitoring.samples import Sample
from confide.security.server_chain import first_to_end

ProcessState = Literal["up", "down", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process that a side keeps running.

    Attributes:
        name: its name.
        state: up, down, or unknown where its files are another user's.
        pid: process id while it is up.
        starts: number of its starts since the kit was first run; None if unknown.
    """

    name: str
    state: ProcessState
    pid: int | None = None
    starts: int | None = None


@dataclass(frozen=True, kw_only=True)
class CertificateSeen:
    """One certificate of a kit.

    Attributes:
        file: name of its file.
        expires: time at which it ends, in seconds since 1970; None if it cannot be read.
        finding: how long it is valid, or why it cannot be read, with what to do.
    """

    file: str
    expires: float | None
    finding: Finding


@dataclass(frozen=True, kw_only=True)
class DiskSeen:
    """The disk that a folder lies on.

    Attributes:
        name: what the folder is for.
        folder: the folder, or the nearest one above it that exists.
        free: bytes that this user may still write.
        size: bytes that there are at all.
    """

    name: str
    folder: Path
    free: int
    size: int


def processes_in(folders: Sequence[Path], names: Sequence[str]) -> tuple[Process, ...]:
    """Look for processes by the files that their supervisors keep.

    Args:
        folders: folders of supervisors; of those that name a process, the last one counts.
        names: processes to look for.
    """
    running: dict[str, int] = {}
    begun: dict[str, int] = {}
    is_hidden = False
    for folder in folders:
        # Another user's folder: whether something runs there is not known
        if _is_there(folder) and not os.access(folder, os.R_OK | os.X_OK):
            is_hidden = True
        running |= processes(folder)
        for name, count in starts(folder).items():
            begun[name] = begun.get(name, 0) + count
    return tuple(
        Process(
            name=name,
            state="up" if name in running else "unknown" if is_hidden else "down",
            pid=running.get(name),
            starts=None if is_hidden and name not in begun else begun.get(name, 0),
        )
        for name in names
    )


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:  # a folder above it may not be entered
        return True


def certificates_in(paths: Mapping[str, Path], fix: str) -> tuple[CertificateSeen, ...]:
    """Read when certificates end.

    Args:
        paths: name -> file.
        fix: what to do about those that end soon.
    """
    return tuple(_certificate(name, path, fix) for name, path in paths.items())


def _certificate(name: str, path: Path, fix: str) -> CertificateSeen:
    try:
        certificate = first_to_end(path)
    except (ConfideError, OSError) as error:
        return CertificateSeen(
            file=name, expires=None, finding=Finding(name, "error", str(error), fix)
        )
    return CertificateSeen(
        file=name,
        expires=certificate.not_valid_after_utc.timestamp(),
        finding=validity(name, certificate, fix),
    )


def is_missing(path: Path) -> bool:
    """Return whether a file is not there; False in a folder that this user may not look into."""
    try:
        return not path.exists()
    except OSError:
        return False


def disks_at(folders: Mapping[str, Path]) -> tuple[DiskSeen, ...]:
    """Measure the disks that folders are on, whether or not they exist yet.

    Args:
        folders: what each is for -> folder.
    """
    found = []
    for name, folder in folders.items():
        place = next((it for it in (folder, *folder.parents) if _is_open(it)), None)
        if place is not None:
            usage = shutil.disk_usage(place)
            found.append(DiskSeen(name=name, folder=place, free=usage.free, size=usage.total))
    return tuple(found)


def _is_open(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:
        return False


def shared_samples(
    *,
    version: str,
    processes: Sequence[Process],
    certificates: Sequence[CertificateSeen],
    disks: Sequence[DiskSeen],
) -> Iterator[Sample]:
    """Yield the values of what both sides measure."""
    yield "confide_build_info", (version,), 1.0
    for process in processes:
        up = None if process.state == "unknown" else float(process.state == "up")
        yield "confide_process_up", (process.name,), up
        yield "confide_process_starts_total", (process.name,), process.starts
    for certificate in certificates:
        label = (certificate.file,)
        yield "confide_certificate_expiry_timestamp_seconds", label, certificate.expires
    for disk in disks:
        yield "confide_disk_free_bytes", (disk.name,), disk.free
        yield "confide_disk_size_bytes", (disk.name,), disk.size


def process_findings(processes: Sequence[Process]) -> Iterator[Finding]:
    """Say of each process whether it runs; another user's is a warning, and no error."""
    for process in processes:
        if process.state == "up":
            yield ok(process.name, f"runs as process {process.pid}")
        elif process.state == "down":
            yield Finding(process.name, "error", "does not run", "its log says why.")
        else:
            message = "is not known to run: its files are another user's"
            yield Finding(process.name, "warning", message, "ask the service manager.")


__all__ = [
    "CertificateSeen",
    "DiskSeen",
    "Process",
    "ProcessState",
    "certificates_in",
    "disks_at",
    "is_missing",
    "process_findings",
    "processes_in",
    "shared_samples",
]
