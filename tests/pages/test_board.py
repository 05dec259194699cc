"""The page of a side: complete without a script, whatever others are called."""

import re
from typing import get_args

import pytest

from confide.pages.board import (
    REFRESH_S,
    Advice,
    Board,
    Budget,
    Mark,
    Section,
    board_style,
    render_board,
)
from confide.pages.page import Cell, PageTable, Row, coded

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def board(*sections: Section, text: str = "ward", mark: Mark = "ok") -> Board:
    return Board(
        title=text, subtitle=text, mark=mark, state=text, sections=sections, written="2026"
    )


def everything(text: str) -> Section:
    return Section(
        name="all",
        title=text,
        paragraphs=[text],
        advice=[Advice(says=text, fix=text, command=text)],
        budgets=[Budget(name=text, spent=1, committed=2, limit=4, note=text)],
        table=PageTable([text], [Row([Cell(text, text, mark="bad")]), Row([Cell(text)])], (), text),
        notes=[text],
    )


def test_texts_of_others_are_texts_everywhere() -> None:
    page = render_board(board(everything(HOSTILE), text=HOSTILE), refreshes=True)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 14


def test_backticks_set_code_and_nothing_else() -> None:
    assert coded("`<b>` and `c`") == "<code>&lt;b&gt;</code> and <code>c</code>"
    assert coded("a ` alone") == "a ` alone"


def test_a_page_is_loaded_anew_unless_its_reader_stopped_that() -> None:
    refresh = f'<meta http-equiv="refresh" content="{REFRESH_S}">'
    page = render_board(board(), refreshes=True)
    assert refresh in page
    assert '<a href="?refresh=off">stop that</a>' in page
    still = render_board(board(), refreshes=False)
    assert "http-equiv" not in still
    assert 'href="?"' in still


@pytest.mark.parametrize("mark", get_args(Mark))
def test_a_state_is_in_the_title_too(mark: Mark) -> None:
    page = render_board(board(mark=mark), refreshes=False)
    assert (
        re.search(r"<title>(.*)ward", page)[1]
        == {"ok": "", "wait": "(waits) ", "bad": "(!) "}[mark]
    )


def test_what_is_empty_says_so_and_nothing_else_does() -> None:
    empty = Section(name="none", title="None", empty="Nothing yet.")
    page = render_board(board(empty, everything("full")), refreshes=False)
    assert page.count("Nothing yet.") == 1
    assert "<table>" not in page.partition('id="all"')[0]


@pytest.mark.parametrize(
    ("budget", "shares", "left"),
    [
        (Budget(name="b", spent=1, committed=2, limit=4), (25, 50), 2),
        (Budget(name="b", spent=5, committed=6, limit=4), (100, 100), 0),
        (Budget(name="b", spent=0, committed=0, limit=0), (100, 100), 0),
    ],
)
def test_a_bar_never_leaves_its_frame(
    budget: Budget, shares: tuple[float, float], left: float
) -> None:
    assert (budget.share(budget.spent), budget.share(budget.committed)) == shares
    assert budget.left == left


def test_no_style_is_escaped_or_asks_for_anything() -> None:
    css = board_style()
    assert "&" not in css
    assert "url(" not in css
    assert "@import" not in css


def test_what_turns_or_hides_other_texts_is_written_out() -> None:
    for odd in ("a\u202eb", "a\u2066b", "\x1b[2J", "\udcff", "\x00"):
        page = render_board(board(everything(odd), text=odd), refreshes=True)
        assert odd not in page
        assert page.encode()
        assert ascii(odd)[1:-1] in page
