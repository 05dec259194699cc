"""Compose files as an engine understands them, and their services run without one.

A service gets what an engine would give it: a root of its own over the image's, its mounts, user,
groups and network, no capability, and process number 1. The kernel stands in for the engine:
overlayfs and namespaces.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*)?\}")
_STARTS_S = 60.0
_MINIMAL_DEV = ("null", "zero", "full", "random", "urandom")


def services(file: Path, **variables: str) -> dict[str, Any]:
    """Read a compose file, and put the values of its variables in."""
    text = _VARIABLE.sub(lambda match: variables[match[1]], file.read_text())
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@dataclass
class Container:
    """A service of a compose file.

    Attributes:
        service: what the compose file says of it.
        image: file with the image's layers, the uppermost first, relative to the folder above it;
            ``<image>.json`` beside it has its config.
        folder: folder of this container alone.
        network: name of a network namespace, for every service that has one.
    """

    service: Mapping[str, Any]
    image: Path
    folder: Path
    network: str
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def config(self) -> dict[str, Any]:
        """Config of the image: entry point, environment, user, working directory."""
        inspected = json.loads(self.image.with_name(f"{self.image.name}.json").read_text())
        config: dict[str, Any] = inspected["Docker"]["config"]
        return config

    @property
    def log(self) -> str:
        """What it printed."""
        return (self.folder / "out").read_text(errors="replace")

    def start(self, *words: str) -> None:
        """Start its command, or other words in its place, as an engine does."""
        entry = self.service.get("entrypoint", self.config["Entrypoint"])
        command = [*entry, *(words or self.service["command"])]
        script = "\n".join([*self._mounts(), f"exec {shlex.join(self._become(command))}"])
        no_network = self.service.get("network_mode") == "none"
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        # In one of its own there is a loopback that is down; an engine lifts it.
        inside = ["--net", "bash", "-ec", f"ip link set lo up\n{script}"]
        joined = ["ip", "netns", "exec", self.network]
        whole = [*unshare, *inside] if no_network else [*joined, *unshare, "bash", "-ec", script]
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                whole, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def run(self, *words: str, timeout_s: float = 120.0) -> str:
        """Run words in it to their end, beside what runs there, and return what they print.

        Raises:
            subprocess.CalledProcessError: if they fail; its output says why.
        """
        namespaces = ["nsenter", "--target", str(self._first()), "--mount", "--pid", "--net"]
        command = [*namespaces, "--root", "--wd", *self._setpriv(), *self._env(), *words]
        return subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        ).stdout

    def stop(self, timeout_s: float = 60.0) -> int:
        """Ask its first process to end, and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self._first(), signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """End it at once, with everything in it."""
        if self.process is not None and self.process.poll() is None:
            # Another user's by now, it would outlive `unshare`
            os.kill(self._first(), signal.SIGKILL)
            self.process.kill()
            self.process.wait()

    def _first(self) -> int:
        """Return the process id, on this machine, of its process number 1."""
        assert self.process is not None
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        end = time.monotonic() + _STARTS_S
        while not (found := children.read_text().split()) and time.monotonic() < end:
            time.sleep(0.1)
        return int(found[0])

    def _mounts(self) -> list[str]:
        root, upper, work = (self.folder / name for name in ("root", "upper", "work"))
        for made in (root, upper, work):
            made.mkdir(parents=True, exist_ok=True)
        below = self.image.parent.parent
        lower = ":".join(str(below / line) for line in self.image.read_text().split())
        here = self.config["WorkingDir"] or "/"
        layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
        lines = [
            "mount --make-rprivate /",
            f"mount -t overlay overlay -o {layers} {root}",
            f"mkdir -p {root}{here}",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o mode=755 tmpfs {root}/dev",
            f"mkdir -m 1777 {root}/dev/shm",
        ]
        for name in _MINIMAL_DEV:
            lines += [f"touch {root}/dev/{name}", f"mount --bind /dev/{name} {root}/dev/{name}"]
        for path, _, options in (entry.partition(":") for entry in self.service["tmpfs"]):
            lines.append(f"mount -t tmpfs -o {options} tmpfs {root}{path}")
        for volume in self.service.get("volumes", []):
            source, target = Path(volume["source"]), f"{root}{volume['target']}"
            assert source.exists(), f"{source}: bind.create_host_path is false"
            make = f"mkdir -p {target}"
            if not source.is_dir():
                make = f"mkdir -p $(dirname {target}) && touch {target}"
            # What an engine mounts in a folder that is read-only has to be there.
            lines += [f"test -e {target} || {{ {make}; }}", f"mount --bind {source} {target}"]
            if volume.get("read_only"):
                lines.append(f"mount -o remount,bind,ro {target}")
        if self.service["read_only"]:
            lines.append(f"mount -o remount,bind,ro {root}")
        return lines

    def _become(self, command: Sequence[str]) -> list[str]:
        """Return the command that becomes its user, in its root, without any capability."""
        moved = ["sh", "-c", 'cd "$0" && exec "$@"', self.config["WorkingDir"] or "/"]
        return [
            "chroot",
            str(self.folder / "root"),
            *self._setpriv(),
            *self._env(),
            *moved,
            *command,
        ]

    def _setpriv(self) -> list[str]:
        user, group = str(self.service.get("user", self.config["User"])).split(":")
        groups = self.service.get("group_add", [])
        return [
            "/usr/bin/setpriv",
            f"--reuid={user}",
            f"--regid={group}",
            f"--groups={','.join(groups)}" if groups else "--clear-groups",
            "--no-new-privs",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--",
        ]

    def _env(self) -> list[str]:
        return ["env", "-i", *self.config["Env"]]


__all__ = ["Container", "services"]
