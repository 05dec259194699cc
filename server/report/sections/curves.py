"""The curves of a linear model of a table, drawn: what each column adds, by its value."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from confide.pages.figures import (
    ALONE,
    FEDERATED,
    GRID,
    INK,
    POOLED,
    Picture,
    legend,
    new_grid,
    picture,
)
from confide.pages.wording import abridged
from confide.server.report.marks import short

_FILE = Path("model") / "curves.json"
_COLOURS = (FEDERATED, ALONE, POOLED, INK)
_MOST, _ACROSS, _HEIGHT, _LABELS = 6, 2, 1.45, 5
_LONGEST, _MOST_TICKS = 9, 14
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
Curve = Mapping[str, Any]


def curves_of_columns(folder: Path, part: int = 0) -> Picture | None:
    """Draw curves of RUN's model, those that reach furthest first; None if there are none.

    A column's values stand as far from each other as they are.

    Args:
        folder: folder of the run (RUN).
        part: which of the pictures, each of so many columns, from 0.
    """
    curves = read_curves(folder)
    if curves is None or len(curves["outputs"]) > len(_COLOURS):
        return None
    order = sorted(curves["columns"].items(), key=lambda item: -reach(item[1]))
    shown = order[part * _MOST : (part + 1) * _MOST]
    if not shown:
        return None
    rows = -(-len(shown) // _ACROSS)
    figure, panels = new_grid(rows, _ACROSS, _HEIGHT)
    for panel, (name, curve) in zip(panels, shown, strict=False):
        _draw(panel, name, curve, curves["outputs"])
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    if len(curves["outputs"]) > 1:
        legend(panels[0], "best")
    return picture(
        f"curves{part}",
        figure,
        title=f"What {'further columns add' if part else 'columns add'} to"
        f" {_of(curves['outputs'])}",
        caption=_caption(curves, len(order) - (part + 1) * _MOST),
    )


def read_curves(folder: Path) -> Mapping[str, Any] | None:
    """Read the curves beside RUN's model; None if there are none, or they are damaged."""
    try:
        curves = json.loads((folder / _FILE).read_text())
    except (OSError, ValueError):
        return None
    # A model's folder may have come from elsewhere
    wanted = {"outputs", "exact", "columns", "pairs"}
    return curves if isinstance(curves, dict) and wanted <= curves.keys() else None


def reach(curve: Curve) -> float:
    """Return how far a curve goes from its lowest to its highest point, over all outputs."""
    return max((max(heights) - min(heights) for heights in curve["y"]), default=0.0)


def _draw(axes: Axes, name: str, curve: Curve, outputs: Sequence[str]) -> None:
    is_numeric = curve["kind"] == "numeric"
    places = [float(it) for it in curve["x"]] if is_numeric else list(range(len(curve["x"])))
    axes.axhline(0.0, color=GRID, linewidth=1.0)
    for heights, output, colour in zip(curve["y"], outputs, _COLOURS, strict=False):
        if is_numeric:
            axes.plot(places, heights, color=colour, label=short(output))
        else:
            axes.plot(places, heights, "o", color=colour, markersize=4, label=short(output))
    if is_numeric:
        axes.xaxis.set_major_locator(MaxNLocator(_LABELS))
        axes.xaxis.set_major_formatter(lambda value, _: _number(value))
    else:
        every = -(-len(places) // _MOST_TICKS)
        labels = [abridged(str(it), _LONGEST) for it in curve["x"][::every]]
        axes.set_xticks(places[::every], labels, rotation=90 if len(labels) > 3 else 0)
    axes.set_title(short(name), fontsize=9.5, loc="left", color=INK)


def _number(value: float) -> str:
    for unit, letter in _UNITS:
        if abs(value) >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def _of(outputs: Sequence[str]) -> str:
    return f"the {outputs[0]}" if len(outputs) == 1 else "each output"


def _caption(curves: Mapping[str, Any], others: int) -> str:
    text = (
        "Height: what a value adds, beside the mean of its curve. Between two edges of its cells a"
        " curve is straight."
    )
    if not curves["exact"]:
        text += (
            " All terms of a record are divided by the length of its row, which heights here"
            " take at its longest: they keep their proportions."
        )
    if others > 0:
        text += f" {others} more, which reach less far: in the report or model/curves.json."
    if curves["pairs"]:
        named = ", ".join(" and ".join(pair["columns"]) for pair in curves["pairs"])
        text += f" Surfaces of pairs ({named}) are in model/curves.json."
    return text


__all__ = ["curves_of_columns", "reach", "read_curves"]
