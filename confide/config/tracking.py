"""Settings of the group ``tracking``: trackers of metrics, and the packages that they need."""

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting


@dataclass(frozen=True, kw_only=True)
class TrackerKind:
    """A tracker that comes with confide: an entry of :data:`TRACKERS`.

    Attributes:
        builder: dotted name of a function :class:`TrackingConfig` -> Tracker, imported when chosen.
        package: that it needs, which is also the extra's name; None for none.
    """

    builder: str
    package: str | None = None


TRACKERS: dict[str, TrackerKind] = {
    "tensorboard": TrackerKind(
        builder="confide.server.trackers.tensorboard.make_tracker", package="tensorboard"
    ),
    "wandb": TrackerKind(builder="confide.server.trackers.wandb.make_tracker", package="wandb"),
    "mlflow": TrackerKind(builder="confide.server.trackers.mlflow.make_tracker", package="mlflow"),
    "csv": TrackerKind(builder="confide.server.trackers.csv.make_tracker"),
}
"""Trackers that come with confide, by name."""


@dataclass
class TrackingConfig:
    """Trackers that receive metrics besides ``RUN/metrics.jsonl``; by default all are local.

    ``wandb_mode=online`` and an ``mlflow_uri`` on another machine send metrics, with institutions'
    names, and the config with its passwords masked; no record, no update and no model. Validation
    and test metrics are not protected by differential privacy.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    trackers: list[str] | None = setting(
        None,
        "Names of trackers: tensorboard, wandb, mlflow, csv, and dotted paths of custom ones"
        " (my_pkg.MyTracker); null: tensorboard if it is installed.",
    )
    project: str = setting("confide", "Name of W&B's project and MLflow's experiment.")
    named_clients: int = setting(
        50,
        "Largest number of institutions that have curves of their own; of more than that, mean,"
        " smallest and largest are shown (csv: each one).",
        ge=0,
    )
    wandb_mode: str = setting(
        "offline",
        "Mode of W&B. offline: it writes under RUN/wandb, for `wandb sync`; online: it sends"
        " metrics and config to its server.",
        choices=("offline", "online", "disabled"),
    )
    mlflow_uri: str | None = setting(None, "Tracking URI of MLflow; null: files under RUN/mlruns.")

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each tracker that is unknown, chosen twice or not installed."""
        chosen = self.trackers or []
        for name in dict.fromkeys(chosen):  # each once, in order
            if chosen.count(name) > 1:
                yield f"trackers={chosen}: {name} is listed twice; once is enough."
            yield from self._missing(name)

    def _missing(self, name: str) -> Iterator[str]:
        if name in TRACKERS:
            package = TRACKERS[name].package
            if package is not None and not is_installed(package):
                yield (
                    f"trackers=[{name}]: {name} is not installed; pip install 'confide[{package}]'."
                )
        elif "." not in name:
            yield (
                f"trackers=[{name}]: expected {', '.join(TRACKERS)}, or the dotted path of a class."
            )
        else:
            package = name.partition(".")[0]
            # Commands look in the current folder last, which is not on sys.path yet at this point
            here = PathFinder.find_spec(package, [os.getcwd()])
            if not is_installed(package) and here is None:
                yield (
                    f"trackers=[{name}]: there is no package {package}; install it, or put it in"
                    " the current folder or on PYTHONPATH."
                )

    @property
    def custom_trackers(self) -> tuple[str, ...]:
        """Dotted paths of the custom trackers chosen."""
        return tuple(name for name in self.trackers or () if name not in TRACKERS)

    def chosen(self) -> list[str]:
        """Return the names of a run's trackers."""
        if self.trackers is not None:
            return list(self.trackers)
        return ["tensorboard"] if is_installed("tensorboard") else []


def is_installed(package: str) -> bool:
    """Say whether a top-level package is installed, without importing it."""
    # Of a dotted name, find_spec would import what comes before the last dot.
    return importlib.util.find_spec(package) is not None


__all__ = ["TRACKERS", "TrackerKind", "TrackingConfig", "is_installed"]
