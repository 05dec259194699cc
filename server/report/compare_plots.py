"""The figures of a page that compares runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from confide.pages.figures import (
    FEDERATED,
    INK,
    MUTED,
    PAPER,
    Picture,
    legend,
    new_axes,
    picture,
)
from confide.server.report.marks import NAMED, Score, by_round, forest, short, titled
from confide.server.report.read import RunFiles
from confide.server.report.render import written
from confide.server.report.virtual_time import over_time

_LINES = 12
"""Largest number of lines in one figure; of more than that, all but the best are drawn pale."""
_STYLES = ("-", "--", ":", "-.")
_EVENLY = 8
"""Largest number of distinct values that are evenly spaced on their axis."""


def scores(runs: Sequence[RunFiles], names: Sequence[str]) -> Picture | None:
    """Draw each run's result on test records, with its interval."""
    metric = runs[0].metric
    scored = []
    for name, run in zip(names, runs, strict=True):
        federated = run.summary["federated"]
        if metric in federated:
            support = federated.get("test_examples")
            scored.append(Score(short(name), federated[metric], FEDERATED, support))
    if not scored or len(scored) > NAMED:
        return None
    figure, axes = new_axes(0.9 + 0.27 * len(scored))
    forest(axes, scored, metric)
    caption = "The federated model of each run." + (
        " Bars: 95 % intervals (Wilson)." if metric == "accuracy" else ""
    )
    return picture("scores", figure, title=f"{titled(metric)} on test records", caption=caption)


def against_privacy(runs: Sequence[RunFiles]) -> Picture | None:
    """Draw results against epsilon, if runs asked for different ones."""
    metric = runs[0].metric
    points = [
        (float(run.config["privacy"]["epsilon"]), run.summary["federated"][metric])
        for run in runs
        if run.private and metric in run.summary["federated"]
    ]
    if len({epsilon for epsilon, _ in points}) < 2:
        return None
    figure, axes = new_axes(2.6)
    axes.plot(*zip(*sorted(points), strict=True), "o", color=FEDERATED)
    # Epsilons such as 1, 3 and 8 are evenly spaced on a logarithmic axis
    axes.set(xlabel="epsilon (log scale)", ylabel=metric, xscale="log")
    asked = sorted({epsilon for epsilon, _ in points})
    axes.set_xticks(asked, [f"{epsilon:g}" for epsilon in asked])
    axes.minorticks_off()
    return picture(
        "epsilon",
        figure,
        title="What privacy costs in quality",
        caption="Each dot is a run: the epsilon it asked for, and its result on test records.",
    )


def convergence(
    runs: Sequence[RunFiles], names: Sequence[str], chosen: int | None
) -> Picture | None:
    """Draw each run's validation metric, round by round."""
    means = [by_round(run.rounds_of(run.metric, "validation"))["mean"] for run in runs]
    drawn = _curves(means, names, chosen)
    if drawn is None:
        return None
    figure, axes = drawn
    axes.set(xlabel="rounds done", ylabel=runs[0].metric)
    title = f"Validation {runs[0].metric.replace('_', ' ')}, round by round"
    return picture("curves", figure, title=title, caption=_of_means(chosen))


def in_virtual_time(
    runs: Sequence[RunFiles], names: Sequence[str], chosen: int | None
) -> Picture | None:
    """Draw each run's validation metric against virtual seconds, where runs have any."""
    drawn = _curves([over_time(run) for run in runs], names, chosen)
    if drawn is None:
        return None
    figure, axes = drawn
    axes.set(xlabel="virtual seconds", ylabel=runs[0].metric)
    title = f"Validation {runs[0].metric.replace('_', ' ')} in virtual time"
    return picture("virtual-time", figure, title=title, caption=_of_means(chosen))


def _of_means(chosen: int | None) -> str:
    caption = "Mean over institutions, weighted by their validation records."
    return caption + (" Strong line: the best run." if chosen is not None else "")


def _curves(
    series: Sequence[pandas.Series], names: Sequence[str], chosen: int | None
) -> tuple[Figure, Axes] | None:
    """Draw a line for each run that has one; None where none has."""
    curves = {place: curve for place, curve in enumerate(series) if len(curve)}
    if not curves:
        return None
    figure, axes = new_axes(3.2)
    few = len(curves) <= _LINES
    for place, curve in curves.items():
        is_best = place == chosen
        axes.plot(
            curve.index,
            curve,
            color=FEDERATED if is_best else MUTED,
            # Line styles, since colours have a meaning already: the best run has the strong one
            linestyle=_STYLES[place % len(_STYLES)] if few else "-",
            linewidth=2.4 if is_best else 1.3,
            alpha=1 if few or is_best else 0.35,
            label=short(names[place]),
        )
    if few:
        legend(axes, "best")
    return figure, axes


def parallel(
    runs: Sequence[RunFiles], settings: Mapping[str, Sequence[Any]], chosen: int | None
) -> Picture | None:
    """Draw a line for each run through its settings to its result (parallel coordinates)."""
    columns = {
        key: values for key, values in settings.items() if not isinstance(values[0], dict | list)
    }
    results = [run.summary["federated"].get(run.metric) for run in runs]
    if not columns or len(runs) < 3 or None in results:
        return None
    scales = [(key.split(".")[-1], _Scale.of(values)) for key, values in columns.items()]
    scales.append((f"{runs[0].metric}, test", _Scale.by_size(results)))
    figure, axes = new_axes(3.6)
    for place, height in enumerate(scales[-1][1].heights):
        shade = height if runs[0].higher_is_better else 1 - height
        heights = [scale.heights[place] for _, scale in scales]
        width = 3.2 if place == chosen else 1.6
        axes.plot(
            range(len(scales)), heights, color=FEDERATED, alpha=0.15 + 0.85 * shade, linewidth=width
        )
    for place, (_, scale) in enumerate(scales):
        scale.draw(axes, place)
    axes.set_xticks(range(len(scales)), [short(name) for name, _ in scales])
    axes.set_yticks([])
    axes.set(xlim=(-0.1, len(scales) - 0.6), ylim=(-0.06, 1.06))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    caption = "Each line is a run, from its settings to its result; the stronger, the better."
    caption += " Thick line: the best run on validation records." if chosen is not None else ""
    return picture("parallel", figure, title="Settings and results of all runs", caption=caption)


@dataclass(frozen=True)
class _Scale:
    """Values on a vertical axis from 0 to 1.

    Attributes:
        heights: height of each value, 0 to 1.
        marks: height and text of each label next to the axis.
    """

    heights: Sequence[float]
    marks: Sequence[tuple[float, str]]

    def draw(self, axes: Axes, place: int) -> None:
        """Draw the axis and its labels, each on a patch of paper that lines do not cross."""
        axes.axvline(place, color=MUTED, linewidth=1)
        patch = {"boxstyle": "square,pad=0.15", "facecolor": PAPER, "edgecolor": "none"}
        for height, text in self.marks:
            axes.annotate(
                text,
                (place, height),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=9.5,
                color=INK,
                bbox={**patch, "alpha": 0.85},
            )

    @classmethod
    def of(cls, values: Sequence[Any]) -> "_Scale":
        """Space few distinct values evenly, in their order; many numbers by size."""
        # bool is an int in Python, and yes or no is no size
        numbers = all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in values
        )
        distinct = sorted(set(values)) if numbers else list(dict.fromkeys(map(written, values)))
        if numbers and len(distinct) > _EVENLY:
            return cls.by_size(values)
        step = 1 / max(1, len(distinct) - 1)
        height = {written(value): place * step for place, value in enumerate(distinct)}
        return cls(
            [height[written(value)] for value in values],
            [(at, short(text)) for text, at in height.items()],
        )

    @classmethod
    def by_size(cls, values: Sequence[float]) -> "_Scale":
        """Place numbers from the smallest, at 0, to the largest, at 1."""
        low, high = min(values), max(values)
        span = (high - low) or 1.0  # equal values would divide by zero
        marks = [(share, f"{low + share * span:.3f}") for share in (0.0, 0.5, 1.0)]
        heights = [(value - low) / span for value in values]
        return cls(heights, marks if high > low else marks[:1])


__all__ = ["against_privacy", "convergence", "in_virtual_time", "parallel", "scores"]
