"""What a run reached by when, in the seconds of a simulation's virtual clock."""

from collections.abc import Sequence

import pandas

from confide.pages.figures import FEDERATED, Picture, new_axes, picture
from confide.server.report.marks import by_round, titled
from confide.server.report.read import RunFiles


def over_time(run: RunFiles) -> pandas.Series:
    """Return the primary metric's mean on validation records, by virtual seconds.

    Empty where a run has no virtual time.
    """
    ends = run.rounds_of("virtual_s", "train").set_index("round")["value"]
    means = by_round(run.rounds_of(run.metric, "validation"))["mean"]
    # The initial model is there from the beginning
    known = means[means.index.isin([0, *ends.index])] if len(ends) else means.iloc[:0]
    known.index = pandas.Index([float(ends.get(number, 0.0)) for number in known.index])
    return known


def level(runs: Sequence[RunFiles]) -> float | None:
    """Return the best level that every run reached; None unless all have virtual time."""
    curves = [over_time(run) for run in runs]
    if not runs or any(curve.empty for curve in curves):
        return None
    if runs[0].higher_is_better:
        return float(min(curve.max() for curve in curves))
    return float(max(curve.min() for curve in curves))


def time_to(run: RunFiles, value: float) -> float | None:
    """Return after how many virtual seconds a run reached a level; None if it never did."""
    curve = over_time(run)
    reached = curve[curve >= value] if run.higher_is_better else curve[curve <= value]
    return None if reached.empty else float(reached.index[0])


def in_virtual_time(run: RunFiles) -> Picture | None:
    """Draw the primary metric on validation records against virtual time."""
    curve = over_time(run)
    if len(curve) < 2:
        return None
    figure, axes = new_axes(2.7)
    axes.plot(curve.index, curve, color=FEDERATED)
    axes.set(xlabel="virtual seconds", ylabel=run.metric)
    caption = (
        "When the simulated clients would have reached what, by the delays of the config: mean over"
        " the institutions that answered in each step, of which there may be few, weighted by their"
        " validation records."
    )
    if run.summary.get("virtual", {}).get("staleness_max") is not None:
        caption += " Each answer scores the model that its client was given, which may be older."
    title = f"Validation {titled(run.metric).lower()} in virtual time"
    return picture("virtual-time", figure, title=title, caption=caption)


__all__ = ["in_virtual_time", "level", "over_time", "time_to"]
