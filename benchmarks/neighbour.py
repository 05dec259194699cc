"""Measures what another busy process does to the rounds of a simulation.

    python benchmarks/neighbour.py experiment=heart_disease
    python benchmarks/neighbour.py experiment=tweets --neighbours 2 trainer.num_threads=2

Neighbours are Python loops, stopped and set going by turns, a few rounds each, so that whatever
else the machine does befalls quiet rounds and busy ones alike. Printed are medians of a round, wall
and CPU seconds of all threads, and the ratio of the wall medians: at most 1.3 beside one neighbour
on two cores. Three single-threaded processes on two cores cannot do better than 1.5.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from confide.config.composing.compose import compose
from confide.protocol.messages import Evaluation
from confide.server.progress.lines import QuietProgress
from confide.server.rounds.state import RunState
from confide.simulations.run import simulate

_LOOP = "while True: pass"
_IN_TURN = 3
"""Rounds until it is the other's turn; the first of each turn is not counted."""


class Neighbours:
    """Busy processes, stopped at first.

    Args:
        number: of them.
    """

    def __init__(self, number: int) -> None:
        self._processes = [subprocess.Popen([sys.executable, "-c", _LOOP]) for _ in range(number)]
        self.busy = True
        self.let(busy=False)

    def let(self, *, busy: bool) -> None:
        """Set them going, or stop them."""
        self.busy = busy
        for process in self._processes:
            process.send_signal(signal.SIGCONT if busy else signal.SIGSTOP)

    def end(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.wait()


class ByTurns(QuietProgress):
    """Times rounds, beside stopped and beside busy neighbours.

    Args:
        neighbours: set going and stopped every few rounds.
    """

    def __init__(self, neighbours: Neighbours) -> None:
        super().__init__(metric="accuracy")
        self._neighbours, self._rounds = neighbours, 0
        self._began = time.perf_counter(), time.process_time()
        self.wall: dict[bool, list[float]] = {False: [], True: []}
        self.cpu: dict[bool, list[float]] = {False: [], True: []}

    def started(self, clients: Mapping[str, int]) -> None:
        """Begin to measure."""
        super().started(clients)
        self._began = time.perf_counter(), time.process_time()

    def round_done(self, state: RunState) -> None:
        """Keep a round's seconds, and change turns."""
        now, spent = time.perf_counter(), time.process_time()
        if self._rounds % _IN_TURN:
            self.wall[self._neighbours.busy].append(now - self._began[0])
            self.cpu[self._neighbours.busy].append(spent - self._began[1])
        self._rounds += 1
        if self._rounds % _IN_TURN == 0:
            self._neighbours.let(busy=not self._neighbours.busy)
        self._began = time.perf_counter(), time.process_time()

    def evaluated(
        self, split: str, server_round: int, evaluations: Mapping[str, Evaluation]
    ) -> None:
        """Show nothing."""


@contextlib.contextmanager
def neighbours(number: int) -> Iterator[Neighbours]:
    """Start neighbours, and end them."""
    found = Neighbours(number)
    try:
        yield found
    finally:
        found.end()


def compare(overrides: list[str], *, number: int, rounds: int) -> float:
    """Return the ratio of a round's median wall times, beside busy neighbours and stopped ones."""
    config = compose(
        [*overrides, f"server.num_rounds={rounds}", "simulation.baselines=[]", "tracking=none"]
    )
    with neighbours(number) as beside, tempfile.TemporaryDirectory() as folder:
        by_turns = ByTurns(beside)
        simulate(config, Path(folder) / "run", progress=by_turns)
    quiet, busy = (statistics.median(by_turns.wall[it]) for it in (False, True))
    cpu = [statistics.median(by_turns.cpu[it]) for it in (False, True)]
    print(
        f"{' '.join(overrides)}, {number} busy on {os.cpu_count()} cores: quiet {quiet:.3f} s"
        f" ({cpu[0]:.3f} s of CPU), busy {busy:.3f} s ({cpu[1]:.3f}), ratio {busy / quiet:.2f}"
    )
    return busy / quiet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", default=["experiment=heart_disease"])
    parser.add_argument("--neighbours", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=36)
    given = parser.parse_intermixed_args()
    compare(given.overrides, number=given.neighbours, rounds=given.rounds)


if __name__ == "__main__":
    main()
