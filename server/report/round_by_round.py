"""The figure of a metric over a run's rounds, of a run that goes on too.

Apart from what reads a run that has ended: whoever watches draws it again and again.
"""

import pandas

from confide.metrics.metric import NOISE_QUANTILE, noise_name
from confide.pages.figures import FEDERATED, Picture, new_axes, picture
from confide.server.report.marks import band, by_round, noise_by_round, rounds_axis

_OF_MANY = (
    "Line: mean over institutions, weighted by their validation records; band: nine of ten"
    " institutions lie in it."
)
_OF_EACH = (
    "Line: mean over institutions, weighted by their validation records; band: from the lowest to"
    " the highest institution."
)
_OF_ALL = "Line: all institutions together, weighted by their validation records, from masked sums."


def round_by_round(
    metrics: pandas.DataFrame,
    name: str,
    *,
    kept: int = -1,
    tails: float = 0.0,
    summed: bool = False,
) -> Picture | None:
    """Draw a metric on validation records, round by round; None if there is none.

    Args:
        metrics: rows of ``metrics.jsonl``.
        name: name of the metric.
        kept: round whose model was kept; -1 if none was yet.
        tails: share of institutions that lie below the band, and above it.
        summed: whether scores left in masked sums, so that there is no band.
    """
    rounds = by_round(_rows(metrics, name), tails=tails)
    if rounds.empty:
        return None
    figure, axes = new_axes(2.7)
    if not summed:
        band(axes, rounds)
    # A line through a single point would not be seen
    marker = "o" if len(rounds) == 1 else ""
    axes.plot(rounds.index, rounds["mean"], color=FEDERATED, marker=marker)
    caption = _OF_ALL if summed else _OF_MANY if tails else _OF_EACH
    noise = noise_by_round(_rows(metrics, noise_name(name)))
    if not noise.empty:
        mean, half = rounds["mean"].loc[noise.index], NOISE_QUANTILE * noise
        axes.vlines(noise.index, mean - half, mean + half, color=FEDERATED, alpha=0.4)
        caption += " Bars: 95 % intervals of the noise that scores were released with."
    if kept in rounds.index:
        axes.plot([kept], [float(rounds["mean"][kept])], "o", color=FEDERATED, markersize=7)
        caption += f" Dot: the model that was kept (round {kept})."
    axes.set(xlabel="rounds done", ylabel=name)
    rounds_axis(axes, rounds.index)
    title = f"Validation {name.replace('_', ' ')}, round by round"
    return picture(f"convergence-{name}", figure, title=title, caption=caption)


def _rows(metrics: pandas.DataFrame, name: str) -> pandas.DataFrame:
    chosen = metrics[(metrics["name"] == name) & (metrics["phase"] == "validation")]
    return chosen.sort_values("round", kind="stable")


__all__ = ["round_by_round"]
