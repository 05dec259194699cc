"""The figures of a page of statistics: histograms, categories, missing values, correlations."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.axes import Axes

from confide.pages.figures import (
    ALONE,
    FEDERATED,
    INK,
    MUTED,
    Picture,
    new_axes,
    picture,
)
from confide.server.report.marks import name_rows, short

_WIDE = 16
"""Cells of a histogram that are equally wide."""
_NAMED_CELLS = 12
_MOST_ROWS = 40


def histogram(place: int, name: str, column: Mapping[str, Any]) -> Picture:
    """Draw a numeric column's histogram, with the interval of each count.

    Args:
        place: of the column, which makes its picture's name unique.
        name: of the column.
        column: its figures.
    """
    figure, axes = new_axes(2.1)
    edges, counts = column["histogram"]["edges"], column["histogram"]["counts"]
    widths = [high - low for low, high in itertools.pairwise(edges)]
    usual = (edges[-1] - edges[0]) / _WIDE
    in_octaves = min(widths) < 0.9 * usual
    places = list(range(len(edges))) if in_octaves else list(edges)
    # Of cells that institutions merged: as high as the records in a usual one
    heights = [1.0 if in_octaves else usual / width for width in widths]
    for (left, right), height, count in zip(
        itertools.pairwise(places), heights, counts, strict=True
    ):
        width, value = right - left, height * (count["value"] or 0.0)
        axes.bar(left, value, width=0.94 * width, align="edge", color=FEDERATED, alpha=0.75)
        if count["high"] > count["low"]:
            ends = (height * count["low"], height * count["high"])
            axes.vlines(left + width / 2, *ends, color=INK, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("records" if max(heights) - min(heights) < 1e-6 else f"records / {usual:.3g}")
    axes.grid(visible=False, axis="x")
    if in_octaves:
        step = max(1, len(edges) // 6)
        axes.set_xticks(places[::step], [f"{edge:.2g}" for edge in edges[::step]])
    caption = _caption(column)
    if in_octaves:
        caption += " Cells get narrower towards the minimum, and are drawn alike."
    return picture(f"histogram{place}", figure, title=name, caption=caption)


def _caption(column: Mapping[str, Any]) -> str:
    quantiles = column.get("quantiles", {})
    median = quantiles.get("0.5", {}).get("value")
    words = "" if median is None else f"Median {median:.3g}. "
    lines = any(it["high"] > it["low"] for it in column["histogram"]["counts"])
    return words + ("Lines: what noise or a floor leaves open of each count." if lines else "")


def categories(place: int, name: str, counts: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Draw the counts of categories, or of labels."""
    shown = list(counts.items())[:_MOST_ROWS]
    figure, axes = new_axes(0.75 + 0.27 * len(shown))
    for row, (_, count) in enumerate(reversed(shown)):
        if count["value"] is not None:
            axes.barh(row, count["value"], height=0.6, color=FEDERATED, alpha=0.75)
        if count["high"] > count["low"]:
            axes.hlines(row, count["low"], count["high"], color=INK, linewidth=1)
    name_rows(axes, [short(str(category)) for category, _ in reversed(shown)])
    axes.set_xlim(left=0)
    axes.set_xlabel("records")
    held = any(count["value"] is None for _, count in shown)
    open_ = any(count["high"] > count["low"] for _, count in shown)
    caption = "Lines: what noise or a floor leaves open of each count." if open_ else ""
    caption += " No bar: too few to be told." if held else ""
    if len(counts) > len(shown):
        caption += f" {len(counts) - len(shown)} more categories are in statistics.json."
    return picture(f"categories{place}", figure, title=name, caption=caption.strip())


def missing(found: Mapping[str, Any]) -> Picture | None:
    """Draw the share of missing values: of each institution that is shown, and of all."""
    rows = {
        **{name: it["columns"] for name, it in list(found["institutions"].items())[:_MOST_ROWS]},
        "all together": found["federation"]["columns"],
    }
    columns = list(found["federation"]["columns"])
    if not columns:
        return None
    figure, axes = new_axes(1.1 + 0.27 * len(rows))
    for place, shares in enumerate(reversed(rows.values())):
        for column, name in enumerate(columns):
            _share(axes, column, place, shares[name]["missing"], named=len(columns) <= 14)
    axes.set_xticks(range(len(columns)), map(short, columns), rotation=60, ha="right")
    axes.set_yticks(range(len(rows)), [short(name) for name in reversed(rows)])
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    axes.grid(visible=False)
    return picture(
        "missing",
        figure,
        title="Share of missing values, in %",
        caption="< and ~: an upper end, or a middle, of what noise or a floor leaves open.",
    )


def _share(axes: Axes, column: int, row: int, share: Mapping[str, Any], *, named: bool) -> None:
    unsure = share["value"] is None
    value = share["high"] if unsure else min(max(share["value"], 0.0), 1.0)
    _rectangle(axes, column, row, FEDERATED, 0.0 if unsure else 0.75 * value)
    if named:
        text = f"<{100 * value:.0f}" if unsure else f"{100 * value:.0f}"
        if not unsure and share["high"] - share["low"] > 0.05:
            text = f"~{text}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=INK)


def _rectangle(axes: Axes, column: int, row: int, colour: str, alpha: float) -> None:
    # Rectangles and not an image, whose colours could not follow the page
    axes.fill_between(
        [column - 0.5, column + 0.5], row - 0.5, row + 0.5, color=colour, alpha=alpha, linewidth=0
    )


def correlations(pairs: Mapping[str, Mapping[str, Any]]) -> Picture | None:
    """Draw correlations of numeric columns as shades: one colour a sign."""
    names = _names(pairs)
    if all(one["value"] is None for one in pairs.values()):
        return None
    figure, axes = new_axes(1.2 + 0.3 * len(names))
    for name, one in pairs.items():
        first, _, second = name.partition(" / ")
        row, column = names.index(second), names.index(first)
        _correlation(axes, column, len(names) - 1 - row, one, named=len(names) <= _NAMED_CELLS)
    axes.set_xticks(range(len(names) - 1), map(short, names[:-1]), rotation=60, ha="right")
    axes.set_yticks(range(len(names) - 1), [short(name) for name in reversed(names[1:])])
    axes.set(xlim=(-0.5, len(names) - 1.5), ylim=(-0.5, len(names) - 1.5))
    axes.grid(visible=False)
    return picture(
        "correlations",
        figure,
        title="Correlations of numeric columns",
        caption=(
            "Blue: positive; orange: negative. In brackets: 0 lies in the interval. ?: nothing can"
            " be told."
        ),
    )


def _names(pairs: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(part for pair in pairs for part in pair.split(" / ")))


def _correlation(axes: Axes, column: int, row: int, one: Mapping[str, Any], *, named: bool) -> None:
    value = one["value"]
    sure = value is not None and (one["low"] > 0 or one["high"] < 0 or one["low"] == one["high"])
    if sure:
        colour = FEDERATED if value > 0 else ALONE
        _rectangle(axes, column, row, colour, 0.75 * min(abs(value), 1.0))
    if named:
        text = "?" if value is None else f"{value:.2f}" if sure else f"({value:.2f})"
        colour = INK if sure else MUTED
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=colour)


__all__ = ["categories", "correlations", "histogram", "missing"]
