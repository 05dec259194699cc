"""The folders that provisioning writes to, and its ways of writing.

Only one run writes at a time, each file is written completely, and files that need no change are
left alone.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confide.errors import ConfigError, StorageError
from confide.security.revocations import FILE as REVOKED
from confide.security.server_chain import FILE as SERVER_CA
from confide.storage.files import folder_name, write_text

SECRET = 0o600
"""Permissions of a private key."""
_LEFTOVER = re.compile(r"\.(.+\.(key|crt|pub|csr|json|yaml|md|sh|conf|service))-[a-z0-9_]{8}")


@dataclass(frozen=True)
class Places:
    """The folders and files that provisioning writes.

    Attributes:
        out: folder that holds all of them.
    """

    out: Path

    @property
    def authority(self) -> Path:
        """Folder of the authority, to be kept offline."""
        return self.out / "authority"

    @property
    def coordinator(self) -> Path:
        """Folder for the coordinator's machine."""
        return self.out / "coordinator"

    def server_files(self, stem: str) -> tuple[Path, Path]:
        """Return the files of one of the coordinator's certificates and of its key."""
        return self.coordinator / f"{stem}.crt", self.coordinator / f"{stem}.key"

    @property
    def server_ca(self) -> Path:
        """File of the root of the coordinator's certificate, if an external authority signs it."""
        return self.coordinator / SERVER_CA

    @property
    def heads(self) -> Path:
        """Return the file of the key by which the coordinator countersigns heads of ledgers."""
        return self.coordinator / "heads.key"

    def kit(self, name: str) -> Path:
        """Return the folder of an institution's start-up kit."""
        return self.out / "institutions" / folder_name(name)

    def registered(self, name: str) -> Path:
        """Return the file of the public key by which the coordinator recognises an institution."""
        return self.coordinator / "nodes" / f"{folder_name(name)}.pub"

    def shown(self, name: str) -> Path:
        """Return the file of the last certificate that an institution's node shows."""
        return self.coordinator / "nodes" / f"{folder_name(name)}.crt"

    def certified(self, name: str) -> Path:
        """Return the file of the last certificate of an institution's trainer."""
        return self.coordinator / "trainers" / f"{folder_name(name)}.crt"

    @property
    def revoked(self) -> Path:
        """Return the file of the list of revoked keys that the coordinator heeds."""
        return self.coordinator / REVOKED


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep other runs of ``confide provision`` from writing to a folder.

    Raises:
        ConfigError: if another one writes there.
        StorageError: if a file in it cannot be used.
    """
    # The folder itself is locked, so that no lock file is sent along with the kits.
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(
            f"Another `confide provision` is writing to {folder}; wait for it to end, and run this"
            " again."
        ) from None
    except OSError as error:
        raise StorageError(
            f"{error.filename or folder} cannot be used: {error.strerror}. Fix that, and run this"
            " again."
        ) from None
    finally:
        if handle is not None:
            os.close(handle)


def remove_leftovers(out: Path) -> None:
    """Remove temporary files of a run that was killed: some hold secrets that were never used."""
    # Not `out.rglob`: these are the only folders that provisioning writes to, and `out` may be a
    # folder with other things in it.
    folders = (
        out / "authority",
        out / "coordinator",
        out / "coordinator" / "nodes",
        out / "coordinator" / "trainers",
        out / "coordinator" / "service",
        out / "coordinator" / "monitoring",
        out / "coordinator" / "service",
        *out.glob("institutions/*"),
        *out.glob("institutions/*/monitoring"),
        *out.glob("institutions/*/service"),
    )
    for path in (path for folder in folders for path in folder.glob(".*")):
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_missing(path: Path, text: Callable[[], str], *, mode: int = 0o644) -> bool:
    """Write a file unless it exists, and return whether it was written."""
    if path.exists():
        return False
    write_text(path, text(), mode=mode)
    return True


def write_changed(path: Path, text: str) -> bool:
    """Write a file unless it has this text already, and return whether it was written."""
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") == text:
        return False
    write_text(path, text)
    return True


__all__ = ["SECRET", "Places", "only_run", "remove_leftovers", "write_changed", "write_missing"]
