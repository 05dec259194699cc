"""Checks of ``confide doctor`` that both sides share: releases, space, files, certificates.

A check does not raise for what it examines: anything wrong becomes a finding with its fix.
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

from confide.config.spelling import counted
from confide.errors import EXIT_FAILED, ConfideError, ConfigError, DataError
from confide.flower.processes import check_version
from confide.security import certificate_hosts, certificates
from confide.security.server_chain import read_root, told
from confide.terminal import make_console
from confide.version import __version__

Status = Literal["ok", "warning", "error"]
_GIB = 2**30
_LITTLE_DISK = _GIB
_NO_DISK = _GIB // 10
_LITTLE_MEMORY = _GIB
_STYLES = {"ok": "", "warning": "yellow", "error": "bold red"}


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        check: name of the check.
        status: ok, warning or error.
        message: what was found, with values.
        fix: what to do; '' if nothing.
    """

    check: str
    status: Status
    message: str
    fix: str = ""


def ok(check: str, message: str) -> Finding:
    """Return the finding of a check that passed."""
    return Finding(check, "ok", message)


def gather(*checks: tuple[str, Callable[[], Iterable[Finding]]]) -> list[Finding]:
    """Run named checks; an error that one raises becomes one finding per mistake."""
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except (ConfigError, DataError) as error:
            findings += [Finding(name, "error", problem) for problem in error.problems]
        except (ConfideError, OSError) as error:
            findings.append(Finding(name, "error", str(error)))
    return findings


def show(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print findings.

    Returns:
        Exit status: 0 with or without warnings, 1 with any error.
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
    from confide.tables import Table

    table = Table("check", "", "finding", "fix")
    for finding in findings:
        cells = (finding.check, finding.status, finding.message, finding.fix)
        table.add_row(*cells, style=_STYLES[finding.status])
    console = make_console()
    table.show(console)
    told = f"{counted(counts['error'], 'error')}, {counted(counts['warning'], 'warning')}."
    console.print(told, highlight=False)


# --- releases, disk and memory


def releases() -> Iterator[Finding]:
    """Check Flower's release, and list those that are installed."""
    check_version()
    installed = [f"confide {__version__}", f"Python {platform.python_version()}"]
    for name in ("flwr", "torch", "opacus"):
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            installed.append(f"{name} missing")
    yield ok("versions", ", ".join(installed))


def disk(*folders: Path) -> Iterator[Finding]:
    """Check the free space at folders that will be written to, whether or not they exist yet."""
    present = (
        next(place for place in (folder, *folder.parents) if place.is_dir()) for folder in folders
    )
    for folder in dict.fromkeys(present):
        free = shutil.disk_usage(folder).free
        message = f"{free / _GIB:.1f} GiB free at {folder}"
        if free < _LITTLE_DISK:
            yield Finding(
                "disk",
                "error" if free < _NO_DISK else "warning",
                message,
                f"free at least {_LITTLE_DISK / _GIB:g} GiB.",
            )
        else:
            yield ok("disk", message)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Iterator[Finding]:
    """Check the available memory, if the system reports it."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return
    message = f"{free / _GIB:.1f} GiB available"
    if free < _LITTLE_MEMORY:
        yield Finding(
            "memory",
            "warning",
            message,
            f"end other programs; training needs at least {_LITTLE_MEMORY / _GIB:g} GiB.",
        )
    else:
        yield ok("memory", message)


# --- files


def private_file(check: str, path: Path) -> Iterator[Finding]:
    """Check that only its owner may read a secret."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Finding(
            check,
            "error",
            f"{path.name} has mode {mode:04o}: others may read it",
            f"chmod 600 {path}",
        )


def private_folder(check: str, path: Path, *, group_may_enter: bool = False) -> Iterator[Finding]:
    """Check that only its owner may use a folder.

    Args:
        check: name of the check.
        path: the folder; one that does not exist yet will be made so.
        group_may_enter: whether a group may pass through it to a socket.
    """
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
    """Check how long a certificate is still valid.

    Args:
        check: name of the check.
        certificate: the certificate.
        fix: what to do about one that expires.
        now: current time, with its time zone.
    """
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
            f"valid from {begin}, and now it is {now:%Y-%m-%d %H:%M}Z",
            "set the clock (NTP).",
        )
    if left < datetime.timedelta(days=certificates.RENEW_DAYS):
        return Finding(check, "warning", f"expires on {end}, in {left.days} days", fix)
    return ok(check, f"valid until {end}, {left.days} days")


def authority(path: Path, fix: str) -> Iterator[Finding]:
    """Check the authority's certificate.

    Args:
        path: file of the certificate.
        fix: what to do about one that expires.

    Raises:
        UnreadableError: if it cannot be read.
    """
    certificate = certificates.read_certificate(path)
    yield validity("ca.crt", certificate, fix)
    yield ok(
        "ca.crt",
        f"fingerprint {certificates.fingerprint(certificate)}; compare it with the coordinator's by"
        " telephone",
    )
    hosts = certificate_hosts.permitted_hosts(certificate)
    if hosts is not None:
        yield ok("ca.crt", f"vouches for {', '.join(hosts)} and no other server")


def server_authority(path: Path, fix: str) -> Iterator[Finding]:
    """Check the root by which the coordinator's server is recognised, where it is another's.

    Args:
        path: file of the certificate.
        fix: what to do about one that expires.

    Raises:
        UnreadableError: if it cannot be read.
    """
    root = read_root(path)
    yield validity(path.name, root, fix)
    yield ok(
        path.name,
        f"{told(root)}, by which the coordinator's server is recognised instead of ca.crt;"
        f" fingerprint {certificates.fingerprint(root)}; compare it with the coordinator's by"
        " telephone",
    )


__all__ = [
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
    "server_authority",
    "show",
    "validity",
]
