"""The page of a check, as people see it."""

from dataclasses import replace
from pathlib import Path

import pytest
from browsing import STICKING_OUT
from drift_profiles import profile
from playwright.sync_api import Browser

from confide.client.drift.findings import Report, compare
from confide.client.drift.kept import Categories
from confide.client.drift.page import as_json, drift_page, in_words
from confide.client.drift.pictures import MOST_PICTURES, pictures
from confide.config.drift import DriftConfig


def drifted() -> Report:
    return compare(profile(0), profile(1, shift=1.0, ill=0.6), DriftConfig())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out_and_nothing_is_loaded(
    width: int, scheme: str, browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "drift.html"
    page.write_text(drift_page(drifted()))
    shown = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    asked: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(page.as_uri())
    assert shown.evaluate(STICKING_OUT) == []
    assert asked == [page.as_uri()]
    assert shown.title() == "Drift: 2 alarms"
    shown.close()


def test_names_from_records_are_text_and_no_markup() -> None:
    before = profile(0)
    odd = {"<b>age</b>\x1b[2J": Categories({"<i>$x$</i>": 200, "y": 100})}
    now = {"<b>age</b>\x1b[2J": Categories({"<i>$x$</i>": 50, "y": 250})}
    report = compare(replace(before, columns=odd), replace(profile(1), columns=now), DriftConfig())
    page = drift_page(report)
    assert "<b>age" not in page
    assert "<i>$x" not in page
    assert r"&lt;b&gt;age&lt;/b&gt;\x1b[2J" in page
    assert "\x1b" not in page


def test_of_many_columns_the_most_changed_are_drawn() -> None:
    few = {f"c{n}": Categories({"a": 150 + n, "b": 150 - n}) for n in range(40)}
    report = compare(
        replace(profile(0), columns=few, predictions={}, labels={}),
        replace(profile(1), columns=dict(zip(few, reversed(few.values()), strict=True))),
        DriftConfig(),
    )
    drawn = [it.title for it in pictures(report)]
    assert drawn[-1] == "Calibration"
    assert len(drawn) == MOST_PICTURES + 1


def test_words_and_json_tell_the_same() -> None:
    report = drifted()
    told, lines = as_json(report), list(in_words(report))
    assert (told["verdict"], told["alarms"]) == ("drift", len(report.alarms))
    for finding, line in zip(report.alarms, lines[1:], strict=False):
        assert finding.sentence in line


def test_what_the_figures_are_is_said_beside_them() -> None:
    report = drifted()
    last = list(in_words(report))[-1]
    assert last.startswith("  (PSI: population stability index")
    assert f"adjusted for all {report.tests} tests together" in last
    assert "adjusted p: the same, so that it holds for all" in drift_page(report)


def test_a_probability_too_small_for_a_float_is_not_called_certain() -> None:
    """Only a column that is missing is certain; of a test the effect is told all the same."""
    report = drifted()
    [first, *others] = report.findings
    tiny = replace(first, p_value=0.0, adjusted=0.0, is_alarm=True)
    shown = replace(report, findings=(tiny, *others))
    assert "certain" not in drift_page(shown)
    lines = list(in_words(shown))
    assert "(certain)" not in "".join(lines)
    assert lines[1].endswith("p <0.0001)")
