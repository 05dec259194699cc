"""The page that a side shows of itself: a state in one sentence, then sections.

Written on the server and complete as it comes: it runs no script and loads nothing but its style.
It is loaded anew every few seconds, unless its reader has stopped that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, Protocol

from confide.pages.page import PageTable, style, templates_of
from confide.terminal import plain
from confide.version import __version__

REFRESH_S = 10
Mark = Literal["ok", "wait", "bad"]
"""All is well; something is waited for, or soon wrong; something is wrong."""


class Drawing(Protocol):
    """A picture as an element of SVG."""

    @property
    def title(self) -> str:
        """Title above it, which screen readers read in its place."""

    @property
    def caption(self) -> str:
        """Text below it that explains its marks."""

    @property
    def svg(self) -> str:
        """The element, with no style that the page's policy would not let through."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Something to do, or to know of.

    Attributes:
        says: what is the case, as a sentence.
        fix: what to do, as a sentence; '' for nothing.
        command: command to type; '' for none.
        mark: how bad it is.
    """

    says: str
    fix: str = ""
    command: str = ""
    mark: Mark = "bad"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A budget as a bar; all numbers in the same unit, at least 0.

    Attributes:
        name: whose it is.
        spent: what is gone.
        committed: what is gone or promised, at least ``spent``.
        limit: what there is; at most 0: nothing.
        note: what else is to be known of it.
    """

    name: str
    spent: float
    committed: float
    limit: float
    note: str = ""

    @property
    def left(self) -> float:
        """What is neither spent nor promised."""
        return max(0.0, self.limit - self.committed)

    def share(self, amount: float) -> float:
        """Return an amount in hundredths of the limit, 0 to 100."""
        return min(100.0, max(0.0, 100.0 * amount / self.limit)) if self.limit > 0 else 100.0


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page; what it does not have is left out.

    Attributes:
        name: of its address on the page: letters and dashes.
        title: heading.
        paragraphs: sentences.
        advice: what is to be done.
        budgets: bars.
        drawings: pictures.
        table: table.
        empty: sentence that stands there if there is no advice, bar, picture or row.
        notes: sentences in small print at the end.
        narrow: whether half of a wide page is enough for it.
    """

    name: str
    title: str
    paragraphs: Sequence[str] = ()
    advice: Sequence[Advice] = ()
    budgets: Sequence[Budget] = ()
    drawings: Sequence[Drawing] = ()
    table: PageTable | None = None
    empty: str = ""
    notes: Sequence[str] = ()
    narrow: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it shows nothing but sentences."""
        rows = self.table.rows if self.table is not None else ()
        return not (self.advice or self.budgets or self.drawings or rows)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A side's page.

    Attributes:
        title: whose page it is.
        subtitle: what more says whose it is.
        mark: of the state.
        state: the state in one sentence.
        sections: parts, from top to bottom.
        written: time at which it was made, as text.
    """

    title: str
    subtitle: str
    mark: Mark
    state: str
    sections: Sequence[Section]
    written: str


def render_board(board: Board, *, refreshes: bool) -> str:
    """Write the page.

    Args:
        board: what it shows; every text is escaped, and what would turn or hide others is written
            out.
        refreshes: whether it is loaded anew by itself.
    """
    template = templates_of(__package__).get_template("board.html.j2")
    refresh_s = REFRESH_S if refreshes else 0
    return plain(template.render(board=board, refresh_s=refresh_s, version=__version__))


def board_style() -> str:
    """Return the style of these pages, as CSS: that of reports, and what is theirs."""
    return str(style()) + (files(__package__) / "templates" / "board.css").read_text()


__all__ = [
    "REFRESH_S",
    "Advice",
    "Board",
    "Budget",
    "Drawing",
    "Mark",
    "Section",
    "board_style",
    "render_board",
]
