"""Where provisioning writes, and how.

One run at a time, each file whole, none touched that need not be.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confide.errors import ConfigError, StorageError
from confide.storage.files import folder_name, write_text

SECRET = 0o600
"""Permissions of a private key."""
_LEFTOVER = re.compile(r"\.(.+\.(key|crt|pub|csr|json|yaml|md))-[a-z0-9_]{8}")


@dataclass(frozen=True)
class Places:
    """Where provisioning writes.

    Attributes:
        out: the folder that holds all of it.
    """

    out: Path

    @property
    def authority(self) -> Path:
        """Folder of the authority, kept offline."""
        return self.out / "authority"

    @property
    def coordinator(self) -> Path:
        """Folder that the coordinator's machine gets."""
        return self.out / "coordinator"

    def kit(self, name: str) -> Path:
        """Folder that an institution gets."""
        return self.out / "institutions" / folder_name(name)

    def registered(self, name: str) -> Path:
        """The public key that the coordinator knows an institution by."""
        return self.coordinator / "nodes" / f"{folder_name(name)}.pub"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let nobody else provision here meanwhile."""
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(
            f"Another `confide provision` writes to {folder}; wait for it to end, and run this"
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


def sweep(out: Path) -> None:
    """Remove temporary files of a run that was killed: some are secrets that nobody ever used."""
    folders = (
        out / "authority",
        out / "coordinator",
        out / "coordinator" / "nodes",
        *out.glob("institutions/*"),
    )
    for path in (path for folder in folders for path in folder.glob(".*")):
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_missing(path: Path, text: Callable[[], str], *, mode: int = 0o644) -> bool:
    """Write a file that is not there, and say whether it was not."""
    if path.exists():
        return False
    write_text(path, text(), mode=mode)
    return True


def write_changed(path: Path, text: str) -> bool:
    """Write a file whose text is another, and say whether it was."""
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") == text:
        return False
    write_text(path, text)
    return True


__all__ = ["SECRET", "Places", "alone", "sweep", "write_changed", "write_missing"]
