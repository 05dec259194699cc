"""A federation whose processes wait at instants of a masked round, so that a test kills there."""

import os
import shutil
import signal
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import instants
from deployment_run import Deployment, wait_until

from confide.client.commands.ledger import main as ledger_command
from confide.client.ledger.file import LedgerFile

AT_THE_SERVER = frozenset({"asks", "some_vectors", "committed", "some_shares", "opened"})
"""Instants of the coordinator's; the others are an institution's."""


@dataclass(eq=False)
class HeldDeployment(Deployment):
    """A deployment with :mod:`instants` in each of its processes."""

    number: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.instants.mkdir()
        shutil.copy(instants.__file__, self.instants / "sitecustomize.py")
        before = os.environ.get("PYTHONPATH", "")
        self.environment |= {"PYTHONPATH": f"{self.instants}{os.pathsep}{before}"}

    @property
    def instants(self) -> Path:
        return self.folder / "instants"

    def hold(self, instant: str, server_round: int, name: str) -> Path:
        """Have the coordinator, or an institution's trainer, wait at an instant of a round."""
        place = self.run_dir if instant in AT_THE_SERVER else self.kit(name)
        self.number += 1
        asked = self.instants / f"{instant}-{server_round}-{self.number}.asked"
        asked.with_suffix(".new").write_text(str(place))
        asked.with_suffix(".new").rename(asked)
        return asked.with_suffix(".reached")

    @contextmanager
    def held(
        self, instant: str, server_round: int, names: Iterable[str], timeout_s: float = 300.0
    ) -> Iterator[None]:
        """Wait until all have come to an instant; let them go on afterwards."""
        reached = [self.hold(instant, server_round, name) for name in names]
        server = self.started["server"]
        wait_until(
            lambda: all(it.exists() for it in reached) or server.poll() is not None,
            timeout_s=timeout_s,
            what=f"{instant} of round {server_round}",
        )
        assert server.poll() is None, f"the run ended before {instant} of round {server_round}"
        yield
        for it in reached:
            it.unlink()

    def kill(self, process: str) -> None:
        """Kill a process that a supervisor told of, such as ``Hungary/trainer``."""
        wait_until(
            lambda: process in self.process_ids(), timeout_s=20, what=f"{process} is running"
        )
        os.kill(self.process_ids()[process], signal.SIGKILL)

    def kill_institution(self, name: str) -> None:
        """Kill all processes of an institution at once: its supervisor first."""
        killed = self.started.pop(name)
        told = [
            pid for process, pid in self.process_ids().items() if process.startswith(f"{name}/")
        ]
        killed.kill()
        for pid in told:
            if pid != killed.pid and Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        killed.wait()
        wait_until(
            lambda: not any(_runs(pid) for pid in told), timeout_s=10, what=f"{name} is gone"
        )

    def bring_back(self, name: str) -> None:
        """Start an institution again, and wait until it is connected."""
        log = self.kit(name) / "state" / "logs" / "supernode.log"
        before = log.stat().st_size
        self.start_client(name)
        wait_until(
            lambda: b"SuperNode ID" in log.read_bytes()[before:],
            timeout_s=150,
            what=f"{name} is connected",
        )

    def check_sums(self, name: str, *, rounds: int, survivors: Collection[Sequence[str]]) -> None:
        """Hold an institution's ledger against what may be in it of the job's masked sums.

        Args:
            name: of the institution.
            rounds: that it reserved; each has one vector, and so have the scores at the end.
            survivors: the only sets that a sum was opened for.
        """
        path = self.kit(name) / "ledger" / "everybody.ledger"
        assert ledger_command(["verify", str(path)]) == 0
        file = LedgerFile(path)
        (run,) = (
            run
            for run in file.state.populations["everybody"].runs.values()
            if run.terms.job == self.job
        )
        reserved = sorted(it.server_round for it in run.rounds.values())
        assert len(reserved) == len(set(reserved)) == rounds
        events = [event.content for event in file.log.events if event.kind == "unmask"]
        digests = [event["digest"] for event in events]
        assert len(digests) == len(set(digests))
        assert {tuple(event["survivors"]) for event in events} <= set(map(tuple, survivors))
        masked = [event.content["digest"] for event in file.log.events if event.kind == "mask"]
        assert len(masked) == len(set(masked)) <= rounds + 1
        assert set(digests) <= set(masked)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
