"""Figures as inline SVG that take the page's colours, light or dark.

Text stays text (searchable, in the page's font), colours become CSS variables, and ids are made
unique, so that many figures share one page.
"""

import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Stand-ins for the page's colours, which no figure uses for anything else: matplotlib accepts no
# CSS variables, so that these are replaced in its output.
INK, MUTED, GRID, FEDERATED, ALONE, POOLED, PAPER = (f"#0{n}0{n}0{n}" for n in range(1, 8))
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    FEDERATED: "federated",
    ALONE: "alone",
    POOLED: "pooled",
    PAPER: "paper",
}
_BY_DAY = {
    "ink": "#1b1f27",
    "muted": "#5b6472",
    "grid": "#e2e5ea",
    "federated": "#2557c7",
    "alone": "#b4540a",
    "pooled": "#0a7a54",
    "paper": "#ffffff",
}
"""The page's colours by day, as in ``confide/pages``'s style: for a picture outside a page."""
_WIDTH = 5.4  # inches: 389 units, which a telephone shows at its own size
_STYLE: Mapping[str, Any] = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 10.5,
    "grid.color": GRID,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # an institution may be called $A$
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure of a page.

    Attributes:
        title: title above the figure, which screen readers read in its place.
        caption: text below the figure that explains its marks.
        svg: drawing, as an SVG element.
    """

    title: str
    caption: str
    svg: str


def new_axes(height: float) -> tuple[Figure, Axes]:
    """Return an empty figure in the style of the report.

    Args:
        height: height in inches.
    """
    # Figure and not pyplot, which would register it globally and keep it in memory
    with matplotlib.rc_context(dict(_STYLE)):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        return figure, figure.add_subplot()


def new_grid(rows: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of several panels, row by row; ``height`` is one row's, in inches."""
    with matplotlib.rc_context({**_STYLE, "font.size": 9.0}):
        figure = Figure(figsize=(_WIDTH, height * rows), layout="constrained")
        return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def legend(axes: Axes, place: str) -> None:
    """Add a legend at ``place``, such as ``lower right``."""
    axes.legend(loc=place, frameon=False, labelcolor=INK)


def picture(name: str, figure: Figure, *, title: str, caption: str) -> Picture:
    """Turn a figure into inline SVG.

    Args:
        name: name that is unique on its page, of letters and digits.
        figure: figure made by :func:`new_axes`.
        title: title of the picture.
        caption: text that explains its marks.
    """
    stream = io.StringIO()
    # Without a date and with a fixed salt, so that the same run gives the same page
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Names in scripts that matplotlib's font lacks: text stays text, in the page's own font
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        FigureCanvasSVG(figure).print_svg(stream, metadata=nothing)
    return Picture(title=title, caption=caption, svg=_inline(stream.getvalue(), name, title))


def standalone(one: Picture) -> str:
    """Return a picture as a file of its own, in the page's colours by day."""
    svg = one.svg
    for variable, colour in _BY_DAY.items():
        svg = svg.replace(f"var(--{variable})", colour)
    return svg.replace("<title>", '<rect width="100%" height="100%" fill="white"/><title>', 1)


def _inline(text: str, name: str, title: str) -> str:
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids hold for the whole page: two figures with the same id would share clip paths and marks
    svg = re.sub(r'\b(id=")([^"]+)"', rf'\1{name}-\2"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    # The page's font, and not matplotlib's
    svg = re.sub(
        r"font-family: [^;]*; ?|<defs>\s*<style[^>]*>.*?</style>\s*</defs>",
        "",
        svg,
        flags=re.DOTALL,
    )
    opening = re.search(r"<svg[^>]*>", svg)
    assert opening is not None
    box = re.search(r'viewBox="([^"]+)"', opening.group())
    assert box is not None
    head = f'<svg viewBox="{box.group(1)}" role="img" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return f"{head}<title>{escape(title)}</title>{svg[opening.end() :]}".strip()


__all__ = [
    "ALONE",
    "FEDERATED",
    "GRID",
    "INK",
    "MUTED",
    "PAPER",
    "POOLED",
    "Picture",
    "legend",
    "new_axes",
    "new_grid",
    "picture",
    "standalone",
]
