"""Compares rounds on Ray with rounds on worker processes of the same machine.

    python benchmarks/cluster.py [mlp] [cnn]

Two engines of as many workers run jobs of the same federation in turn. For each, the processor time
of this process and of all that the engine started is taken, Ray's own servers included, and the
wall time of its rounds. Printed are medians over the turns.
"""

import argparse
import contextlib
import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from cases import CNN, MLP, Case, make_trainer
from workers import Parts, Workers

from confide.config.simulation import RayConfig
from confide.simulations.cluster.engine import ray_engine
from confide.simulations.engines.pool_engine import PoolEngine


def on_ray(case: Case, parts: Parts, count: int) -> PoolEngine:
    """Return an engine over actors, on a Ray of this machine's own."""
    return ray_engine(
        case.data(),
        make_trainer=functools.partial(make_trainer, case),
        initial=parts.initial,
        setup=parts.setup,
        config=RayConfig(),
        workers=count,
    )


def below(pid: int) -> Iterator[int]:
    """Yield the processes that a process started, and those that these started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(stat.parent.name)
                yield from below(int(stat.parent.name))


def cpu_s(pids: set[int]) -> float:
    """Return the processor time of processes, those of their ended children left out."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Measured:
    """One engine: what it started, and what its rounds cost."""

    def __init__(self, make: Callable[[], Workers]) -> None:
        before, began = set(below(os.getpid())), time.perf_counter()
        self.workers = make()
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.workers.run(2)
        self.start_s = time.perf_counter() - began
        self._pids = {os.getpid(), *below(os.getpid())} - before

    def turn(self, rounds: int) -> None:
        """Run a job."""
        before, began = cpu_s(self._pids), time.perf_counter()
        self.workers.run(rounds)
        self.cpu.append(cpu_s(self._pids) - before)
        self.wall.append(time.perf_counter() - began)


def compare(case: Case, *, turns: int, rounds: int, workers: int) -> None:
    """Print what a client's round costs on either."""
    process = Measured(lambda: Workers(case, workers))
    ray = Measured(lambda: Workers(case, workers, on_ray))
    try:
        for _ in range(turns):
            process.turn(rounds)
            ray.turn(rounds)
    finally:
        ray.workers.engine.close()
        process.workers.engine.close()
    clients = case.num_clients * (rounds + 1)
    for kind in ("cpu", "wall"):
        one, other = getattr(process, kind), getattr(ray, kind)
        ratios = sorted(b / a for a, b in zip(one, other, strict=True))
        print(
            f"{case.name}, {case.num_clients} clients, {workers} workers, {kind}: process"
            f" {1e3 * statistics.median(one) / clients:.2f} ms a client-round, ray"
            f" {1e3 * statistics.median(other) / clients:.2f}; ratio of medians"
            f" {statistics.median(other) / statistics.median(one):.3f}, of turns"
            f" {ratios[0]:.3f} to {ratios[-1]:.3f}"
        )
    print(f"start and two rounds: process {process.start_s:.1f} s, ray {ray.start_s:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=["mlp", "cnn"])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.cases:
        case = {"mlp": MLP, "cnn": CNN}[name]
        compare(case, turns=arguments.turns, rounds=arguments.rounds, workers=arguments.workers)


if __name__ == "__main__":
    main()
