"""Names of columns, labels and categories that are long: pages break or cut them, none overlap."""

import pytest
from browsing import STICKING_OUT, browser
from markupsafe import Markup
from playwright.sync_api import Browser

from confide.pages.page import Cell, PageTable, Row, style, templates_of
from confide.pages.wording import abridged, in_digits

__all__ = ["browser"]

LONG = "temperature_deviation_from_seasonal_average_degrees_celsius"
OVERLAPPING = """() => {
    const boxes = [...document.querySelectorAll('h3')].map(it => {
        const range = document.createRange();
        range.selectNodeContents(it);
        return range.getBoundingClientRect();
    });
    return boxes.some((one, at) => boxes.slice(at + 1).some(other =>
        Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1 &&
        Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 1));
}"""


def page_of_long_names() -> str:
    figures = [{"title": LONG, "svg": Markup("<svg></svg>"), "caption": LONG}] * 3
    rows = [Row([Cell(LONG), *(Cell("0.812", "0.78-0.84") for _ in range(6))])]
    return (
        templates_of("confide.client.drift")
        .get_template("drift.html.j2")
        .render(
            title=LONG,
            table=PageTable(["group", *"abcdef"], rows, text=(), label="groups"),
            tiles=[],
            alarms=[f"{LONG}: values are lower"],
            drawn=figures,
            skipped=[LONG],
            holds=LONG,
            model=LONG,
            reference=LONG,
            now=LONG,
            rule=LONG,
            legend=LONG,
            meaning=[LONG],
            style=style(),
            version="1",
        )
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_long_names_break_and_do_not_overlap(width: int, browser: Browser) -> None:
    shown = browser.new_page(viewport={"width": width, "height": 900})
    shown.set_content(page_of_long_names())
    assert shown.evaluate(STICKING_OUT) == []
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    assert not shown.evaluate(OVERLAPPING)
    # The figures beside a long name are in sight where there is room
    if width == 1280:
        assert shown.evaluate(
            "(it => it.scrollWidth <= it.clientWidth)(document.querySelector('.scroll'))"
        )
    shown.close()


def test_names_that_begin_alike_stay_apart() -> None:
    names = [f"Krankenhaus der Barmherzigen Brüder {number:02}" for number in range(40)]
    assert len({abridged(name, 9) for name in names}) == 40
    assert all(len(abridged(name, 9)) == 9 for name in names)


def test_large_numbers_have_no_exponent() -> None:
    assert in_digits(-164200.0) == "-164,200"
    assert in_digits(1e-7) == "1e-07"
