"""Weights & Biases.

Offline, which is the default, everything stays under ``RUN/wandb``; ``wandb sync`` sends it. Online
these leave the machine, and nothing else: metrics, with institutions' names; the config, passwords
masked; how the run ended. Code, git state, the command line, the machine's description, installed
packages, system metrics and the terminal are switched off.
"""

import netrc
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from confide.errors import ConfigError
from confide.server.trackers.run_id import keep_id, kept_id
from confide.server.trackers.scalars import Scalar, Scalars, final_scores
from confide.server.trackers.tracker import Metric

os.environ.setdefault(
    "WANDB_ERROR_REPORTING", "false"
)  # crash reports to W&B; read when wandb is imported

import wandb

_LOGIN = (
    "tracking.wandb_mode=online: no API key of W&B is set; run `wandb login`, or choose"
    " tracking.wandb_mode=offline."
)
_SETTINGS: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "init_timeout": 30,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


class WandbTracker:
    """Logs curves over ``round`` as one W&B run.

    Args:
        project: of W&B's.
        mode: offline, online or disabled.
        named_clients: up to so many institutions each has curves of its own.
    """

    def __init__(self, project: str, mode: str, named_clients: int) -> None:
        self._project, self._mode = project, mode
        self._scalars = Scalars(named_clients)
        self._rows = 0

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Begin a W&B run, or go on with the one that an earlier process began.

        Raises:
            ConfigError: if it is to send and has no key.
        """
        if self._mode == "online" and not _has_key():
            raise ConfigError(_LOGIN)
        before = kept_id(run_dir, "wandb")
        run_id = before or uuid4().hex[:8]
        keep_id(run_dir, "wandb", run_id)
        _forget_unsent(run_dir, run_id)
        self._run = wandb.init(
            project=self._project,
            id=run_id,
            name=name,
            dir=run_dir,
            config=dict(config),
            resume="allow" if self._mode == "online" else None,
            settings=wandb.Settings(mode=self._mode, **_SETTINGS),
        )
        self._there = self._run.starting_step if self._mode == "online" else 0
        self._run.define_metric("round")
        self._run.define_metric("*", step_metric="round")

    def log(self, metrics: Sequence[Metric]) -> None:
        """Log a row a round, each once: rows are counted, and the server says how many it has."""
        for row in _rows(list(self._scalars.of(metrics))):
            if self._rows >= self._there:
                self._run.log(row, step=self._rows)
            self._rows += 1

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """End the W&B run; one that was stopped counts as crashed until it goes on."""
        if summary is not None:
            told = {
                name: summary[name]
                for name in ("status", "rounds", "model_sha256", "error")
                if name in summary
            }
            self._run.summary.update({**told, **final_scores(summary)})
        self._run.finish(
            exit_code=0 if summary is not None and summary["status"] == "completed" else 1
        )


def _rows(scalars: Sequence[Scalar]) -> Iterator[dict[str, float]]:
    for step, points in groupby(scalars, lambda scalar: scalar.step):
        yield {"round": step, **{tag: value for tag, _, value in points}}


def _has_key() -> bool:
    """Say whether W&B can log in without asking whoever sits at the terminal."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        keys = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return keys.authenticators(urlsplit(wandb.Settings().base_url).hostname or "") is not None


def _forget_unsent(run_dir: Path, run_id: str) -> None:
    """Remove what an earlier process wrote and nobody has sent: all of it is written again."""
    for folder in (run_dir / "wandb").glob(f"offline-run-*-{run_id}"):
        if not list(folder.glob("*.synced")):
            shutil.rmtree(folder, ignore_errors=True)


__all__ = ["WandbTracker"]
