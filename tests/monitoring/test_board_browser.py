"""What a person sees of a side's page, in headless Chromium: with and without scripts, by day and
by night, on a desk and on a telephone, and what a screen reader would stumble over.
"""

import os
import time
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from boards_made import (
    HOSTILE,
    add_run,
    ask_now,
    begin,
    busy_institution,
    coordinator,
    end_round,
    institution,
    serving,
)
from browsing import STICKING_OUT, browser
from playwright.sync_api import Browser, Page, expect

from confide.client.monitoring.site import make as make_institution
from confide.server.deployment.watched import Asked, UnderWay
from confide.server.monitoring.site import make as make_coordinator

__all__ = ["browser"]

WIDTHS = (1280, 400)
PAGES = ("new institution", "busy institution", "new coordinator", "busy coordinator")
# A reader may stop it by the first link of the page, and so before it disturbs (WCAG 2.2.1)
STOPPABLE = "meta-refresh"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("boards")
    new = institution(folder / "new")
    busy = busy_institution(folder / "busy")
    idle = coordinator(folder / "idle")
    runs = coordinator(folder / "runs", "Cleveland", "VA Long Beach", HOSTILE, "a" * 60)
    log = add_run(runs, folder / "run")
    begin(log, absent={HOSTILE: "budget_exhausted: asked 4.878, allowed 4, committed 3"})
    for number in (1, 2, 3):
        end_round(log, folder / "run", number, refused={"a" * 60: "no_reply"})
    (folder / "run" / "report.html").write_text("<title>report</title><h1>The report</h1>")
    asked = dict.fromkeys(runs.institutions, Asked(kind="train", server_round=4, since=time.time()))
    now = UnderWay(
        job="trial",
        folder=str(folder / "run"),
        process=os.getpid(),
        kind="train",
        server_round=4,
        since=time.time(),
        asked=asked,
    )
    ask_now(runs, now)
    with (
        serving(make_institution(new.folder, [])) as first,
        serving(make_institution(busy.folder, ["policy.approval=manual"])) as second,
        serving(make_coordinator(idle.folder, [])) as third,
        serving(make_coordinator(runs.folder, [])) as fourth,
    ):
        yield dict(zip(PAGES, (first, second, third, fourth), strict=True))


def opened(browser: Browser, address: str, said: list[str], **options: object) -> Page:
    page = browser.new_page(**options)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda it: None if it.url.startswith((address, "data:")) else said.append(it.url),
    )
    page.goto(address)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_asks_nobody_and_says_nothing(
    browser: Browser, addresses: dict[str, str], name: str, width: int, scripts: bool, scheme: str
) -> None:
    said: list[str] = []
    page = opened(
        browser,
        addresses[name],
        said,
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=scripts,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(STICKING_OUT) == []
    ground = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    assert page.evaluate("document.querySelectorAll('img, script, [onerror]').length") == 0
    page.close()
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_keeps_a_reader_from_a_page(
    browser: Browser, addresses: dict[str, str], name: str, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    for path, known in (("/?refresh=off", []), ("/", [STOPPABLE])):
        page.goto(addresses[name] + path)
        # The style is the page's own, so that axe need not ask for it by a script
        found = Axe().run(page, options={"preload": False}).response["violations"]
        assert [it["id"] for it in found] == known, found
    page.close()


def test_a_reader_stops_and_starts_the_loading(browser: Browser, addresses: dict[str, str]) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(addresses["busy coordinator"])
    assert page.locator("meta[http-equiv=refresh]").count() == 1
    page.get_by_role("link", name="stop that").click()
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    page.get_by_role("link", name="load it anew every few seconds").click()
    assert page.locator("meta[http-equiv=refresh]").count() == 1
    page.close()


def test_a_page_is_landmarks_headings_and_tables(
    browser: Browser, addresses: dict[str, str]
) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(addresses["busy coordinator"])
    expect(page.get_by_role("heading", level=1)).to_have_text("heart")
    for role in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    there = page.get_by_role("group", name="Institutions", exact=True)
    assert there.get_by_role("columnheader").first.inner_text() == "institution"
    assert page.get_by_role("img", name="Validation accuracy, round by round").count() == 1
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the state"
    page.close()


def test_a_report_opens_from_the_page(browser: Browser, addresses: dict[str, str]) -> None:
    said: list[str] = []
    page = opened(browser, addresses["busy coordinator"], said)
    page.get_by_role("link", name="read it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The report")
    page.close()
    assert said == []
