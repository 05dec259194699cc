"""What a page and a model card show of a regression's test."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from confide.pages.figures import FEDERATED, MUTED, Picture, new_axes, picture
from confide.server.report.blocks import Block
from confide.server.report.read import RunFiles
from confide.server.report.render import Cell, PageTable, Row, drawn, number, plain
from confide.server.report.sections.class_sentences import percent, percent_within
from confide.server.report.sections.tables import (
    counted,
    institutions_block,
    metrics_block,
    with_interval,
)

_LARGEST_DOT = 60.0
_NEARLY_ALL, _NARROWEST = 0.98, 1 / 9
"""Share of the residuals that a figure shows; its narrowest cell, as a share of its reach."""
_ENOUGH = 0.5
"""Share of the predictions that the card's first distance holds, at least."""


def regression_section(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[Block]:
    """Return the blocks on a regression, from top to bottom."""
    blocks = [metrics_block(evaluation)]
    if evaluation.get("groups"):
        blocks.append(
            Block(
                title="Predicted and actual numbers",
                paragraphs=[_mean(evaluation)],
                pictures=drawn(predicted_and_actual(evaluation), residuals(evaluation)),
                tables=[_groups(evaluation)],
            )
        )
    if evaluation.get("residuals", {}).get("within"):
        blocks.append(Block(title="How far off predictions are", tables=[_within(evaluation)]))
    institutions = institutions_block(evaluation)
    return [*blocks, *([institutions] if institutions else [])]


def regression_card(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[str]:
    """Return the model card's paragraphs: how far predictions are off."""
    if "counted" not in evaluation:
        return []
    said = [_mean(evaluation)]
    for one in evaluation.get("residuals", {}).get("within", []):
        if (one["share"]["value"] or 0.0) >= _ENOUGH:
            said.append(
                f"{percent_within(one['share'])} of the predictions are within"
                f" {_short(one['distance'])} of the number."
            )
            break
    return [plain(paragraph) for paragraph in (*said, counted(evaluation))]


def _mean(evaluation: Mapping[str, Any]) -> str:
    actual, (low, high) = evaluation["actual"], evaluation["range"]
    ends = actual["interval"]
    more = f" ({_short(ends[0])} to {_short(ends[1])})" if ends else ""
    value = "unknown" if actual["value"] is None else _short(actual["value"])
    return (
        f"“{evaluation['column']}”, a number from {low:g} to {high:g}, is {value}{more} on average."
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _groups(evaluation: Mapping[str, Any]) -> PageTable:
    rows = [
        Row(
            [
                Cell(f"{_short(group['from'])} to {_short(group['to'])}"),
                Cell(f"{group['records']:,.0f}"),
                Cell(number(group["predicted"])),
                with_interval(group["actual"]),
            ]
        )
        for group in evaluation["groups"]
    ]
    return PageTable(["predicted", "records", "predicted, mean", "actual, mean"], rows)


def _within(evaluation: Mapping[str, Any]) -> PageTable:
    rows = [
        Row([Cell(_short(one["distance"])), Cell(percent_within(one["share"]))])
        for one in evaluation["residuals"]["within"]
    ]
    return PageTable(["off by no more than", "share of the predictions (95 % interval)"], rows)


def predicted_and_actual(evaluation: Mapping[str, Any]) -> Picture | None:
    """Draw mean numbers against predictions, by groups of predictions."""
    groups = [group for group in evaluation["groups"] if group["actual"]["value"] is not None]
    if not groups:
        return None
    figure, axes = new_axes(3.6)
    told = [(group["predicted"], group["actual"]["value"]) for group in groups]
    ends = min(map(min, told)), max(map(max, told))
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle="--")
    largest = max(group["records"] for group in groups)
    for group, (x, y) in zip(groups, told, strict=True):
        if group["actual"]["interval"]:
            low, high = group["actual"]["interval"]
            axes.vlines(x, low, high, color=FEDERATED, linewidth=3, alpha=0.3)
        size = max(8.0, _LARGEST_DOT * group["records"] / largest)
        axes.scatter([x], [y], s=[size], color=FEDERATED)
    axes.plot(*zip(*told, strict=True), color=FEDERATED, linewidth=1)
    axes.set(xlabel=f"predicted {evaluation['column']}", ylabel="actual, mean")
    return picture(
        "predicted",
        figure,
        title="Predicted and actual",
        caption=(
            "Each dot is a group of records with similar predictions, larger for more of them;"
            " bars: 95 % intervals of the mean. On the dashed line it is what the model predicts."
        ),
    )


def residuals(evaluation: Mapping[str, Any]) -> Picture | None:
    """Draw how densely residuals lie, from where nearly all of them are."""
    found = evaluation.get("residuals")
    if not found:
        return None
    edges, counts = found["edges"], found["records"]
    reach = _reach(edges, counts)
    # Cells near 0 are narrow octaves: with few records a density of each would be a chance's
    kept = [
        place
        for place, edge in enumerate(edges)
        if edge == 0 or reach * _NARROWEST <= abs(edge) <= reach
    ]
    figure, axes = new_axes(3.6)
    usual, shown = reach / 4, 0.0
    for low, high in itertools.pairwise(kept):
        count = max(0.0, sum(counts[low:high]))
        shown += count
        width = edges[high] - edges[low]
        axes.bar(
            edges[low] + width / 2,
            count * usual / width,
            width=0.97 * width,
            color=FEDERATED,
            alpha=0.75,
        )
    axes.axvline(0, color=MUTED, linewidth=1, linestyle="--")
    axes.set(ylabel=f"records / {_short(usual)}", xlabel="predicted less actual")
    axes.grid(visible=False, axis="x")
    total = max(sum(max(0.0, it) for it in counts), 1.0)
    beyond = max(0.0, 1 - shown / total)
    caption = "Left of 0 the prediction is too low, right of it too high."
    if beyond > 0.0005:
        caption += f" {percent(beyond)} are farther off."
    if evaluation["noise"]:
        caption += " Counts hold noise."
    return picture("residuals", figure, title="Residuals", caption=caption)


def _reach(edges: Sequence[float], counts: Sequence[float]) -> float:
    """Return the smallest distance that nearly all predictions are off by no more than."""
    held = [max(0.0, it) for it in counts]
    for reach in sorted({abs(edge) for edge in edges[1:-1]} - {0.0}):
        cells = zip(itertools.pairwise(edges), held, strict=True)
        inside = sum(it for (low, high), it in cells if -reach <= low and high <= reach)
        if inside >= _NEARLY_ALL * sum(held):
            return reach
    return float(edges[-1])


__all__ = ["predicted_and_actual", "regression_card", "regression_section", "residuals"]
