"""Clusters of two machines, each a Ray node with processes of its own; and what a run leaves."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from stopped_run import Simulate

from confide.flower.processes import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RUN = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=4")
MANY = ("data.partitioner=iid", "data.num_clients=40", "client.local_steps=150", "privacy=record")
RAY = ("simulation.engine=ray", "simulation.workers=2")


def start_node(log: Path, *words: str, before: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    """Start a node of one CPU in a session of its own, so that it can be killed as a whole."""
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1"]
    limits = ["--disable-usage-stats", "--object-store-memory=100000000"]
    with log.open("wb") as file:
        return subprocess.Popen(
            [*before, *ray, *words, *limits],
            stdout=file,
            stderr=file,
            start_new_session=True,
            env=os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"},  # or nobody may join
        )


def kill_node(node: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def wait_for(path: Path, pattern: str = "", *, patience_s: float = 300) -> str:
    """Wait for a file with such a text."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if path.exists() and (found := re.search(pattern, path.read_text(errors="replace"))):
            return found[0]
        time.sleep(0.02)
    pytest.fail(f"{path} has no {pattern!r} after {patience_s:g} s.")


class Cluster:
    """A head and whoever joins it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Of loopback, but not the one that Ray takes for any address of the machine
        self.address = f"127.0.0.2:{free_port()}"
        self.nodes: list[subprocess.Popen[bytes]] = []

    def add(self, *words: str, before: Sequence[str] = ()) -> None:
        log = self._folder / f"node-{len(self.nodes)}.log"
        own = f"--node-ip-address=127.0.0.{len(self.nodes) + 2}"
        self.nodes.append(start_node(log, own, *words, before=before))
        wait_for(log, "Ray runtime started", patience_s=60)

    def join(self, *, before: Sequence[str] = ()) -> None:
        self.add(f"--address={self.address}", before=before)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    # Not in tmp_path: a socket's path has to be short
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        try:
            port = f"--port={made.address.rpartition(':')[2]}"
            made.add("--head", port, f"--temp-dir={folder}", "--include-dashboard=false")
            yield made
        finally:
            for node in reversed(made.nodes):
                kill_node(node)


@contextlib.contextmanager
def simulating(log: Path, *words: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run ``confide simulate``; what still runs in the end is killed."""
    with log.open("wb") as file:
        command = [sys.executable, "-m", "confide.cli", "simulate", *words]
        with subprocess.Popen(command, stdout=file, stderr=file) as process:
            try:
                yield process
            finally:
                process.kill()


def test_a_node_killed_in_a_round_changes_nothing(
    run: Simulate, tmp_path: Path, cluster: Cluster
) -> None:
    cluster.join()
    folder, log = tmp_path / "run", tmp_path / "log"
    where = (f"simulation.ray.address={cluster.address}", f"hydra.run.dir={folder}")
    with simulating(log, *RUN, *MANY, *RAY, *where) as process:
        wait_for(folder / "checkpoints" / "round-00001.safetensors")
        time.sleep(0.2)
        kill_node(cluster.nodes[1])
        in_time = not (folder / "checkpoints" / "round-00004.safetensors").exists()
        assert process.wait(300) == 0, log.read_text()
    assert in_time
    assert "died" in (folder / "confide.log").read_text()
    assert "raylet" not in log.read_text()  # what Ray says of it is not the user's business
    summary = json.loads((folder / "summary.json").read_text())
    expected = run(*RUN, *MANY, name="inline")
    assert summary["model_sha256"] == expected["model_sha256"]
    assert summary["clients"] == expected["clients"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder of a node's own takes a mount, and so root")
def test_a_ledger_that_a_node_does_not_see_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    ledgers = tmp_path / "ledgers"
    ledgers.mkdir()
    mount = f'mount -t tmpfs none {ledgers} && exec "$@"'
    cluster.join(before=("unshare", "--mount", "sh", "-c", mount, "sh"))
    log = tmp_path / "log"
    charged = (f"client.ledger={ledgers}", "policy.budget.epsilon=20", "privacy=record")
    where = (f"simulation.ray.address={cluster.address}", f"hydra.run.dir={tmp_path / 'run'}")
    with simulating(log, *RUN, *charged, *RAY, *where) as process:
        assert process.wait(300) == 2
    said = log.read_text()
    assert f"client.ledger={ledgers}: " in said
    assert "does not see what this machine writes" in said
    assert "Traceback" not in said


def test_a_run_on_ray_that_was_killed_leaves_nothing_and_goes_on(
    run: Simulate, tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    with simulating(log, *RUN, *MANY, *RAY, f"hydra.run.dir={folder}") as process:
        wait_for(folder / "checkpoints" / "round-00002.safetensors")
        children = descendants(process.pid)
        process.kill()
    assert len(children) > 4  # Ray's own, and two actors
    end = time.monotonic() + 240  # actors end at once, helpers of Ray's when they miss its server
    while (
        alive := [pid for pid in children if Path(f"/proc/{pid}").exists()]
    ) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive
    assert not (folder / "summary.json").exists()
    with simulating(log, f"resume={folder}") as resumed:
        assert resumed.wait(300) == 0, log.read_text()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["model_sha256"] == run(*RUN, *MANY, name="inline")["model_sha256"]
    assert summary["resumed_after_rounds"]


def descendants(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(stat.parent.name), *descendants(int(stat.parent.name))]
    return found
