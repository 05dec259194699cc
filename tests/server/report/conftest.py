"""Real runs of a few seconds, and a real browser."""

from pathlib import Path

import pytest
from browsing import browser
from report_run import run

__all__ = ["browser"]


@pytest.fixture(scope="session")
def private_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hospitals at epsilon 3, one of which fails in round 1, with both baselines."""
    fault = "simulation.faults=[{kind: raises, client: Hungary, rounds: [1]}]"
    return run(tmp_path_factory.mktemp("private"), "privacy=record", "privacy.epsilon=3", fault)


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without privacy, baselines and faults."""
    return run(tmp_path_factory.mktemp("plain"), "simulation.baselines=[]", "strategy=fedadam")
