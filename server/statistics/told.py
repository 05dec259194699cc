"""Statistics on a terminal: one table, and what the figures cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confide.server.run_folder import STATISTICS_PAGE
from confide.tables import Table
from confide.terminal import make_console

NOMINAL = "noise derives from a seed, and whoever knows the seed can remove it."
Figures = Mapping[str, Any]
"""A figure of statistics.json: value, low and high."""


def show_statistics(found: Mapping[str, Any], run_dir: Path) -> None:
    """Print a federation's statistics to stdout."""
    console = make_console()
    statistics_table(found).show(console)
    for line in closing_lines(found, run_dir):
        console.print(line, highlight=False, soft_wrap=True)


def statistics_table(found: Mapping[str, Any]) -> Table:
    """Build the table of a federation's columns."""
    numbers = ("missing %", "mean", "standard\ndeviation", "median")
    table = Table(
        "column",
        *numbers,
        "categories",
        numbers=numbers,
        title="statistics of the training records of all institutions",
    )
    federation = found["federation"]
    for name, column in federation["columns"].items():
        table.add_row(*_row(name, column))
    outcome = federation["outcome"]
    if federation["labels"]:
        table.add_row("(label)", "", "", "", "", _counts(federation["labels"]))
    if "number" in outcome:
        name, _, *figures = _row(f"({outcome['column']})", outcome["number"])
        table.add_row(name, "", *figures)
    if "events" in outcome:
        ends = {name: outcome[name] for name in ("events", "censored")}
        table.add_row(f"({outcome['column']})", "", "", "", "", _counts(ends))
    return table


def _row(name: str, column: Mapping[str, Any]) -> list[str]:
    return [
        name,
        text_of(column["missing"], 100, digits=1),
        text_of(column.get("mean")),
        text_of(column.get("deviation")),
        text_of(column.get("quantiles", {}).get("0.5")),
        _counts(column.get("categories", {})),
    ]


def text_of(figure: Figures | None, factor: float = 1.0, *, digits: int | None = None) -> str:
    """Return a figure as text: its value and half its interval, or the interval alone."""
    if figure is None:
        return ""
    low, high = factor * figure["low"], factor * figure["high"]
    half = (high - low) / 2
    if figure["value"] is None:
        return f"{_number(low, half, digits)} to {_number(high, half, digits)}"
    value = factor * figure["value"]
    if low == high:
        return _number(value, 0.0, digits)
    # An interval that is cut off at the end of a range has no one half
    if abs((high - value) - (value - low)) > 0.02 * (high - low):
        ends = f"{_number(low, half, digits)} to {_number(high, half, digits)}"
        return f"{_number(value, half, digits)} ({ends})"
    return f"{_number(value, half, digits)} ± {_number(half, half, digits)}"


def _number(value: float, half: float, digits: int | None) -> str:
    """Write a number to as many places as its interval is worth."""
    if digits is None:
        scale = half or abs(value)
        digits = 0 if scale >= 100 or scale == 0 else 1 if scale >= 10 else 2 if scale >= 1 else 3
    return f"{value:.{digits}f}"


def _counts(counts: Mapping[str, Figures]) -> str:
    return ", ".join(f"{name} {text_of(one, digits=0)}" for name, one in counts.items())


def closing_lines(found: Mapping[str, Any], run_dir: Path) -> list[str]:
    """Return lines on who answered, what it cost, and where the page is."""
    federation, privacy = found["federation"], found["privacy"]
    lines = [
        f"{federation['institutions']} institutions, {federation['units']} training"
        f" {'groups' if privacy['unit'] == 'group' else 'records'}; validation and test records"
        " are not looked at."
    ]
    lines += [f"Without {name}: {code}." for name, code in found["missing"].items()]
    lines += [cost(privacy)]
    return [
        *lines,
        f"{STATISTICS_PAGE} and statistics.json in {run_dir}",
    ]


def cost(privacy: Mapping[str, Any]) -> str:
    """Say in a sentence what protects the figures, and what they cost."""
    if privacy["unit"] == "none":
        if privacy["min_cell"] <= 1:
            return "Not protected: exact figures, without a floor."
        return (
            f"Not protected by noise: exact figures of at least {privacy['min_cell']} each; smaller"
            " ones were merged or kept back by the institutions."
        )
    parts = ", ".join(
        f"{one['kind']} {one['epsilon']:g} as job {one['job']}" for one in privacy["releases"]
    )
    return (
        f"Privacy: epsilon {privacy['epsilon']:.3g} at delta {privacy['delta']:g} a"
        f" {privacy['unit']} and institution ({parts}); intervals are 95 % of the noise, and counts"
        f" below {privacy['min_cell']} are not told."
        + (f" Nominal: {NOMINAL}" if privacy["reproducible"] else "")
    )


__all__ = ["NOMINAL", "cost", "show_statistics", "statistics_table", "text_of"]
