"""Tables that sections on several kinds of outcome share: metrics, and those of institutions."""

from collections.abc import Mapping
from typing import Any

from confide.server.report.blocks import Block
from confide.server.report.marks import NAMED
from confide.server.report.render import Cell, PageTable, Row, number
from confide.server.report.sections.class_sentences import listed_names


def with_interval(figure: Mapping[str, Any] | None, digits: int | None = None) -> Cell:
    """Return a figure's cell, its 95 % interval in small print.

    Args:
        figure: with ``value`` and ``interval``; None for nothing.
        digits: of the ends of the interval; None: as many as a metric has.
    """
    if figure is None or figure["value"] is None:
        return Cell("–")
    ends = figure["interval"]
    if not ends:
        return Cell(number(figure["value"]))
    low, high = (number(it) if digits is None else f"{it:.{digits}f}" for it in ends)
    return Cell(number(figure["value"]), f"{low}–{high}" if low[:1] != "-" else f"{low} to {high}")


def metrics_block(evaluation: Mapping[str, Any]) -> Block:
    """Return every metric of the federated model, with its interval where one is known."""
    metrics = evaluation["metrics"]
    rows = [Row([Cell(name), with_interval(one)]) for name, one in metrics.items()]
    lacking = [name for name, one in metrics.items() if not one["interval"]]
    notes = []
    if "counted" in evaluation:
        notes.append(counted(evaluation))
    if lacking:
        notes.append(
            f"No interval for {', '.join(lacking)}: institutions tell no counts that it would"
            " follow from, or none that add up."
        )
    return Block(
        paragraphs=["Federated model, on test records."],
        tables=[PageTable(["metric", "value and 95 % interval"], rows)],
        notes=notes,
    )


def counted(evaluation: Mapping[str, Any]) -> str:
    """Return a sentence about whose records figures are made of, and how sure they are."""
    noise = evaluation["noise"]
    sure = (
        f" Institutions released these counts with noise, of a standard deviation of {noise:.3g}"
        " records each; intervals cover noise and number of records."
        if noise
        else " Intervals are of 95 %, and follow from the number of records."
    )
    records = evaluation.get("records")
    many = f"{records:,.0f} test records" if records else "The test records"
    return f"Counted: {many} of {listed_names(evaluation['counted'])}.{sure}"


def institutions_block(evaluation: Mapping[str, Any]) -> Block | None:
    """Return every metric at each institution; None where none may be shown."""
    clients = {name: one for name, one in evaluation["clients"].items() if one["metrics"]}
    if not clients:
        return None
    metrics = list(dict.fromkeys(name for one in clients.values() for name in one["metrics"]))
    few = len(clients) <= NAMED
    rows = [
        Row([Cell(name), *(with_interval(one["metrics"].get(it)) for it in metrics)])
        for name, one in clients.items()
    ]
    return Block(
        title="At each institution, on its own test records",
        tables=[PageTable(["institution", *metrics], rows)] if few else [],
        notes=[
            "Small figures: 95 % intervals."
            if few
            else f"summary.json has the figures of all {len(rows):,} institutions."
        ],
    )


__all__ = ["counted", "institutions_block", "metrics_block", "with_interval"]
