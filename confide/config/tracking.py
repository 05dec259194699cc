"""Where metrics go besides RUN: the schema of the group ``tracking``, and which packages its trackers need."""

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import Any, ClassVar

from confide.config.fields import STRICT, setting

TRACKERS: dict[str, str | None] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "csv": None,
}
"""Name of each tracker that comes with confide -> the package it needs, which is also the extra's
name."""


@dataclass
class TrackingConfig:
    """Where metrics go besides ``RUN/metrics.jsonl``. By default nothing leaves this machine.

    ``wandb_mode=online`` and an ``mlflow_uri`` on another machine send metrics, with institutions'
    names, and the config, its passwords masked; no record, no update and no model. Validation and
    test metrics are not protected by DP.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    trackers: list[str] | None = setting(
        None,
        "Any of tensorboard, wandb, mlflow, csv, and dotted paths of one's own (my_pkg.MyTracker);"
        " null: tensorboard where it is installed.",
    )
    project: str = setting("confide", "W&B's project, MLflow's experiment.")
    named_clients: int = setting(
        50,
        "Up to so many institutions each has curves of its own; of more there are mean, least and"
        " largest (csv: every one).",
        ge=0,
    )
    wandb_mode: str = setting(
        "offline",
        "offline: W&B writes under RUN/wandb, for `wandb sync`; online: it sends metrics and config"
        " to its server.",
        choices=("offline", "online", "disabled"),
    )
    mlflow_uri: str | None = setting(None, "MLflow's tracking URI; null: files under RUN/mlruns.")

    def problems(self) -> Iterator[str]:
        """Yield what is unknown, chosen twice, or chosen and not installed."""
        chosen = self.trackers or []
        for name in dict.fromkeys(chosen):
            if chosen.count(name) > 1:
                yield f"trackers={chosen}: {name} stands there twice; once is enough."
            yield from self._missing(name)

    def _missing(self, name: str) -> Iterator[str]:
        if name in TRACKERS:
            package = TRACKERS[name]
            if package is not None and not is_installed(package):
                yield (
                    f"trackers=[{name}]: {name} is not installed; pip install 'confide[{package}]'."
                )
        elif "." not in name:
            yield (
                f"trackers=[{name}]: expected {', '.join(TRACKERS)}, or the dotted path of a class."
            )
        elif not is_installed(name.partition(".")[0]) and not _is_in_current_folder(
            name.partition(".")[0]
        ):
            yield (
                f"trackers=[{name}]: there is no package {name.partition('.')[0]}; install it, or"
                " put it in the current folder or on PYTHONPATH."
            )

    @property
    def custom_trackers(self) -> tuple[str, ...]:
        """Dotted paths among the trackers chosen."""
        return tuple(name for name in self.trackers or () if name not in TRACKERS)

    def chosen(self) -> list[str]:
        """Name the trackers of a run."""
        if self.trackers is not None:
            return list(self.trackers)
        return ["tensorboard"] if is_installed("tensorboard") else []


def is_installed(package: str) -> bool:
    """Say whether a top-level package is there, without importing it."""
    return importlib.util.find_spec(package) is not None


def _is_in_current_folder(package: str) -> bool:
    """Say whether commands would find it there, where they look last."""
    return PathFinder.find_spec(package, [os.getcwd()]) is not None


__all__ = ["TRACKERS", "TrackingConfig", "is_installed"]
