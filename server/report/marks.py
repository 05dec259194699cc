"""Marks and axes that the figures of several pages share."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from confide.pages.figures import FEDERATED, INK, new_axes
from confide.pages.wording import abridged
from confide.server.report.intervals import interval

NAMED = 40
"""Largest number of institutions that have a row each."""
_LONGEST_NAME, _SHORTEST_NAME = 22, 5
# Characters that there is room for below a heat map
_LINE = 32


class Score(NamedTuple):
    """A metric to draw in a row of its own.

    Attributes:
        name: name of the row.
        value: value of the metric.
        colour: colour of the mark.
        support: number of records it was measured on; None if unknown.
        noise: standard deviation of the noise in it; None for an exact value.
    """

    name: str
    value: float
    colour: str
    support: int | None
    noise: float | None = None


def short(name: str) -> str:
    """Cut a long name to what fits in a figure's margin."""
    return abridged(name, _LONGEST_NAME)


def titled(metric: str) -> str:
    """Return a metric's name as the beginning of a title."""
    return metric[0].upper() + metric[1:].replace("_", " ")


def by_round(rows: pandas.DataFrame, *, tails: float = 0.0) -> pandas.DataFrame:
    """Return ``mean`` (weighted by support), ``low`` and ``high`` over institutions, by round.

    Args:
        rows: of one metric.
        tails: share of institutions that lie below ``low``, and above ``high``; 0 for none.
    """
    weighted = rows.assign(weighted=rows["value"] * rows["num_examples"])
    grouped = weighted.groupby("round")
    mean = grouped["weighted"].sum() / grouped["num_examples"].sum()
    return pandas.DataFrame(
        {
            "mean": mean,
            "low": grouped["value"].quantile(tails),
            "high": grouped["value"].quantile(1 - tails),
        }
    )


def noise_by_round(rows: pandas.DataFrame) -> pandas.Series:
    """Return how much noise a mean over institutions has, weighted by support, by round.

    Args:
        rows: standard deviations of the noise in each institution's value.
    """
    weighted = rows.assign(squares=(rows["value"] * rows["num_examples"]) ** 2)
    grouped = weighted.groupby("round")
    noise: pandas.Series = grouped["squares"].sum() ** 0.5 / grouped["num_examples"].sum()
    return noise


def band(axes: Axes, rounds: pandas.DataFrame) -> None:
    """Shade what lies between ``low`` and ``high`` of each round."""
    axes.fill_between(
        rounds.index, rounds["low"], rounds["high"], color=FEDERATED, alpha=0.13, linewidth=0
    )


def rounds_axis(axes: Axes, rounds: Sequence[int]) -> None:
    """Let the horizontal axis count rounds."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Equal limits for a single round would make matplotlib warn, and warnings are errors in tests
    if len(rounds) > 1:
        axes.set_xlim(min(rounds), max(rounds) + 0.02 * (max(rounds) - min(rounds)))


def name_rows(axes: Axes, names: Iterable[str]) -> None:
    """Name the rows of a figure, from the bottom to the top."""
    shown = list(names)
    axes.set_yticks(range(len(shown)), shown)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.grid(visible=False, axis="y")


def interval_bar(axes: Axes, place: int, score: Score, metric: str, *, alpha: float = 0.3) -> None:
    """Draw the 95 % interval of a score in its row, if it has one."""
    ends = interval(metric, score.value, score.support, score.noise)
    if ends:
        axes.plot(
            ends,
            [place, place],
            color=score.colour,
            linewidth=5,
            alpha=alpha,
            solid_capstyle="butt",
        )


def forest(axes: Axes, scores: Sequence[Score], metric: str) -> None:
    """Draw a row for each score, from top to bottom: its value and its interval."""
    # Matplotlib counts from the bottom: reversed, so that the first score is at the top
    for place, score in enumerate(reversed(scores)):
        interval_bar(axes, place, score, metric)
        axes.plot([score.value], [place], "o", color=score.colour, markersize=6)
    name_rows(axes, [score.name for score in reversed(scores)])
    axes.set_xlabel(metric)


def heat_map(rows: pandas.DataFrame, *, named: bool) -> Figure:
    """Draw a table of shares as shades.

    Args:
        rows: shares, 0 to 1; rows from top to bottom.
        named: whether rows have names; otherwise they are thin and have none.
    """
    figure, axes = new_axes(0.8 + (0.27 if named else 0.075) * len(rows))
    values = rows.to_numpy()
    # Rectangles and not an image: an image would be a bitmap, whose colours cannot follow the page
    for (place, column), value in numpy.ndenumerate(values[::-1]):
        axes.fill_between(
            [column - 0.5, column + 0.5],
            place - 0.5,
            place + 0.5,
            color=FEDERATED,
            alpha=0.75 * float(value),
            linewidth=0,
        )
        if named and values.shape[1] <= 8:
            axes.text(
                column, place, f"{value:.0%}", ha="center", va="center", fontsize=9.5, color=INK
            )
    longest = min(_LONGEST_NAME, max(_SHORTEST_NAME, _LINE // values.shape[1]))
    columns = [abridged(str(name), longest) for name in rows.columns]
    axes.set_xticks(range(values.shape[1]), columns)
    axes.set_yticks(range(len(rows)) if named else [], list(reversed(rows.index)) if named else [])
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(-0.5, len(rows) - 0.5))
    axes.grid(visible=False)
    return figure


__all__ = [
    "NAMED",
    "Score",
    "band",
    "by_round",
    "forest",
    "heat_map",
    "interval_bar",
    "name_rows",
    "noise_by_round",
    "rounds_axis",
    "short",
    "titled",
]
