"""Open files, memory and disk of a deployment over hours, and how much each grows."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from deployment_run import Deployment
from scipy import stats

WARM_S = 120.0
"""Of a process's life, left out: it loads records, and its allocator takes what it needs."""
BLOCK_S = 30.0
"""Samples of so long are averaged, since neighbours say much the same."""
_MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One look at a process."""

    seconds: float
    files: int
    memory_mib: float


@dataclass(frozen=True)
class Slope:
    """Growth an hour, with the half width of its 95 % interval; nan where too little was seen."""

    per_hour: float
    half_width: float
    lives: int
    hours: float

    def __str__(self) -> str:
        """Return both, or that too little was seen."""
        if math.isnan(self.per_hour):
            return "too little seen"
        return f"{self.per_hour:+.1f} ± {self.half_width:.1f} an hour"


class Gauges(threading.Thread):
    """Samples every process of a deployment, and its disk.

    Args:
        deployment: that is watched.
        every_s: seconds between two looks.

    Attributes:
        samples: process, and its id, to what was seen of that life.
        disk: kind of file to (rounds done, MiB) at each look.
    """

    def __init__(self, deployment: Deployment, *, every_s: float) -> None:
        super().__init__(daemon=True)
        self._deployment, self._every_s = deployment, every_s
        self._stop_now = threading.Event()
        self.samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        self.disk: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def run(self) -> None:
        """Sample until told to stop."""
        while not self._stop_now.wait(self._every_s):
            now = time.monotonic()
            for process, pid in self._deployment.process_ids().items():
                try:
                    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except OSError:
                    continue  # it was killed just now
                memory = pages * 4096 / _MIB
                self.samples[process, pid].append(Sample(now, files, memory))
            rounds = self._deployment.rounds_done()
            for kind, size in disk_of(self._deployment).items():
                self.disk[kind].append((rounds, size))

    def stop(self) -> None:
        """Stop."""
        self._stop_now.set()
        self.join()

    def roles(self) -> Iterator[tuple[str, Sequence[Sequence[Sample]]]]:
        """Yield what was seen of each kind of process: a sequence a life."""
        roles: dict[str, list[Sequence[Sample]]] = defaultdict(list)
        for (process, _), samples in self.samples.items():
            place, role = process.split("/")
            side = "coordinator" if place == "server" else "institution"
            roles[f"{side} {role}" if role == "supervisor" else role].append(samples)
        yield from sorted(roles.items())


def disk_of(deployment: Deployment) -> Mapping[str, float]:
    """Return the MiB of what a federation keeps on its disks."""
    state = deployment.coordinator_kit / "state"
    database = list(state.glob("superlink.db*"))
    kits = [deployment.kit(name) for name in deployment.institutions]
    places = {
        "SuperLink's database": database,
        "coordinator's state otherwise": [
            path for path in state.rglob("*") if path not in database
        ],
        "RUN": list(deployment.run_dir.rglob("*")),
        "institutions' state": [path for kit in kits for path in (kit / "state").rglob("*")],
        "institutions' ledgers": [path for kit in kits for path in (kit / "ledger").rglob("*")],
    }
    return {kind: sum(map(_size, paths)) / _MIB for kind, paths in places.items()}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # replaced just now
        return 0


@dataclass
class _Blocks:
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def slope(lives: Sequence[Sequence[Sample]], figure: str) -> Slope:
    """Return how much a figure of a kind of process grows an hour.

    One line is fitted to all its lives, each with a height of its own, by least squares of means
    over ``BLOCK_S``; the beginning of each life is left out.
    """
    fitted = [blocks for life in lives if len((blocks := _blocks(life, figure)).times) >= 3]
    times = np.concatenate([np.subtract(b.times, np.mean(b.times)) for b in fitted] or [[]])
    values = np.concatenate([np.subtract(b.values, np.mean(b.values)) for b in fitted] or [[]])
    hours = sum(max(b.times) - min(b.times) for b in fitted) / 3600
    freedom, spread = len(times) - len(fitted) - 1, float(times @ times)
    if freedom < 1:
        return Slope(math.nan, math.nan, len(fitted), hours)
    rise = float(times @ values) / spread
    rest = values - rise * times
    error = math.sqrt(float(rest @ rest) / freedom / spread)
    return Slope(3600 * rise, 3600 * error * float(stats.t.ppf(0.975, freedom)), len(fitted), hours)


def _blocks(life: Sequence[Sample], figure: str) -> _Blocks:
    """Return means over blocks of time of a life but its beginning."""
    found = _Blocks()
    groups: dict[int, list[Sample]] = defaultdict(list)
    for sample in life:
        age = sample.seconds - life[0].seconds
        if age >= WARM_S:
            groups[int(age // BLOCK_S)].append(sample)
    for group in groups.values():
        found.times.append(float(np.mean([sample.seconds for sample in group])))
        found.values.append(float(np.mean([getattr(sample, figure) for sample in group])))
    return found
