"""Writes files atomically, locks them, and makes private folders.

A file is written to a temporary name, synchronised and renamed, so that a crash or a full disk
leaves either the old content or the new, never a part of it.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from safetensors import SafetensorError

from confide.errors import ConfigError, StorageError

Mark = tuple[int, int, int] | None
"""Of a file: inode, size and time of its last change."""
_LONGEST_NAME = 150
_LOCK_POLL_S = 0.2


def replace_file(path: Path, write: Callable[[Path], None], *, mode: int = 0o644) -> None:
    """Write a file completely or not at all; the old one stays until the new one is on the disk.

    Args:
        path: file to write or replace.
        write: function that fills the temporary file at the path it is given.
        mode: permissions of the file.

    Raises:
        StorageError: if it cannot be written, with the file and the reason.
    """
    temporary = ""
    try:
        # In the same folder: no rename across file systems is atomic. With mkstemp's mode of 0600
        # a secret is never readable by others, not even while it grows.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        os.close(handle)
        write(Path(temporary))
        # Before the rename: otherwise a power cut may leave the new name on an empty file.
        sync(temporary)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
        # The rename is an entry of the folder, which is not on the disk until the folder is.
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        fix = "Free space or fix the folder; the earlier file is unchanged."
        raise StorageError(f"{path} cannot be written: {error}. {fix}") from None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file completely or not at all; numbers that are not finite become null.

    Raises:
        StorageError: if it cannot be written.
    """
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a text file completely or not at all.

    Args:
        path: file to write or replace.
        text: content of the file.
        mode: permissions of the file; it never has wider ones, not even while it is written.

    Raises:
        StorageError: if it cannot be written.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace_file(path, write, mode=mode)


def write_secret(path: Path, secret: bytes) -> None:
    """Write a file that only its owner may read, completely or not at all.

    Raises:
        StorageError: if it cannot be written.
    """

    def write(temporary: Path) -> None:
        temporary.write_bytes(secret)

    replace_file(path, write, mode=0o600)


@contextlib.contextmanager
def locked(path: Path, *, otherwise: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a lock on a file against other processes.

    Args:
        path: file to lock; created if it does not exist.
        otherwise: message of the error if another process holds the lock.
        wait_s: longest wait for the other process, in seconds.

    Raises:
        ConfigError: with the message ``otherwise``.
        StorageError: if the file cannot be opened.
    """
    try:
        # Whoever may read it may lock it: its owner alone
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600)
        file = os.fdopen(handle, "a")
        if os.fstat(handle).st_uid == os.geteuid():  # of an earlier release
            os.fchmod(handle, 0o600)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}. Fix the folder.") from None
    end = time.monotonic() + wait_s
    # flock belongs to the open file and not to a name on the disk: the kernel releases it however
    # this process ends, so a crash leaves no stale lock behind.
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= end:
                    raise ConfigError(otherwise) from None
                time.sleep(_LOCK_POLL_S)
        yield


def make_private_folder(path: Path) -> None:
    """Make a folder, and missing ones above it, that only their owner may enter.

    A folder that exists keeps its permissions.

    Raises:
        StorageError: if it cannot be made.
    """
    try:
        # One by one: `mkdir(parents=True)` would make those above with the default permissions.
        for folder in (*reversed(path.parents), path):
            if not folder.is_dir():
                folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be made: {error}. Name a folder that you may write to."
        ) from None


def share(paths: Mapping[Path, int], group: str, *, setting: str) -> None:
    """Give files and folders of this user to a group.

    Args:
        paths: permissions of each path.
        group: name of the group.
        setting: name of the setting that chose the group, for the error.

    Raises:
        ConfigError: if there is no such group, or this user may not give them to it.
    """
    try:
        for path, mode in paths.items():
            shutil.chown(path, group=group)
            path.chmod(mode)
    except (LookupError, OSError) as error:
        raise ConfigError(
            f"{setting}={group}: {error}; name a group that this user is in."
        ) from None


def open_regular(path: Path) -> BinaryIO:
    """Open a file to be read that another user may have put there.

    A pipe would be waited for, and a device has no end.

    Raises:
        OSError: if it cannot be read, or is no file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path, *, most: int) -> bytes:
    """Read a file that another user may have put there.

    Args:
        path: file to read.
        most: largest size in bytes.

    Raises:
        OSError: if it cannot be read, is no file, or is larger.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return data


def mark_of(path: Path) -> Mark:
    """Return by what a file is told from the one that replaces it; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def folder_name(name: str) -> str:
    """Write a job's or an institution's name as a file name; different names stay different.

    The result has no separator and no dot, and at most 150 characters.
    """
    # `quote` leaves dots alone, and "." and ".." are folders of their own.
    written = quote(name, safe="").replace(".", "%2E")
    if len(written) <= _LONGEST_NAME:
        return written
    # The hash keeps long names apart that begin alike.
    return f"{written[: _LONGEST_NAME - 65]}-{hashlib.sha256(name.encode()).hexdigest()}"


def sync(path: str | Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def finite(value: Any) -> Any:
    """Return a value with null for numbers that are not finite, for which JSON has no words."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = [
    "Mark",
    "finite",
    "folder_name",
    "locked",
    "make_private_folder",
    "mark_of",
    "open_regular",
    "read_regular",
    "replace_file",
    "share",
    "sync",
    "write_json",
    "write_secret",
    "write_text",
]
