"""Simulations run in this process, seen by nobody."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from confide.config.composing.compose import compose
from confide.server.progress.lines import LineProgress
from confide.server.run.progress_view import ProgressView
from confide.simulations.run import simulate

Simulate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def run(tmp_path: Path, feature_cache: Path) -> Simulate:
    """Simulate with overrides into ``tmp_path / name``, or go on with what is there, and return
    the summary.
    """

    def simulated(
        *overrides: str,
        name: str = "run",
        resume: bool = False,
        without: Sequence[str] = (),
        progress: ProgressView | None = None,
    ) -> dict[str, Any]:
        config = compose([f"trainer.feature_cache={feature_cache}", *overrides])
        view = progress or LineProgress(Console(file=io.StringIO()), metric="accuracy")
        return simulate(config, tmp_path / name, progress=view, resume=resume, without=without)

    return simulated
