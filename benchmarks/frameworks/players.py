"""Who is measured, each in a process of its own, and the pipe that hands out rounds.

``python -m frameworks.players NAME SHAPE ...`` is such a process; :class:`Player` is its other end.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from vectorised import SHAPES, Shape

from frameworks.turns import HandedOut, Kept, replies

_STEPS_OF_CHECK = 4
_CLIENTS_OF_CHECK = 20
# Sums in another order differ by less; another learning rate, batch or weight by far more
_SAME = 1e-4
_ENDS_S = 10


@dataclass(frozen=True, kw_only=True)
class Framework:
    """One of those who are measured.

    Attributes:
        module: of this package, whose `run` runs rounds.
        package: whose version is told.
        options: further arguments of `run`.
        private: whether it trains under DP-SGD, a record as the unit.
        note: what it does that others do not, and what it was given.
    """

    module: str
    package: str
    options: Mapping[str, str] | None = None
    private: bool = False
    note: str

    def load(self) -> Callable[..., None]:
        """Import it."""
        run: Callable[..., None] = importlib.import_module(f"frameworks.{self.module}").run
        return functools.partial(run, **self.options or {})


def _engine(name: str, note: str) -> Framework:
    options = {"engine": name}
    return Framework(module="engines", package="confide", options=options, private=True, note=note)


FRAMEWORKS: Mapping[str, Framework] = {
    "loop": Framework(
        module="loops",
        package="torch",
        private=True,
        note="torch's SGD on batches drawn by index, updates averaged in float64; private: Opacus"
        " with one private model a client, made before the first round",
    ),
    "confide inline": _engine("inline", "messages, the institution's checks, noise by AES"),
    "confide process": _engine("process", "the same in two worker processes"),
    "confide vectorised": _engine(
        "vectorised", "all clients of a round in one program where the model is linear layers"
    ),
    "confide ray": _engine("ray", "two actors of Ray"),
    "pfl": Framework(
        module="pfl_research",
        package="pfl",
        note="batches in one order in all rounds, cut once; clips and adds noise by client, at the"
        " server, which is another guarantee and not compared",
    ),
    "FedLab": Framework(
        module="fedlab_serial",
        package="fedlab",
        note="a torch DataLoader for each client and round; updates copied twice",
    ),
    "fluke": Framework(
        module="fluke_fl",
        package="fluke-fl",
        private=True,
        note="a model and an optimizer kept for each client; progress bars, which nobody sees;"
        " private: its DPFedAVG on Opacus",
    ),
    "Flower on Ray": Framework(
        module="flower_ray",
        package="flwr",
        private=True,
        note="two actors of Ray; messages are written out and go through Ray's store; its client"
        " trains as the bare loop does; private: Opacus, set up in each round",
    ),
}


def checked(shape: Shape) -> Shape:
    """Return a shape whose round comes to the same in whatever order records and clients are.

    The same number of steps on all of a client's records at once, and a few clients of whom
    everybody takes part.
    """
    clients = min(shape.clients, _CLIENTS_OF_CHECK)
    size = shape.sizes[0]
    return replace(shape, clients=clients, cohort=None, batch_size=size, epochs=_STEPS_OF_CHECK)


def gap(name: str, shape: Shape) -> float:
    """Return how far a framework's weights are from the bare loop's after one round."""
    kept = {who: Kept() for who in ("loop", name)}
    for who, turns in kept.items():
        FRAMEWORKS[who].load()(checked(shape), turns, rounds=1)
    mine, loops = kept[name].weights, kept["loop"].weights
    return max((one - other).abs().max().item() for one, other in zip(mine, loops, strict=True))


class Player:
    """A process that runs a framework's rounds when it is told to.

    Args:
        name: of the framework.
        shapes: names of what it runs, one after the other.
        rounds: of each.
        log: where what it prints goes.
    """

    def __init__(self, name: str, shapes: Sequence[str], *, rounds: int, log: Path) -> None:
        command = [sys.executable, "-m", "frameworks.players", name, str(rounds), *shapes]
        with log.open("w") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True
            )
        self._log = log
        self._heard: queue.Queue[str] = queue.Queue()
        # A pipe says nothing of the lines that were read from it too early, and has no time limit
        threading.Thread(target=self._listen, daemon=True).start()

    def turn(self, timeout_s: float) -> dict[str, Any]:
        """Hand out a turn, and return what the process says of it."""
        assert self._process.stdin is not None
        try:
            print(file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return {"failed": self._last_words()}
        return self.hear(timeout_s)

    def hear(self, timeout_s: float) -> dict[str, Any]:
        """Return what the process says next."""
        try:
            line = self._heard.get(timeout=timeout_s)
        except queue.Empty:
            self.end()
            return {"failed": f"nothing was heard of it for {timeout_s:.0f} s"}
        if not line:
            self._heard.put("")  # for whoever asks again
            return {"failed": self._last_words()}
        said: dict[str, Any] = json.loads(line)
        return said

    def end(self) -> None:
        """Have it end, and what it has started with it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(_ENDS_S)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(line)
        self._heard.put("")

    def _last_words(self) -> str:
        lines = self._log.read_text().strip().splitlines()
        return lines[-1] if lines else "it ended without a word"


def play(name: str, shape: Shape, turns: HandedOut, *, rounds: int) -> None:
    """Check a framework against the bare loop, and run its rounds.

    Raises:
        ValueError: the framework does not do the bare loop's work.
    """
    framework = FRAMEWORKS[name]
    # Noise is everybody's own: nothing to hold side by side
    far = None if shape.private else gap(name, shape)
    if far is not None and not far <= _SAME:
        raise ValueError(f"after one round its weights are {far:.0e} from the bare loop's")
    version = importlib.metadata.version(framework.package)
    turns.reply(version=version, gap=far)
    framework.load()(shape, turns, rounds=rounds)


def main() -> None:
    name, rounds, *shapes = sys.argv[1:]
    # What frameworks print must not get between the lines of the pipe
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    turns = HandedOut(sys.stdin, replies(out))
    for shape in shapes:
        try:
            play(name, SHAPES[shape], turns, rounds=int(rounds))
            turns.reply(over=True)
        except Exception as error:
            turns.reply(failed=f"{type(error).__name__}: {error}".splitlines()[0])


if __name__ == "__main__":
    main()
