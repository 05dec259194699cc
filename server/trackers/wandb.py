"""Weights & Biases, offline or online.

Offline, which is the default, everything stays under ``RUN/wandb``; ``wandb sync`` sends it. Online
it receives metrics with institutions' names, the config with passwords masked, the run's status,
and nothing else: code, git state, command line, description of the machine, installed packages,
system metrics and terminal output are switched off.
"""

import netrc
import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from confide.config.tracking import TrackingConfig
from confide.errors import ConfigError
from confide.server.trackers.run_id import keep_id, kept_id
from confide.server.trackers.scalars import Scalars, final_scores
from confide.server.trackers.tracker import Metric

# Crash reports to W&B; read when wandb is imported.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

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
        project: name of W&B's project.
        mode: offline, online or disabled.
        named_clients: largest number of institutions that get separate curves.
    """

    def __init__(self, project: str, mode: str, named_clients: int) -> None:
        self._project, self._mode = project, mode
        self._scalars = Scalars(named_clients)
        self._rows = 0

    def begin(self, name: str, config: Mapping[str, object], run_dir: Path) -> None:
        """Begin a W&B run, or continue the one that an earlier process began.

        Raises:
            ConfigError: if the mode is online and no API key is set.
        """
        # Otherwise wandb would ask for the key at the terminal, and the run would wait for it.
        if self._mode == "online" and not _has_key():
            raise ConfigError(_LOGIN)
        before = kept_id(run_dir, "wandb")
        run_id = before or uuid4().hex[:8]
        keep_id(run_dir, "wandb", run_id)
        # Of an offline run everything is written again, so what nobody has sent yet would be sent
        # twice.
        for folder in (run_dir / "wandb").glob(f"offline-run-*-{run_id}"):
            if not list(folder.glob("*.synced")):
                shutil.rmtree(folder, ignore_errors=True)
        self._run = wandb.init(
            project=self._project,
            id=run_id,
            name=name,
            dir=run_dir,
            config=dict(config),
            resume="allow" if self._mode == "online" else None,
            settings=wandb.Settings(mode=self._mode, **_SETTINGS),
        )
        self._logged_rows = self._run.starting_step if self._mode == "online" else 0
        self._run.define_metric("round")
        self._run.define_metric("*", step_metric="round")

    def log(self, metrics: Sequence[Metric]) -> None:
        """Log one row per round, except those that an earlier process logged."""
        # W&B ignores steps before its last one. Its step is therefore the number of rows and not
        # the round, which several rows may share.
        for step, points in groupby(self._scalars.of(metrics), lambda scalar: scalar.step):
            if self._rows >= self._logged_rows:
                row = {tag: value for tag, _, value in points}
                self._run.log({"round": step, **row}, step=self._rows)
            self._rows += 1

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """End the W&B run; one that was stopped counts as crashed until it is resumed."""
        if summary is not None:
            names = ("status", "rounds", "model_sha256", "error")
            result = {name: summary[name] for name in names if name in summary}
            self._run.summary.update({**result, **final_scores(summary)})
        self._run.finish(
            exit_code=0 if summary is not None and summary["status"] == "completed" else 1
        )


def _has_key() -> bool:
    """Return whether W&B can log in without asking at the terminal."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        keys = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return keys.authenticators(urlsplit(wandb.Settings().base_url).hostname or "") is not None


def make_tracker(settings: TrackingConfig) -> WandbTracker:
    """Make it of its settings."""
    return WandbTracker(settings.project, settings.wandb_mode, settings.named_clients)


__all__ = ["WandbTracker", "make_tracker"]
