"""Binds a Unix socket that other users can never reach, not even while it is being made."""

import contextlib
import errno
import fcntl
import os
import shutil
import socket as sockets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from confide.errors import ConfigError

_LONGEST_WAIT_S, _PAUSE_S = 5.0, 0.02
_LONGEST_PATH = 107
"""Largest size of a path in Linux's ``sockaddr_un``, in bytes."""


@contextlib.contextmanager
def bound_privately(socket: Path, *, mode: int, group: str | None) -> Iterator[Path]:
    """Prepare a path inside this context, in which the socket is to be bound.

    Args:
        socket: path of the socket; a stale one is removed.
        mode: final permissions of the socket.
        group: final group of the socket; None for this process's own.

    Yields:
        Absolute path to bind to.

    Raises:
        ConfigError: if the folder or the path cannot be used, or another process listens there.
    """
    path = socket.absolute()
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"socket={path}: expected a path of at most {_LONGEST_PATH} bytes; choose a folder"
            " nearer to the root."
        )
    _check_folder(path.parent)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    # `bind` makes the socket with the permissions that the umask leaves, and a client that connects
    # in between would stay connected. So it is the owner's alone until it has its group.
    before = os.umask(0o177)
    try:
        # Of two services that start at once, the second then finds the first.
        _lock(folder, path.parent)
        _remove_stale(path)
        yield path
        if group is not None:
            try:
                shutil.chown(path, group=group)
            except (LookupError, PermissionError):
                raise ConfigError(
                    f"group={group}: expected a group that this user belongs to."
                ) from None
        path.chmod(mode)
    finally:
        os.umask(before)
        os.close(folder)


def _lock(handle: int, folder: Path) -> None:
    # Whoever may list the folder may lock it, other users too, and must not hold a start up
    end = time.monotonic() + _LONGEST_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() >= end:
                raise ConfigError(
                    f"socket: another process holds a lock on {folder} (`lsof {folder}` shows"
                    " which); end it, or let this user alone into the folder (chmod 700)."
                ) from None
            time.sleep(_PAUSE_S)


def remove(path: Path) -> None:
    """Remove a socket unless another process listens on it by now."""
    with contextlib.suppress(ConfigError, FileNotFoundError):
        _remove_stale(path)


def _check_folder(folder: Path) -> None:
    try:
        status = folder.stat()
    except OSError:
        raise ConfigError(
            f"socket: expected a folder {folder}; make it, for this user alone (mkdir -m 700)."
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"socket: expected {folder} to be a folder.")
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise ConfigError(
            f"socket: expected {folder} to be written by this user alone,"
            f" mode={stat.S_IMODE(status.st_mode):o}; others could put a socket of their own there."
            " Run chmod go-w on it."
        )


def _remove_stale(path: Path) -> None:
    """Remove a socket that no process listens on."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(
            f"socket={path}: expected a socket or nothing there; remove it, or choose another path."
        )
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(1.0)
        # Only connecting shows whether a process listens: a socket's file outlives its process.
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise ConfigError(
                    f"socket={path}: expected a socket of this user's; {error.strerror}."
                ) from None
        else:
            raise ConfigError(
                f"socket={path}: another process listens there; stop it first, or choose"
                " another path."
            )
    path.unlink()


__all__ = ["bound_privately", "remove"]
