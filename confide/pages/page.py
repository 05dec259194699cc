"""Tables of a page, and the templates and the style that all pages share."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from confide.terminal import plain

_PACKAGE = "confide.pages"
_TICKED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: text of the cell.
        aside: text in small print after it.
        link: address that the text links to; '' for none.
        mark: ok, wait or bad, where the text is a state; '' where it is not.
    """

    text: str
    aside: str = ""
    link: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        cells: cells, from left to right.
        best: whether the row is highlighted.
    """

    cells: Sequence[Cell]
    best: bool = False


@dataclass(frozen=True)
class PageTable:
    """A table of a page.

    Attributes:
        headers: headers of the columns, from left to right.
        rows: rows, from top to bottom.
        text: positions of the columns that hold prose.
        label: what it is a table of, for who does not see it; '' where the heading before says so.
    """

    headers: Sequence[str]
    rows: Sequence[Row]
    text: Sequence[int] = ()
    label: str = ""

    @classmethod
    def of_texts(
        cls, headers: Sequence[str], rows: Iterable[Sequence[str]], *, text: Sequence[int] = ()
    ) -> "PageTable":
        """Make a table whose cells hold nothing but their texts."""
        return cls(headers, [Row([Cell(it) for it in row]) for row in rows], text)


def templates_of(package: str) -> Environment:
    """Return the templates of a package and those that all pages share.

    In HTML every value is escaped; everywhere what a terminal would obey is, since a card is read
    there too.
    """
    # StrictUndefined: a misspelt name is an error and not an empty place on the page
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(_PACKAGE)]),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["coded"] = coded
    return environment


def _shown(value: Any) -> Any:
    return type(value)(plain(value)) if isinstance(value, str) else value


def coded(text: str) -> Markup:
    """Escape a text for HTML, and set as code what stands between backticks in it.

    >>> coded("<see> `confide doctor`")
    Markup('&lt;see&gt; <code>confide doctor</code>')
    """
    return Markup(_TICKED.sub(r"<code>\1</code>", str(escape(text))))


def style() -> Markup:
    """Return the style of all pages, as CSS."""
    return Markup((files(_PACKAGE) / "templates" / "style.css").read_text())


__all__ = ["Cell", "PageTable", "Row", "coded", "style", "templates_of"]
