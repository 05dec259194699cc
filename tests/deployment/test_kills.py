"""SIGKILL of any process of a federation at random instants.

The run completes with the weights of an undisturbed one.

``CONFIDE_KILLS_SEED=7`` draws other instants; those of a run are printed (``pytest -s``).
"""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from deployment_run import HEART, HOSPITALS, Deployment, hospitals_alone, wait_until
from kept_ledgers import check_ledger

ROUNDS = 5
ROUND_TIMEOUT_S = 180.0
TURN_S = 90.0
"""Longest time from a kill until the next round is durable: parts of a message that never come are
waited for half a minute."""
RUN = (
    f"server.num_rounds={ROUNDS}",
    f"server.round_timeout_s={ROUND_TIMEOUT_S:g}",
    "server.enrol_timeout_s=90",
)
SEED = int(os.environ.get("CONFIDE_KILLS_SEED", "0"))


@dataclass(frozen=True)
class Reference:
    """The undisturbed run.

    Attributes:
        overrides: of every run of this module.
        model_sha256: what each has to come to.
    """

    overrides: tuple[str, ...]
    model_sha256: str


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Simulate the three hospitals that are deployed."""
    path = tmp_path_factory.mktemp("hospitals") / "heart.csv"
    overrides = (*HEART, *hospitals_alone(path))
    with Deployment(run_overrides=overrides) as deployment:
        return Reference(overrides, deployment.simulate(*RUN)["model_sha256"])


@dataclass
class Trial:
    """A federation whose processes are killed, one at a time."""

    deployment: Deployment
    chance: random.Random
    began: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(
            f"{time.monotonic() - self.began:6.1f} s, {self.deployment.rounds_done()} rounds:"
            f" {text}"
        )
        print(self.notes[-1], flush=True)

    def begin(self) -> None:
        self.deployment.start_clients()
        self.deployment.start_server(*RUN)
        first = self.deployment.run_dir / "checkpoints" / "round-00000.safetensors"
        wait_until(first.exists, timeout_s=90, what="the run begins")
        self.note("the run has begun")

    def wait_at_random(self, longest_s: float = 8.0) -> None:
        """Let the run go on for a while, but not to its end."""
        end = time.monotonic() + self.chance.uniform(0.0, longest_s)
        while time.monotonic() < end and self.deployment.rounds_done() < ROUNDS - 1:
            time.sleep(0.05)

    def kill(self, process: str) -> None:
        """Kill a process that a supervisor told of, such as ``Hungary/trainer``."""
        wait_until(
            lambda: process in self.deployment.process_ids(), timeout_s=20, what=f"{process} runs"
        )
        pid = self.deployment.process_ids()[process]
        os.kill(pid, signal.SIGKILL)
        self.note(f"SIGKILL of {process}, process {pid}")

    def kill_command(self, name: str) -> None:
        """Kill ``confide server``, or an institution's ``confide client``.

        Its processes have to end by themselves.
        """
        killed = self.deployment.started.pop(name)
        told = self.deployment.process_ids()
        of_it = [
            pid
            for process, pid in told.items()
            if process.startswith(f"{name}/") and not process.endswith("/supervisor")
        ]
        killed.kill()
        killed.wait()
        self.note(f"SIGKILL of {name}, process {killed.pid}")
        wait_until(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in of_it),
            timeout_s=10,
            what="its processes end",
        )
        self.note("its processes have ended")

    def wait_for_a_round(self) -> None:
        """Wait until a round that ended after now is durable."""
        before = self.deployment.rounds_done()
        done = self.deployment.started["server"]
        wait_until(
            lambda: self.deployment.rounds_done() > before or done.poll() is not None,
            timeout_s=TURN_S,
            what=f"a round after round {before}",
        )
        self.note("a round is durable")

    def complete(self, reference: Reference) -> None:
        """Wait for the end of the run, and compare what it leaves with the undisturbed one."""
        status = self.deployment.wait_for_server(ROUND_TIMEOUT_S)
        self.note(f"the server ended with status {status}")
        assert status == 0
        summary = self.deployment.summary()
        assert summary["rounds"] == ROUNDS
        assert summary["failures"] == {}
        assert summary["model_sha256"] == reference.model_sha256
        slowest = max(seconds(self.deployment).values())
        self.note(f"slowest round {slowest:.1f} s")
        assert slowest < TURN_S
        self.deployment.stop_all()
        for name in self.deployment.institutions:
            check_ledger(self.deployment, name, rounds=ROUNDS)


def seconds(deployment: Deployment) -> dict[int, float]:
    """Return how long each round took, as the coordinator measured it."""
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in (deployment.run_dir / "metrics.jsonl").read_text().splitlines()
    ]
    return {line["round"]: line["value"] for line in lines if line["name"] == "seconds"}


@contextmanager
def trial(reference: Reference, target: str) -> Iterator[Trial]:
    with Deployment(run_overrides=reference.overrides) as deployment:
        going = Trial(deployment, random.Random(f"{SEED} {target}"))
        print(f"\nCONFIDE_KILLS_SEED={SEED}, {target}:")
        going.begin()
        yield going
        going.complete(reference)


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("target", ["superlink", "front", "rounds"])
def test_a_process_of_the_coordinator_is_killed_twice(target: str, reference: Reference) -> None:
    with trial(reference, target) as going:
        for _ in range(2):
            going.wait_at_random()
            going.kill(f"server/{target}")
            going.wait_for_a_round()


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("target", ["trainer", "executor", "supernode"])
def test_a_process_of_two_institutions_is_killed(target: str, reference: Reference) -> None:
    with trial(reference, target) as going:
        for name in going.chance.sample(HOSPITALS, 2):
            going.wait_at_random()
            going.kill(f"{name}/{target}")
            going.wait_for_a_round()


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_confide_server_is_killed_twice_and_resumed(reference: Reference) -> None:
    with trial(reference, "server") as going:
        for _ in range(2):
            going.wait_at_random()
            going.kill_command("server")
            going.deployment.resume_server()
            going.wait_for_a_round()


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_confide_client_is_killed_twice_and_started_again(reference: Reference) -> None:
    with trial(reference, "client") as going:
        for name in going.chance.sample(HOSPITALS, 2):
            going.wait_at_random()
            going.kill_command(name)
            going.deployment.start_client(name)
            going.wait_for_a_round()
