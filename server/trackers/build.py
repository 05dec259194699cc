"""From the config to trackers, each imported with its library only where it is chosen."""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path

from confide.config.custom import implementation
from confide.config.run import Config
from confide.config.tracking import TRACKERS, TrackingConfig
from confide.errors import ConfigError
from confide.server.run_folder import described, flat
from confide.server.trackers.fan_out import FanOut
from confide.server.trackers.tracker import Tracker

_METHODS = ("begin", "log", "finish")


@contextlib.contextmanager
def tracked(config: Config, run_dir: Path, *, job: str) -> Iterator[FanOut]:
    """Begin a run with the trackers that are chosen, and end it as stopped where nobody ended it.

    Args:
        config: of the run.
        run_dir: RUN.
        job: its name.

    Raises:
        ConfigError: if one cannot be imported, or cannot work as it is set.
    """
    trackers = FanOut(
        {name: build_tracker(name, config.tracking) for name in config.tracking.chosen()}
    )
    try:
        trackers.begin(f"{job} {run_dir.name}", flat(described(config)), run_dir)
        yield trackers
    finally:
        trackers.finish(None)


def build_tracker(name: str, settings: TrackingConfig) -> Tracker:
    """Import and make one tracker.

    Args:
        name: of one that comes with confide, or a dotted path.
        settings: the group ``tracking``.

    Raises:
        ConfigError: if it cannot be imported.
    """
    if name not in TRACKERS:
        return _custom(name)
    kind = TRACKERS[name]
    try:
        tracker: Tracker = implementation(kind.builder)(settings)
    except ImportError as error:
        raise ConfigError(
            f"tracking.trackers=[{name}]: {error}; pip install 'confide[{kind.package}]'."
        ) from None
    return tracker


def _custom(path: str) -> Tracker:
    module, _, name = path.rpartition(".")
    try:
        made: Tracker = getattr(importlib.import_module(module), name)()
    except Exception as error:  # whatever that module does as it is imported
        raise ConfigError(
            f"tracking.trackers=[{path}]: {type(error).__name__}: {error}; expected a class that is"
            " made without arguments."
        ) from None
    lacking = [method for method in _METHODS if not callable(getattr(made, method, None))]
    if lacking:
        raise ConfigError(
            f"tracking.trackers=[{path}] has no {', '.join(lacking)}; see"
            " confide.server.trackers.tracker.Tracker."
        )
    return made


__all__ = ["build_tracker", "tracked"]
