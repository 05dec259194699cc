"""A private file of lines that only grows: each is on the disk before its writer goes on.

Several processes may read and write it. A line is written with its checksum and its end in one
piece; a piece without an end, which a kill or a full disk leaves, was told to nobody and is
overwritten. Whatever else is damaged is an error.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from confide.errors import StorageError, UnreadableError
from confide.storage.files import locked, make_private_folder, sync

_WAIT_S = 30.0
_CHECKED = 32
"""Characters of a line's checksum."""


class DurableLines:
    """A file of lines, and how far this process has read it.

    Args:
        path: of the file; it and its folder are made with the first line.
        fix: what to do where it is damaged, for the error.
    """

    def __init__(self, path: Path, *, fix: str) -> None:
        self._path, self._fix = path, fix
        self._end = 0  # of the last whole line that was read

    def read_new(self) -> list[str]:
        """Return the lines since the last call.

        Raises:
            UnreadableError: if one is not what was written, or some are gone.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                if file.tell() < self._end:
                    raise self._damaged("it has become shorter")
                file.seek(self._end)
                data = file.read()
                whole = data[: data.rfind(b"\n") + 1]
                # Another process may have been killed between writing a line and this
                if whole:
                    os.fsync(file.fileno())
        except FileNotFoundError:
            if self._end:
                raise self._damaged("it is gone") from None
            return []
        except OSError as error:
            raise self._damaged(str(error.strerror)) from None
        lines = [self._checked(line) for line in whole.splitlines()]
        self._end += len(whole)
        return lines

    def _checked(self, line: bytes) -> str:
        check, _, content = line.partition(b" ")
        if check.decode(errors="replace") != _check(content):
            raise self._damaged("a line is not what was written")
        return content.decode()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from writing; what they wrote before is to be read first.

        Raises:
            ConfideError: if another process does not let go, or the folder cannot be made.
        """
        folder = self._path.parent
        make_private_folder(folder)
        busy = f"Another process has been writing to {self._path} for {_WAIT_S:g} s; end it."
        with locked(folder / f".{self._path.name}.lock", otherwise=busy, wait_s=_WAIT_S):
            yield

    def append(self, text: str) -> None:
        """Write a line, alone and after everything was read, and wait until it is on the disk.

        Args:
            text: without an end of line.

        Raises:
            StorageError: if it cannot be written; it is then not in the file.
        """
        content = text.encode()
        line = f"{_check(content)} ".encode() + content + b"\n"
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._write(handle, line)
            finally:
                os.close(handle)
            if not self._end:
                sync(self._path.parent)
                sync(self._path.parent.parent)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error}. Free space.") from None

    def _write(self, handle: int, line: bytes) -> None:
        os.ftruncate(handle, self._end)
        try:
            os.lseek(handle, self._end, os.SEEK_SET)
            while line:
                line = line[os.write(handle, line) :]
            os.fsync(handle)
        except OSError:
            # What may not be on the disk must not be taken for written
            os.ftruncate(handle, self._end)
            raise

    def _damaged(self, why: str) -> UnreadableError:
        return UnreadableError(f"{self._path} cannot be read: {why}; {self._fix}.")


def _check(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_CHECKED]


__all__ = ["DurableLines"]
