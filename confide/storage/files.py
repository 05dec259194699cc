"""Files that are whole or not there: a temporary file, fsync, rename, fsync of the folder.

Folders of one owner, by name.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from safetensors import SafetensorError

from confide.errors import ConfigError, StorageError

_LONGEST_NAME = 150
_LOCK_POLL_S = 0.2


def replace_file(path: Path, write: Callable[[Path], None], *, mode: int = 0o644) -> None:
    """Write a file whole or not at all.

    What stood there before stands until the new one is on the disk.

    Args:
        path: what is written or replaced.
        write: fills the temporary file it is given.
        mode: permissions of the file.

    Raises:
        StorageError: if it cannot be written, with the file and the reason.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        os.close(handle)
        write(Path(temporary))
        _sync(temporary)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(
            f"{path} cannot be written: {error}. Free space or fix the folder; what stood there"
            " stands."
        ) from None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all.

    A number that is not finite becomes null, which JSON has.

    Raises:
        StorageError: if it cannot be written.
    """
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a text file whole or not at all.

    Args:
        path: what is written or replaced.
        text: the whole of it.
        mode: permissions of the file; nobody has more at any moment.

    Raises:
        StorageError: if it cannot be written.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace_file(path, write, mode=mode)


def write_secret(path: Path, secret: bytes) -> None:
    """Write a file that its owner alone may read, whole or not at all.

    Raises:
        StorageError: if it cannot be written.
    """

    def write(temporary: Path) -> None:
        temporary.write_bytes(secret)

    replace_file(path, write, mode=0o600)


@contextlib.contextmanager
def locked(path: Path, *, otherwise: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a file against other processes; the system lets go of it, however this process ends.

    Args:
        path: of the file, made if need be.
        otherwise: what to tell where another process holds it.
        wait_s: how long to wait for that one.

    Raises:
        ConfigError: ``otherwise``.
        StorageError: if the file cannot be opened.
    """
    try:
        file = path.open("a")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}. Fix the folder.") from None
    end = time.monotonic() + wait_s
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
    """Make a folder that only its owner may enter, and those above it alike.

    One that is there stays as it is.

    Raises:
        StorageError: if it cannot be made.
    """
    try:
        for folder in (*reversed(path.parents), path):
            if not folder.is_dir():
                folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be made: {error}. Name a folder that you may write to."
        ) from None


def share(paths: Mapping[Path, int], group: str, *, setting: str) -> None:
    """Let a group at files and folders of this user.

    Args:
        paths: each with its permissions.
        group: by name.
        setting: that names the group, for the error.

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


def folder_name(name: str) -> str:
    """Write a job's or an institution's name as a folder's, one for one.

    No separator, no leading dot, not too long.
    """
    written = quote(name, safe="").replace(".", "%2E")
    if len(written) <= _LONGEST_NAME:
        return written
    return f"{written[: _LONGEST_NAME - 65]}-{hashlib.sha256(name.encode()).hexdigest()}"


def _sync(path: str | Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = [
    "folder_name",
    "locked",
    "make_private_folder",
    "replace_file",
    "share",
    "write_json",
    "write_secret",
    "write_text",
]
