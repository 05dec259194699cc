"""``statistics.html``: what a federation's records look like, and how sure that is."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confide.errors import ConfigError
from confide.pages.figures import Picture
from confide.server.report.render import Cell, PageTable, Row, drawn, render
from confide.server.report.sections import statistics_plots as plots
from confide.server.report.sections.statistics_outcome import cell, outcome_block, outcome_rows
from confide.server.run_folder import command_of
from confide.server.statistics.told import NOMINAL

_MOST_COLUMNS = 60
"""Columns with a picture; figures of all are in statistics.json."""
_MOST_SHOWN = 12


def statistics_page(found: Mapping[str, Any], folder: Path) -> str:
    """Render the page of a federation's statistics.

    Args:
        found: what ``statistics.json`` holds.
        folder: RUN.
    """
    federation, privacy = found["federation"], found["privacy"]
    private = privacy["unit"] != "none"
    return render(
        "statistics.html.j2",
        title=f"Statistics of {_many(federation['institutions'], 'institution')}",
        job=found["job"],
        counted=(
            f"Training {_unit(privacy)} alone; validation and test records are not looked at, so"
            " that nothing leaks from them into choices."
        ),
        institutions=_institutions(found),
        privacy=_privacy(privacy),
        floor=_floor(privacy),
        tiles=_tiles(found),
        intervals=_intervals(privacy),
        outcome=outcome_block(federation),
        numeric=_numeric(federation["columns"]),
        pictures=_pictures(federation),
        missing=drawn(plots.missing(found)),
        pairs=len(federation["correlations"]),
        correlations=drawn(plots.correlations(federation["correlations"])),
        by_institution=_by_institution(found),
        shown=_shown(found),
        private=private,
        meaning=_meaning(privacy) if private else "",
        releases=_releases(privacy) if private else None,
        command=_command(folder),
        again=(
            "Institutions with a ledger answer the same question from what they keep, at no further"
            " cost. Another epsilon, another unit or another schema is another question, charged by"
            " itself."
            if private
            else "Nothing is charged: nothing is protected by noise."
        ),
    )


def _unit(privacy: Mapping[str, Any]) -> str:
    return "groups" if privacy["unit"] == "group" else "records"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _institutions(found: Mapping[str, Any]) -> str:
    federation = found["federation"]
    words = (
        f"{_many(federation['institutions'], 'institution')} with {federation['units']:,} training"
        f" {_unit(found['privacy'])} together."
    )
    missing = [f"{name} ({code})" for name, code in found["missing"].items()]
    return words + (f" Without {', '.join(missing)}." if missing else "")


def _privacy(privacy: Mapping[str, Any]) -> str:
    if privacy["unit"] == "none":
        return (
            "Nothing is protected by noise: figures are exact. Whoever knows all records but one,"
            " or yesterday's figures, may learn the one."
        )
    return (
        f"All figures together are differentially private for each {privacy['unit']}: epsilon"
        f" {privacy['epsilon']:.3g} at delta {privacy['delta']:g} at each institution, charged to"
        " its lifetime budget." + (f" Nominal: {NOMINAL}" if privacy["reproducible"] else "")
    )


def _floor(privacy: Mapping[str, Any]) -> str:
    floor = privacy["min_cell"]
    if floor <= 1:
        return "All are told."
    if privacy["unit"] == "none":
        return (
            f"What fewer than {floor} stand behind was merged with others, or kept back, by the"
            " institutions themselves; and so was what would give it away."
        )
    return f"Counts that noise leaves below {floor} are not told as numbers."


def _tiles(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    federation, privacy = found["federation"], found["privacy"]
    tiles = [
        (f"{federation['units']:,}", f"training {_unit(privacy)}"),
        (f"{federation['institutions']:,}", "institutions"),
        (str(len(federation["columns"])), "columns"),
    ]
    if privacy["unit"] != "none":
        tiles.append((f"{privacy['epsilon']:.3g}", f"epsilon a {privacy['unit']}"))
    return tiles


def _intervals(privacy: Mapping[str, Any]) -> str:
    if privacy["unit"] == "none":
        return (
            "Small figures: what is left open where institutions kept something back. Quantiles are"
            " interpolated in their cells."
        )
    return (
        "Small figures: 95 % intervals of the noise, not of who happens to be among the records. A"
        " figure that its noise drowns has an interval alone."
    )


def _numeric(columns: Mapping[str, Mapping[str, Any]]) -> PageTable:
    shares = ("0.05", "0.5", "0.95")
    headers = ["column", "missing, %", "mean", "standard deviation", "5 %", "median", "95 %"]
    rows = [
        Row(
            [
                Cell(name),
                cell(column["missing"], 100),
                cell(column["mean"]),
                cell(column["deviation"]),
                *(cell(column["quantiles"][share]) for share in shares),
            ]
        )
        for name, column in columns.items()
        if column["kind"] == "numeric"
    ]
    return PageTable(headers, rows)


def _pictures(federation: Mapping[str, Any]) -> list[Picture]:
    pictures = []
    columns = list(federation["columns"].items())[:_MOST_COLUMNS]
    for place, (name, column) in enumerate(columns, start=1):
        if column["kind"] == "numeric":
            pictures.append(plots.histogram(place, name, column))
        else:
            pictures.append(plots.categories(place, name, column["categories"]))
    return pictures


def _by_institution(found: Mapping[str, Any]) -> str:
    words = (
        "The coordinator adds up what institutions send, and so receives the sums of each, with"
        " their noise. Whether it may show them is each institution's word"
        " (policy.release_statistics), which it is trusted to keep; what protects records from it"
        " is the noise."
    )
    if found["privacy"]["unit"] == "none":
        words = (
            "The coordinator adds up what institutions send, and so receives the figures of each."
            " Whether it may show them is each institution's word (policy.release_statistics),"
            " which it is trusted to keep."
        )
    withheld = found["withheld"]
    return words + (f" Not shown: {', '.join(withheld)}." if withheld else "")


def _shown(found: Mapping[str, Any]) -> PageTable:
    """Return a table of means, one column an institution."""
    shown = dict(list(found["institutions"].items())[:_MOST_SHOWN])
    headers = ["mean of", *shown]
    rows = [
        Row([Cell(_unit(found["privacy"])), *(Cell(f"{it['units']:,}") for it in shown.values())])
    ]
    for name, column in found["federation"]["columns"].items():
        if column["kind"] == "numeric":
            own = (it["columns"][name].get("mean") for it in shown.values())
            rows.append(Row([Cell(name), *map(cell, own)]))
    rows += outcome_rows(found["federation"], list(shown.values()))
    return PageTable(headers, rows if shown else [])


def _meaning(privacy: Mapping[str, Any]) -> str:
    several = len(privacy["releases"]) > 1
    words = (
        f"Together epsilon {privacy['epsilon']:.3g} at delta {privacy['delta']:g} for each"
        f" {privacy['unit']}."
    )
    if several:
        words += (
            " Quantiles are the release that runs with task.numeric.edges=released use: whichever"
            " comes first pays for it, and the other is answered with the same."
        )
    return words


def _releases(privacy: Mapping[str, Any]) -> PageTable:
    rows = [
        (one["kind"], one["job"], f"{one['epsilon']:g}", f"{one['noise_multiplier']:.2f}")
        for one in privacy["releases"]
    ]
    return PageTable.of_texts(["release", "job in ledgers", "epsilon", "noise (sigma)"], rows)


def _command(folder: Path) -> str:
    try:
        command = command_of(folder)
    except ConfigError:
        return ""
    words = [word for word in command.overrides if not word.startswith("hydra.")]
    return shlex.join(["confide", "statistics", *words])


__all__ = ["statistics_page"]
