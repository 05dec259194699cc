"""What a page and a model card show of a survival model's test."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from confide.metrics.evaluations.survival import standard_errors
from confide.metrics.metric import NOISE_QUANTILE
from confide.pages.figures import (
    ALONE,
    FEDERATED,
    POOLED,
    Picture,
    legend,
    new_axes,
    picture,
)
from confide.server.report.blocks import Block
from confide.server.report.read import RunFiles
from confide.server.report.render import Cell, PageTable, Row, number
from confide.server.report.sections.tables import with_interval

_COLOURS = {"low": POOLED, "middle": FEDERATED, "high": ALONE}
_HARRELL = (
    "c_index is Harrell's concordance: of pairs of test records in which one had the event while"
    " the other was known to be free of it, the share in which the model gave the first the higher"
    " risk; equal risks count half."
)
_WITHIN = (
    "An institution compares its own records with each other; concordant and comparable pairs are"
    " summed over institutions, and nobody compares records of two."
)
_ACROSS = (
    "The federated model's compares all test records, those of different institutions too, as only"
    " a simulation can; the values of institutions are of pairs within each."
)


def survival_section(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[Block]:
    """Return the blocks on a survival model, from top to bottom."""
    blocks = [
        Block(
            paragraphs=["Federated model, on test records."],
            tables=[_metrics(evaluation)],
            notes=[f"{_HARRELL} {compared(evaluation)}"],
        )
    ]
    if "groups" in evaluation:
        blocks.append(
            Block(
                title="Survival by predicted risk",
                pictures=[risk_curves(evaluation)],
                tables=[_groups(evaluation), _at_risk(evaluation)],
            )
        )
    return blocks


def survival_card(run: RunFiles, evaluation: Mapping[str, Any]) -> Sequence[str]:
    """Return paragraphs of the model card on a survival model's test."""
    told = [f"{_HARRELL} {compared(evaluation)}"]
    known = [one for one in evaluation.get("groups", []) if one["records"] >= 1]
    if known:
        end = f"{evaluation['ends'][-1]:.12g}"
        shares = "; ".join(
            f"{one['name']} risk {number(one['observed'][-1])}"
            + (f" (predicted {number(one['predicted'][-1])})" if "predicted" in one else "")
            for one in known
        )
        noise = ", from counts with noise" if evaluation["noisy"] else ""
        told.append(
            f"Share of each third of the test records, by predicted risk, that is free of the event"
            f" at {end} (Kaplan and Meier{noise}): {shares}."
        )
    return told


def compared(evaluation: Mapping[str, Any]) -> str:
    """Say between whose records the run's C-index compares."""
    return _WITHIN if evaluation["within"] else _ACROSS


def _metrics(evaluation: Mapping[str, Any]) -> PageTable:
    """Return every metric, with its interval where one is known."""
    rows = [Row([Cell(name), with_interval(one)]) for name, one in evaluation["metrics"].items()]
    return PageTable(["metric", "value and 95 % interval"], rows)


def risk_curves(evaluation: Mapping[str, Any]) -> Picture:
    """Draw observed and predicted survival of the records with low, middle and high risk."""
    figure, axes = new_axes(3.4)
    moments = [0.0, *evaluation["ends"]]
    for one in evaluation["groups"]:
        if one["records"] < 1:
            continue
        colour = _COLOURS[one["name"]]
        observed = numpy.array([1.0, *one["observed"]])
        if not evaluation["noisy"]:
            half = NOISE_QUANTILE * numpy.array([0.0, *standard_errors(one)])
            low, high = (observed - half).clip(0), (observed + half).clip(max=1)
            axes.fill_between(moments, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(moments, observed, "o-", color=colour, markersize=4, label=f"{one['name']} risk")
        if "predicted" in one:
            axes.plot(moments, [1.0, *one["predicted"]], "--", color=colour, linewidth=1.3)
    axes.set(xlabel=evaluation["time_column"], ylabel="free of the event")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    legend(axes, "lower left")
    title, caption = "Observed and predicted survival", _caption(evaluation)
    return picture("survival", figure, title=title, caption=caption)


def _caption(evaluation: Mapping[str, Any]) -> str:
    caption = (
        "Solid line: observed (Kaplan and Meier, at the ends of the public intervals) in each third"
        " of the test records by predicted risk."
    )
    if any("predicted" in one for one in evaluation["groups"]):
        caption += " Dashed line: mean prediction for the same records."
    if evaluation["noisy"]:
        return caption + " Institutions released the counts with noise, which no band covers."
    return caption + " Band: 95 % interval (Greenwood)."


def _groups(evaluation: Mapping[str, Any]) -> PageTable:
    """Return a table with a row for each group: records, events, and who is free at the end."""
    end = f"free at {evaluation['ends'][-1]:.12g}"
    headers = ["predicted risk", "test records", "events", end, "predicted"]
    rows = []
    for one in evaluation["groups"]:
        texts = [
            one["name"],
            f"{one['records']:,.0f}",
            f"{sum(one['events']):,.0f}",
            number(one["observed"][-1] if one["records"] >= 1 else None),
            number(one["predicted"][-1] if "predicted" in one else None),
        ]
        rows.append(Row([Cell(text) for text in texts]))
    return PageTable(headers, rows)


def _at_risk(evaluation: Mapping[str, Any]) -> PageTable:
    """Return a table of how many of each group were at risk in each interval."""
    headers = ["at risk until", *(f"{end:.12g}" for end in evaluation["ends"])]
    rows = [
        Row([Cell(f"{one['name']} risk"), *(Cell(f"{count:,.0f}") for count in one["at_risk"])])
        for one in evaluation["groups"]
    ]
    return PageTable(headers, rows)


__all__ = ["compared", "risk_curves", "survival_card", "survival_section"]
