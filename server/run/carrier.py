"""One process's part of a run, and what stands behind the grid that carries its messages."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flwr.serverapp import Grid

from confide.config.run import Config
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from confide.server.rounds.checkpoint import Checkpoint, CheckpointStore
from confide.server.rounds.exchange import Reach
from confide.server.rounds.outcome import Observer, Outcome
from confide.server.run.outputs import CpuClock, Stopwatch
from confide.server.run.progress_view import ProgressView
from confide.server.run.summary import Findings
from confide.server.run.withdrawal import Withdrawal


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process's part of a run.

    Attributes:
        config: of the run.
        run_dir: RUN.
        job: the run's name.
        secret: 32 bytes that selection, initial tensors and a simulation's layout derive from; a
            process that goes on needs the same.
        progress: shown to whoever watches.
        store: the run's checkpoints.
        checkpoint: where an earlier process left off; None for a new run.
        watch: seconds of each phase, earlier processes' included.
        resumed: rounds after which earlier processes and this one went on.
        withdrawn: those who withdrew: name -> withdrawal.
        observers: who else hears of its rounds.
        cpu: seconds that processors computed, earlier processes' included.
        absent_fn: told who does not take part, and why, before observers hear who does.
    """

    config: Config
    run_dir: Path
    job: str
    secret: bytes
    progress: ProgressView
    store: CheckpointStore
    checkpoint: Checkpoint | None
    watch: Stopwatch
    resumed: Sequence[int]
    withdrawn: Mapping[str, Withdrawal] = field(default_factory=dict)
    observers: Sequence[Observer] = ()
    cpu: CpuClock = field(default_factory=CpuClock)
    absent_fn: Callable[[Mapping[str, str]], None] | None = None

    @property
    def before(self) -> Mapping[str, Any]:
        """What an earlier process kept beside the server's state; empty for a new run."""
        return self.checkpoint.extra if self.checkpoint else {}

    def extra(self) -> dict[str, Any]:
        """Return what a later process needs beside the server's state."""
        # A seed gives the secret again; without one it is nowhere else.
        is_drawn = self.config.simulation.seed is None
        return {
            "job": self.job,
            "secret": self.secret.hex() if is_drawn else None,
            "resumed": list(self.resumed),
            "seconds": self.watch.seconds(),
            "cpu_seconds": self.cpu.seconds(),
        }


class Carrier(Protocol):
    """What stands behind the grid of a run: worker processes, a network, this process."""

    def connect(self) -> AbstractContextManager[tuple[Grid, Reach]]:
        """Open the grid for the run's rounds."""

    def extra(self, server_round: int) -> Mapping[str, Any]:
        """Return what a later process needs of the carrier after a round; JSON."""

    def committed(self) -> None:
        """Hear that the last round is durable, before anybody else hears of it."""

    def concluding(self) -> None:
        """Hear that the last models are about to be scored, before anybody is asked."""

    def findings(self, outcome: Outcome) -> Findings:
        """Find out what is known beyond the rounds: scores, baselines, budgets."""

    def close(self) -> None:
        """End what was started."""


PrepareFn = Callable[[Run, TrainingPlan, Workload], Carrier]
"""Makes ready what will carry a run's messages."""

__all__ = ["Carrier", "PrepareFn", "Run"]
