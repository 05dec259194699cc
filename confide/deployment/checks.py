"""What ``confide doctor`` finds out about a machine, on either side.

Files, certificates, releases, room.

A check never raises for what it looks at: whatever is wrong is a finding with the fix.
"""

import datetime
import json
import os
import platform
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from cryptography import x509

from confide.errors import EXIT_FAILED, ConfideError, ConfigError, DataError
from confide.flower.processes import check_version
from confide.security import certificates
from confide.version import __version__

Status = Literal["ok", "warning", "error"]
SOON_DAYS = 30
_GIB = 2**30
_LITTLE_DISK, _NO_DISK, _LITTLE_MEMORY = _GIB, _GIB // 10, _GIB
_STYLES: dict[str, str | None] = {"ok": None, "warning": "yellow", "error": "bold red"}


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        status: ok, warning or error.
        told: what was found, with values.
        fix: what to do; '' where nothing has to be done.
    """

    check: str
    status: Status
    told: str
    fix: str = ""


def ok(check: str, told: str) -> Finding:
    """Say that all is well."""
    return Finding(check, "ok", told)


def gather(*checks: tuple[str, Callable[[], Iterable[Finding]]]) -> list[Finding]:
    """Carry out checks; an error of ours is an error found, one finding a mistake."""
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except (ConfigError, DataError) as error:
            found += [Finding(name, "error", problem) for problem in error.problems]
        except (ConfideError, OSError) as error:
            found.append(Finding(name, "error", str(error)))
    return found


def show(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print what was found.

    Returns:
        The exit status: 0, warnings or not; 1 with any error.
    """
    counts = {status: sum(finding.status == status for finding in findings) for status in _STYLES}
    if as_json:
        print(
            json.dumps(
                {
                    "ready": not counts["error"],
                    "findings": [asdict(finding) for finding in findings],
                },
                indent=1,
            )
        )
    else:
        _print(findings, counts)
    return EXIT_FAILED if counts["error"] else 0


def _print(findings: Sequence[Finding], counts: dict[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "")
    for header in ("found", "fix"):  # whole: fingerprints are there to be compared
        table.add_column(header, overflow="fold")
    for finding in findings:
        told, fix = (
            Text(finding.told),
            Text(finding.fix),
        )  # a str would become an emoji where a fingerprint has :AB:
        table.add_row(finding.check, finding.status, told, fix, style=_STYLES[finding.status])
    console = Console()
    console.print(table)
    console.print(f"{counts['error']} errors, {counts['warning']} warnings.", highlight=False)


# --- releases and room


def releases() -> Iterator[Finding]:
    """Name what is installed; Flower's release must be one that is known."""
    check_version()
    names = ("flwr", "torch", "opacus")
    yield ok(
        "versions",
        f"confide {__version__}, Python {platform.python_version()},"
        f" {', '.join(map(_release, names))}",
    )


def _release(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} missing"


def disk(*folders: Path) -> Iterator[Finding]:
    """Look for room where something is to be written."""
    for folder in dict.fromkeys(_there(folder) for folder in folders):
        free = shutil.disk_usage(folder).free
        told = f"{free / _GIB:.1f} GiB free at {folder}"
        if free < _LITTLE_DISK:
            yield Finding(
                "disk",
                "error" if free < _NO_DISK else "warning",
                told,
                f"free at least {_LITTLE_DISK / _GIB:g} GiB.",
            )
        else:
            yield ok("disk", told)


def _there(folder: Path) -> Path:
    """Return a folder, or the first above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def memory(meminfo: Path = Path("/proc/meminfo")) -> Iterator[Finding]:
    """Look for free memory; nothing is said where the system does not tell."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return
    told = f"{free / _GIB:.1f} GiB available"
    if free < _LITTLE_MEMORY:
        yield Finding(
            "memory",
            "warning",
            told,
            f"end other programs; training wants at least {_LITTLE_MEMORY / _GIB:g} GiB.",
        )
    else:
        yield ok("memory", told)


# --- files


def private_file(check: str, path: Path) -> Iterator[Finding]:
    """Check that a secret is its owner's alone."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Finding(
            check,
            "error",
            f"{path.name} has mode {mode:04o}: others may read it",
            f"chmod 600 {path}",
        )


def private_folder(check: str, path: Path, *, group_may_enter: bool = False) -> Iterator[Finding]:
    """Check that a folder is its owner's alone; one that is not there yet will be made so."""
    if not path.is_dir():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (0o067 if group_may_enter else 0o077):
        fix = f"chmod {'710' if group_may_enter else '700'} {path}"
        yield Finding(check, "warning", f"{path} has mode {mode:04o}: others may look into it", fix)
    elif not os.access(path, os.W_OK | os.X_OK):
        yield Finding(
            check,
            "error",
            f"{path} cannot be written by this user",
            f"run as its owner, or chown it: {path}",
        )
    else:
        yield ok(check, f"{path} has mode {mode:04o}")


# --- certificates


def validity(
    check: str, certificate: x509.Certificate, fix: str, *, now: datetime.datetime | None = None
) -> Finding:
    """Say how long a certificate is valid still."""
    now = now or datetime.datetime.now(datetime.UTC)
    left, end = (
        certificates.time_left(certificate, now=now),
        f"{certificate.not_valid_after_utc:%Y-%m-%d}",
    )
    if left < datetime.timedelta():
        return Finding(check, "error", f"expired on {end}", fix)
    if certificate.not_valid_before_utc > now:
        begin = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M}Z"
        return Finding(
            check,
            "error",
            f"valid from {begin}, and here it is {now:%Y-%m-%d %H:%M}Z",
            "set the clock (NTP).",
        )
    if left < datetime.timedelta(days=SOON_DAYS):
        return Finding(check, "warning", f"expires on {end}, in {left.days} days", fix)
    return ok(check, f"valid until {end}, {left.days} days")


def authority(path: Path, fix: str) -> Iterator[Finding]:
    """Check the authority's certificate.

    Raises:
        UnreadableError: if it is none.
    """
    certificate = certificates.read_certificate(path)
    yield validity("ca.crt", certificate, fix)
    yield ok(
        "ca.crt",
        f"fingerprint {certificates.fingerprint(certificate)}; compare it with the coordinator's by"
        " telephone",
    )


__all__ = [
    "SOON_DAYS",
    "Finding",
    "Status",
    "authority",
    "disk",
    "gather",
    "memory",
    "ok",
    "private_file",
    "private_folder",
    "releases",
    "show",
    "validity",
]
