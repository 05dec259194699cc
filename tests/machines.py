"""Machines of their own for tests of what is installed: this one's files, changed in copies.

A mount namespace with an overlay over everything, which needs root. Services are run as systemd
would run them, from the text of their units (:mod:`run_unit`); the network is this machine's.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent
PROGRAM = Path("/opt/confide/current/bin/confide")
_PATH = f"{sys.base_prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAKE = """
set -e
mount -t tmpfs machine "$1"
mkdir "$1/upper" "$1/work" "$1/whole"
mount -t overlay machine -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/whole"
for it in proc dev sys; do mount --rbind "/$it" "$1/whole/$it"; done
mount --bind /tmp "$1/whole/tmp"  # where tests write: what is below an overlay must not change
echo made
exec sleep infinity
"""


def why_not() -> str | None:
    """Return why there can be no machines here; None if there can."""
    if os.geteuid() != 0:
        return "machines are mounted, which needs root"
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs x /mnt && mkdir /mnt/u /mnt/w /mnt/m && "
         "mount -t overlay x -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/m"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"no overlay can be mounted: {tried.stderr}" if tried.returncode else None


class Machine:
    """A machine whose files can be changed, and are gone with it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.services: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _MAKE, "sh", str(self.folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "made\n"
        # Python and confide may be in somebody's home, which other users cannot enter
        for needed in (sys.base_prefix, sys.prefix, str(ROOT)):
            for parent in reversed(Path(needed).parents):
                self.run("chmod", "o+x", str(parent))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.services.values():
            process.terminate()
        for name in list(self.services):
            self.stop(name)
        assert self._holder.stdout is not None
        self._holder.stdout.close()
        self._holder.kill()
        self._holder.wait()

    def path(self, inside: str | Path) -> Path:
        """Return where a file of this machine can be read and written from outside."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}/whole{inside}")

    def run(
        self, *words: str, user: str | None = None, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as root or another user of the machine."""
        as_user = () if user is None else ("runuser", "-u", user, "--")
        done = subprocess.run(
            [*self._inside, *as_user, *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            env={"PATH": _PATH, "HOME": "/root"},
        )
        if check:
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def link_program(self) -> None:
        """Stand in for an installed program: this checkout, with this Python."""
        program = self.path(PROGRAM)
        self.run("mkdir", "-p", str(PROGRAM.parent))
        program.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1\n"
            f'exec {sys.executable} -m confide.cli "$@"\n'
        )
        program.chmod(0o755)

    def start(self, unit: str) -> None:
        """Start a service as its installed unit says."""
        with self.log(unit).open("ab") as out:
            self.services[unit] = subprocess.Popen(
                [*self._inside, sys.executable, str(ROOT / "tests" / "run_unit.py"), unit],
                stdout=out,
                stderr=out,
                env={"PATH": _PATH, "LANG": "C.UTF-8"},
            )

    def stop(self, unit: str) -> int:
        """Tell a service to end, and return its exit status."""
        process = self.services.pop(unit)
        process.terminate()
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def log(self, unit: str) -> Path:
        """Return the file of what a service wrote: its journal."""
        return self.folder.parent / f"{self.folder.name}-{unit}.out"

    @property
    def _inside(self) -> list[str]:
        return [
            "nsenter",
            f"--mount=/proc/{self._holder.pid}/ns/mnt",
            "chroot",
            str(self.folder / "whole"),
        ]


def tree(machine: Machine, *folders: str) -> str:
    """Return all below folders with mode and owner, and of files all else that can change."""
    listed = machine.run(
        "sh", "-c",
        'for f in "$@"; do [ -e "$f" ] || continue; find "$f" -type d -printf "%p %M %u %g\\n"; '
        'find "$f" ! -type d -printf "%p %M %u %g %s %T@\\n"; '
        'find "$f" -type f -exec sha256sum {} +; done | sort', "sh", *folders,
    )  # fmt: skip
    return listed.stdout


def wait_for(machine: Machine, unit: str, *, timeout_s: float) -> int:
    """Wait until a service ends by itself, and return its exit status."""
    end = time.monotonic() + timeout_s
    while machine.services[unit].poll() is None:
        assert time.monotonic() < end, machine.log(unit).read_text()[-3000:]
        time.sleep(0.5)
    return int(machine.services.pop(unit).returncode)
