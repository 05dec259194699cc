"""Real runs of a few seconds, and a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from report_run import run

_CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def private_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hospitals at epsilon 3, one of which fails in round 1, with both baselines."""
    fault = "simulation.faults=[{kind: raises, client: Hungary, rounds: [1]}]"
    return run(tmp_path_factory.mktemp("private"), "privacy=record", "privacy.epsilon=3", fault)


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without privacy, baselines and faults."""
    return run(tmp_path_factory.mktemp("plain"), "simulation.baselines=[]", "strategy=fedadam")


@pytest.fixture(
    scope="module"
)  # it runs an event loop in this thread, which later tests must not find
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    path = next((found for name in _CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"none of {', '.join(_CHROMIUM)} is installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
