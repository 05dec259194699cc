"""Templates, tables, and numbers as text."""

import math
from typing import Any

from confide.pages.figures import Picture
from confide.pages.page import Cell, PageTable, Row, style, templates_of
from confide.server.report.intervals import interval
from confide.version import __version__

_PACKAGE = "confide.server.report"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def render(template: str, **values: Any) -> str:
    """Fill in one of the package's templates; in HTML every value is escaped."""
    environment = templates_of(_PACKAGE)
    environment.filters["plain"] = plain
    return environment.get_template(template).render(**values, style=style(), version=__version__)


def plain(text: str) -> str:
    """Return a text with the characters escaped that mean something in Markdown or HTML."""
    # Names come from institutions, which may call themselves anything
    return "".join(
        f"\\{letter}" if letter in "\\`<>[]|#" else letter for letter in " ".join(text.split())
    )


def number(value: float | None) -> str:
    """Return a metric as text."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def written(value: Any) -> str:
    """Return a setting's value as text."""
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)


def drawn(*pictures: Picture | None) -> list[Picture]:
    """Return the pictures that there are."""
    return [it for it in pictures if it is not None]


def measured(metric: str, value: float | None, n: int | None, noise: float | None = None) -> Cell:
    """Return a cell with a metric and, if there is one, its 95 % interval."""
    ends = interval(metric, value, n, noise)
    return Cell(number(value), f"{ends[0]:.2f}–{ends[1]:.2f}" if ends else "")


def size(count: float) -> str:
    """Return a number of bytes as text.

    >>> size(369600)
    '361 KiB'
    """
    power = 0
    # 1000 and not 1024, so that there are never more than three digits before the unit
    while count >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.3g} {_UNITS[power]}"


def duration(seconds: float) -> str:
    """Return a time as text.

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
    "PageTable",
    "Row",
    "drawn",
    "duration",
    "measured",
    "number",
    "plain",
    "render",
    "size",
    "written",
]
