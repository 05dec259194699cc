"""What every run measures and leaves, simulated or deployed.

Seconds of each phase, tensors, versions.
"""

import functools
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import flwr
import numpy
import torch
from safetensors.torch import save_file

from confide.server.rounds.outcome import Outcome
from confide.storage.files import replace_file
from confide.version import __version__


class Stopwatch:
    """Seconds spent in each phase.

    Args:
        seconds: of earlier processes of the same run.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds = dict(seconds)
        self._under_way: tuple[str, float] | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside."""
        self._under_way = name, time.perf_counter()
        try:
            yield
        finally:
            # Also after an error: a checkpoint that follows counts the time all the same.
            self._seconds, self._under_way = self.seconds(), None

    def seconds(self) -> dict[str, float]:
        """Return what was spent so far, the phase under way included."""
        if self._under_way is None:
            return dict(self._seconds)
        name, started = self._under_way
        return self._seconds | {name: self._seconds.get(name, 0.0) + time.perf_counter() - started}


class CpuClock:
    """Seconds that processors computed for a run.

    Args:
        seconds: of earlier processes of the same run: who -> seconds.
    """

    def __init__(self, seconds: Mapping[str, float] = MappingProxyType({})) -> None:
        self._before = dict(seconds)
        self._started = _cpu_seconds()

    def seconds(self) -> dict[str, float]:
        """Return what this process used, and worker processes that have ended, so far."""
        return {
            who: self._before.get(who, 0.0) + now - self._started[who]
            for who, now in _cpu_seconds().items()
        }


def _cpu_seconds() -> dict[str, float]:
    used = {"this process": resource.RUSAGE_SELF, "its workers": resource.RUSAGE_CHILDREN}
    found = {}
    for who, which in used.items():
        one = resource.getrusage(which)
        found[who] = one.ru_utime + one.ru_stime
    return found


def save_models(folder: Path, outcome: Outcome) -> None:
    """Write the last tensors, and the best ones if any were validated."""
    models = {"last": outcome.state.params} | (
        {"best": outcome.state.best.params} if outcome.state.best else {}
    )
    for name, tensors in models.items():
        # safetensors refuses tensors that are not contiguous.
        whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
        replace_file(folder / f"{name}.safetensors", functools.partial(save_file, whole))


def versions() -> dict[str, str]:
    """Return the releases that a run rests on."""
    return {
        "confide": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "flwr": flwr.__version__,
        "opacus": version("opacus"),
        "numpy": numpy.__version__,
    }


__all__ = ["CpuClock", "Stopwatch", "save_models", "versions"]
