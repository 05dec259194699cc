"""Runs that stop after a round, as if their process had ended."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import confide.cli
from confide.server.progress.lines import LineProgress
from confide.server.rounds import masked_rounds
from confide.server.rounds.state import RunState
from confide.simulations.engines.preload import CONTEXT, prepare_workers

Simulate = Callable[..., dict[str, Any]]
HEART = ("experiment=heart_disease", "simulation.baselines=[]", "server.num_rounds=6")
PRIVATE = ("privacy=record", "privacy.epsilon=3")
CLIENTS = (
    "strategy.aggregator.weighting=uniform",
    "strategy.mechanism.noise_multiplier=0.5",
    "server.min_clients=1",
)
KINDS: dict[str, tuple[str, ...]] = {
    "fedavg": (),
    "fedadam": ("strategy=fedadam",),
    "feddyn": ("strategy=feddyn",),
    "scaffold": ("strategy=scaffold", *PRIVATE),
    "fednova": (
        *PRIVATE,
        "strategy=fednova",
        "client.local_steps=null",
        "client.sampling_rate=null",
    ),
    "fedexp": ("strategy=fedexp", *PRIVATE),
    "qfedavg": ("strategy=qfedavg",),
    "moon": ("strategy=moon", "backbone=mlp"),
    "private": PRIVATE,
    "fedbuff": (
        *PRIVATE,
        "strategy=fedbuff",
        "strategy.timing.concurrency=3",
        "strategy.timing.buffer_size=2",
        "simulation/delays=uniform",
        "simulation.delays.dropout=0.1",
    ),
    "gaussian": (
        *CLIENTS,
        "strategy/mechanism=gaussian",
        "strategy.mechanism.quantile=0.5",
        "strategy.mechanism.bit_noise=1",
        "strategy/selection=poisson",
        "strategy.selection.probability=0.6",
    ),
    "banded": (
        *CLIENTS,
        "strategy/mechanism=banded",
        "strategy.mechanism.bands=2",
        "strategy/selection=round_robin",
        "strategy.selection.clients_per_round=2",
        "strategy.selection.separation=2",
    ),
    "shared": (
        *CLIENTS,
        "strategy/mechanism=gaussian",
        "strategy.mechanism.honest=2",
        "aggregation=secure",
        "aggregation.simulated=real",
    ),
    "process": (*PRIVATE, "simulation.engine=process", "simulation.workers=2"),
}


class Stopped(BaseException):
    """Stands for a process that ends: nothing catches it."""


class StopAfter(LineProgress):
    """Ends the run when it hears of a round."""

    def __init__(self, server_round: int) -> None:
        super().__init__(Console(file=io.StringIO()), metric="accuracy")
        self._last = server_round

    def round_done(self, state: RunState) -> None:
        if state.server_round == self._last:
            raise Stopped


def stopped(
    run: Simulate, *overrides: str, after: int, name: str = "run", resume: bool = False
) -> None:
    with pytest.raises(Stopped):
        run(*overrides, progress=StopAfter(after), name=name, resume=resume)


def newest(run_dir: Path) -> Path:
    return max((run_dir / "checkpoints").glob("round-*.safetensors"))


def metrics_of(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["name"] != "seconds"]


# As real processes


def confide_simulate(*words: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "confide.cli", "simulate", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd
    )


@contextlib.contextmanager
def started(*words: str) -> Iterator[ForkServerProcess]:
    """Start ``confide simulate`` in a process of its own, forked from one that has imported
    everything.
    """
    prepare_workers()
    process = CONTEXT.Process(target=_main, args=(words,))
    process.start()
    try:
        yield process
    finally:
        if process.is_alive():
            process.kill()
        process.join()


def _main(words: tuple[str, ...]) -> None:
    sys.exit(confide.cli.main(["simulate", *words]))


def killed_at(step: str, server_round: int, words: tuple[str, ...]) -> None:
    """Run until a masked round comes to a step, and end there at once.

    Args:
        step: too_few_in, once vectors came and nothing of them is durable; open_sum, once they are
            and nobody was asked for shares.
        server_round: the round.
        words: of ``confide simulate``.
    """
    goes_on = getattr(masked_rounds, step)

    def dying(*about: object) -> object:
        under_way = getattr(about[-1], "masked", about[-1])
        if under_way.context.server_round == server_round:
            os.kill(os.getpid(), signal.SIGKILL)
        return goes_on(*about)

    setattr(masked_rounds, step, dying)
    confide.cli.main(["simulate", *words])


def kill_when(
    process: ForkServerProcess, ready: Callable[[], bool], *, patience_s: float = 60.0
) -> None:
    end = time.monotonic() + patience_s
    while process.is_alive() and not ready() and time.monotonic() < end:
        time.sleep(0.0005)
    process.kill()
    process.join()
