"""A Unix socket that nobody else can reach, not even for the instant in which it is made."""

import contextlib
import errno
import fcntl
import os
import shutil
import socket as sockets
import stat
from collections.abc import Iterator
from pathlib import Path

from confide.errors import ConfigError

_LONGEST_PATH = 107
"""Bytes of an address in Linux's ``sockaddr_un``."""


@contextlib.contextmanager
def bound_privately(socket: Path, *, mode: int, group: str | None) -> Iterator[Path]:
    """Bind a socket inside this context.

    It is its owner's alone until it has its group, and then has its mode.

    Args:
        socket: its path. What a process that died left there is removed.
        mode: permissions in the end.
        group: that it belongs to in the end; None leaves this process's own.

    Yields:
        The absolute path to bind to.

    Raises:
        ConfigError: if the folder is unfit, the path is taken, or somebody listens there.
    """
    path = socket.absolute()
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"socket={path}: expected a path of at most {_LONGEST_PATH} bytes; choose a folder"
            " nearer to the root."
        )
    _check_folder(path.parent)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    before = os.umask(0o177)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # of two that start at once, the second finds the first
        _remove_stale(path)
        yield path
        if group is not None:
            _give(path, group)
        path.chmod(mode)
    finally:
        os.umask(before)
        os.close(folder)


def remove(path: Path) -> None:
    """Remove a socket unless somebody listens on it again."""
    with contextlib.suppress(ConfigError, FileNotFoundError):
        _remove_stale(path)


def _check_folder(folder: Path) -> None:
    try:
        found = folder.stat()
    except OSError:
        raise ConfigError(
            f"socket: expected a folder {folder}; make it, for this user alone (mkdir -m 700)."
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"socket: expected {folder} to be a folder.")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise ConfigError(
            f"socket: expected {folder} to be written by this user alone,"
            f" mode={stat.S_IMODE(found.st_mode):o}; others could put a socket of their own there."
            " Run chmod go-w on it."
        )


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(
            f"socket={path}: expected a socket or nothing there; remove it, or choose another path."
        )
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise ConfigError(
                    f"socket={path}: expected a socket of this user's; {error.strerror}."
                ) from None
        else:
            raise ConfigError(
                f"socket={path}: another trainer service listens there; stop it first, or choose"
                " another path."
            )
    path.unlink()


def _give(path: Path, group: str) -> None:
    try:
        shutil.chown(path, group=group)
    except (LookupError, PermissionError):
        raise ConfigError(f"group={group}: expected a group that this user belongs to.") from None


__all__ = ["bound_privately", "remove"]
