"""Whether a folder is the same one on every machine, with locks that hold between them: tried out.

Ledgers and what algorithms keep at a client are files. Two machines with a folder of the same name
each would give the same people two budgets.
"""

import fcntl
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LOCKS = (fcntl.lockf, fcntl.flock)
"""SQLite takes the first kind, and the files beside it the second."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Files that this process locks in a folder, for workers elsewhere to find.

    Attributes:
        setting: that names the folder.
        folder: the folder, absolute.
        files: names of two files, one under each kind of lock that the product takes.
    """

    setting: str
    folder: Path
    files: tuple[str, str]

    def problem(self) -> str | None:
        """Return what is wrong with the folder where this is called; None for nothing."""
        here, place = socket.gethostname(), f"{self.setting}={self.folder}"
        fix = (
            "choose a folder that every machine of the cluster shares, with locks that hold between"
            " them, or simulation.engine=process"
        )
        for name, lock in zip(self.files, _LOCKS, strict=True):
            try:
                with (self.folder / name).open("r+b") as file:
                    lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError as error:
                return f"{place}: {here} does not see what this machine writes ({error}); {fix}"
            return f"{place}: {here} does not heed the locks of this machine; {fix}"
        return None


class Probes:
    """Probes in folders that all machines have to share; held until they are closed.

    Args:
        folders: setting that names it -> folder, made where it is missing.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._open: list[IO[bytes]] = []
        self.probes = [self._place(name, folder.absolute()) for name, folder in folders.items()]

    def _place(self, setting: str, folder: Path) -> Probe:
        folder.mkdir(parents=True, exist_ok=True)
        token = secrets.token_hex(8)
        files = (f".confide-{token}.lockf", f".confide-{token}.flock")
        for name, lock in zip(files, _LOCKS, strict=True):
            file = (folder / name).open("w+b")
            self._open.append(file)
            lock(file, fcntl.LOCK_EX)
        return Probe(setting=setting, folder=folder, files=files)

    def close(self) -> None:
        """Remove the files."""
        for probe in self.probes:
            for name in probe.files:
                (probe.folder / name).unlink(missing_ok=True)
        for file in self._open:
            file.close()
        self._open.clear()


__all__ = ["Probe", "Probes"]
