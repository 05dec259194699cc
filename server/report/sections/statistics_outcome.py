"""What a page of statistics shows of what is predicted, by kind of outcome."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from confide.server.report.blocks import Block
from confide.server.report.render import Cell, PageTable, Row
from confide.server.report.sections import statistics_plots as plots

_MOST_ROWS = 40


def cell(figure: Mapping[str, Any] | None, factor: float = 1.0) -> Cell:
    """Return a figure's cell: its value, with its interval in small print."""
    if figure is None:
        return Cell("–")
    low, high = factor * figure["low"], factor * figure["high"]
    digits = 3 if high - low < 1 else 1 if high - low < 100 else 0
    ends = "" if low == high else f"{low:.{digits}f} to {high:.{digits}f}"
    if figure["value"] is None:
        return Cell("–", ends)
    return Cell(f"{factor * figure['value']:.{max(digits, 1)}f}", ends)


def count_cell(figure: Mapping[str, Any]) -> Cell:
    """Return the cell of a number of records, with its interval in small print."""
    low, high = figure["low"], figure["high"]
    ends = "" if low == high else f"{low:,.0f} to {high:,.0f}"
    return Cell("–" if figure["value"] is None else f"{figure['value']:,.0f}", ends)


def outcome_block(federation: Mapping[str, Any]) -> Block | None:
    """Return what is shown of what all institutions predict; None where nothing is told."""
    outcome = federation["outcome"]
    if federation["labels"]:
        return _labels(federation)
    if "number" in outcome:
        return _number(outcome["column"], outcome["number"])
    if "events" in outcome:
        return _survival(outcome)
    return None


def _labels(federation: Mapping[str, Any]) -> Block:
    outcome, labels = federation["outcome"], federation["labels"]
    several = outcome["kind"] == "multi_label"
    rows = [
        Row([Cell(name), count_cell(count), cell(outcome["shares"].get(name), 100)])
        for name, count in list(labels.items())[:_MOST_ROWS]
    ]
    return Block(
        title="several labels" if several else outcome["column"],
        paragraphs=["A record may have several of these labels, or none."] if several else [],
        tables=[PageTable(["label", "records", "share, %"], rows)],
        pictures=[
            plots.categories(0, "Records for which it holds" if several else "Labels", labels)
        ],
    )


def _number(name: str, number: Mapping[str, Any]) -> Block:
    shares = ("0.05", "0.25", "0.5", "0.75", "0.95")
    headers = ["mean", "standard deviation", "5 %", "25 %", "median", "75 %", "95 %"]
    quantiles = (cell(number["quantiles"][share]) for share in shares)
    row = Row([cell(number["mean"]), cell(number["deviation"]), *quantiles])
    edges = number["histogram"]["edges"]
    return Block(
        title=name,
        paragraphs=[f"A number from {edges[0]:g} to {edges[-1]:g}."],
        tables=[PageTable(headers, [row])],
        pictures=[plots.histogram(0, name, number)],
    )


def _survival(outcome: Mapping[str, Any]) -> Block:
    rows = [
        Row([Cell("with the event"), count_cell(outcome["events"])]),
        Row([Cell("last seen without it"), count_cell(outcome["censored"])]),
    ]
    return Block(
        title=outcome["column"],
        tables=[PageTable(["", "records"], rows)],
        pictures=[
            plots.categories(0, "Time of the event", _by_interval(outcome["event_times"])),
            plots.categories(
                61, "Time last seen without the event", _by_interval(outcome["censored_times"])
            ),
        ],
    )


def _by_interval(times: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name the counts of times by their intervals."""
    edges, counts = times["edges"], times["counts"]
    return {
        f"{low:g} to {high:g}" if low < high else f"{high:g} and later": count
        for (low, high), count in zip(itertools.pairwise(edges), counts, strict=True)
    }


def outcome_rows(federation: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return rows of what is predicted, one cell an institution that is shown."""
    outcome = federation["outcome"]
    own = [one["outcome"] for one in shown]
    if "number" in outcome:
        return [Row([Cell(outcome["column"]), *(cell(it["number"].get("mean")) for it in own)])]
    if "events" in outcome:
        return [Row([Cell("events"), *(count_cell(it["events"]) for it in own)])]
    return [
        Row([Cell(f"{name}, %"), *(cell(it["shares"].get(name), 100) for it in own)])
        for name in list(federation["labels"])[:_MOST_ROWS]
    ]


__all__ = ["cell", "outcome_block", "outcome_rows"]
