"""Templates, tables and how numbers are written."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from confide.server.report.figures import Picture
from confide.server.report.intervals import interval
from confide.version import __version__

_PACKAGE = "confide.server.report"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it says.
        aside: stands small beside it.
        link: where it leads.
    """

    text: str
    aside: str = ""
    link: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        cells: from left to right.
        best: whether it stands out.
    """

    cells: Sequence[Cell]
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        headers: from left to right.
        rows: from top to bottom.
        text: numbers of the columns that hold prose.
    """

    headers: Sequence[str]
    rows: Sequence[Row]
    text: Sequence[int] = ()


def render(template: str, **values: Any) -> str:
    """Fill in one of the package's templates; in HTML all that is filled in is escaped."""
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    style = Markup((files(_PACKAGE) / "templates" / "style.css").read_text())
    return environment.get_template(template).render(**values, style=style, version=__version__)


def plain(text: str) -> str:
    """Escape what Markdown and HTML would take for more than text: names come from institutions."""
    return "".join(
        f"\\{letter}" if letter in "\\`<>[]|#" else letter for letter in " ".join(text.split())
    )


def number(value: float | None) -> str:
    """Write a metric."""
    return "–" if value is None or value != value else f"{value:.3f}"


def written(value: Any) -> str:
    """Write a setting's value."""
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def drawn(*pictures: Picture | None) -> list[Picture]:
    """Leave out what there is nothing to draw for."""
    return [it for it in pictures if it is not None]


def measured(metric: str, value: float | None, n: int | None) -> Cell:
    """Write a metric, and its 95 % interval where there is one."""
    ends = interval(metric, value, n)
    return Cell(number(value), f"{ends[0]:.2f}–{ends[1]:.2f}" if ends else "")


def size(count: float) -> str:
    """Write a number of bytes.

    >>> size(369600)
    '361 KiB'
    """
    power = 0
    while count >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.3g} {_UNITS[power]}"


def duration(seconds: float) -> str:
    """Write a time.

    >>> duration(6.17), duration(93), duration(7384)
    ('6.2 s', '1 min 33 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


__all__ = [
    "Cell",
    "Row",
    "Table",
    "drawn",
    "duration",
    "measured",
    "number",
    "plain",
    "render",
    "size",
    "written",
]
