"""A real browser, and what of a page it finds wrong."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

_CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# Elements that stick out of the window, but for what scrolls by itself.
STICKING_OUT = """() => [...document.querySelectorAll('main *')]
    .filter(it => !it.closest('.scroll') && !it.closest('svg'))
    .filter(it => it.getBoundingClientRect().right > innerWidth + 1)
    .map(it => it.outerHTML.slice(0, 99))"""


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
