"""Distributions then and now, as pictures of a page."""

import numpy
from matplotlib.axes import Axes

from confide.client.drift.comparing import Bins
from confide.client.drift.findings import ABSENT, Finding, Report, variable_bins
from confide.client.drift.kept import Floats, Numbers
from confide.client.drift.profile import Profile
from confide.client.drift.sentences import named
from confide.config.spelling import counted
from confide.pages.figures import ALONE, FEDERATED, INK, MUTED, Picture, legend, new_axes, picture
from confide.pages.wording import abridged

MOST_PICTURES = 12
_MOST_BARS = 14
_LONGEST = 24
_BINS = 10


def pictures(report: Report) -> list[Picture]:
    """Draw the variables that changed most, and calibration where it was compared."""
    drawn: dict[tuple[str, str], Picture] = {}
    for finding in report.findings:
        key = finding.part, finding.name
        if (
            finding.name
            and finding.kind != ABSENT
            and key not in drawn
            and len(drawn) < MOST_PICTURES
        ):
            drawn[key] = _variable(f"v{len(drawn)}", report, finding)
    made = list(drawn.values())
    if any(it.kind == "calibration" for it in report.findings):
        made.append(_calibration(report.reference, report.now))
    return made


def _variable(name: str, report: Report, finding: Finding) -> Picture:
    before = report.reference.kept(finding.part)[finding.name]
    after = report.now.kept(finding.part)[finding.name]
    bins = _shown(variable_bins(before, after))
    figure, axes = new_axes(1.0 + 0.34 * len(bins.names))
    places = numpy.arange(len(bins.names))[::-1]
    for side, shift, label in ((bins.reference, 0.2, "reference"), (bins.now, -0.2, "now")):
        share = 100 * side / max(side.sum(), 1)
        if label == "now":
            axes.barh(places + shift, share, height=0.36, color=FEDERATED, label=label)
        else:
            # An outline, so that both are told apart without colours
            axes.barh(
                places + shift,
                share,
                height=0.36,
                facecolor="none",
                edgecolor=ALONE,
                linewidth=1.4,
                label=label,
            )
    axes.set_yticks(places, [abridged(it, _LONGEST) for it in bins.names])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("% of records")
    axes.set_ylim(-0.6, len(bins.names) - 0.4)
    _legend_above(axes)
    what = "Tenths of the reference's values" if isinstance(before, Numbers) else "Categories"
    return picture(
        name,
        figure,
        title=named(finding.part, finding.name),
        caption=f"{what}: share of {counted(after.records, 'record')} now, and of {before.records}"
        " in the reference.",
    )


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        frameon=False,
        borderaxespad=0.2,
        labelcolor=INK,
    )


def _shown(bins: Bins) -> Bins:
    """Keep the commonest categories, and put the rest together."""
    if len(bins.names) <= _MOST_BARS:
        return bins
    order = numpy.argsort(-(bins.reference + bins.now), kind="stable")
    kept, rest = sorted(order[: _MOST_BARS - 1].tolist()), order[_MOST_BARS - 1 :]
    names = (*(bins.names[at] for at in kept), f"{len(rest)} others")
    counted = [numpy.append(side[kept], side[rest].sum()) for side in (bins.reference, bins.now)]
    return Bins(names, counted[0], counted[1])


def _calibration(before: Profile, after: Profile) -> Picture:
    figure, axes = new_axes(3.6)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    for side, colour, mark, label in (
        (before, ALONE, "s--", "reference"),
        (after, FEDERATED, "o-", "now"),
    ):
        stated, observed = _curve(side.stated, side.came_true)
        axes.plot(stated, observed, mark, color=colour, markersize=5, label=label)
    axes.set(xlabel="stated probability", ylabel="share that came true", xlim=(0, 1), ylim=(0, 1))
    legend(axes, "upper left")
    return picture(
        "calibration",
        figure,
        title="Calibration",
        caption="Tenths of the labelled records by stated probability; on the diagonal what is"
        " stated comes true.",
    )


def _curve(stated: Floats, came_true: Floats) -> tuple[Floats, Floats]:
    """Return mean stated and observed shares of groups of equal size."""
    order = numpy.argsort(stated, axis=None)
    parts = [it for it in numpy.array_split(order, _BINS) if len(it)]
    flat, truth = stated.ravel(), came_true.ravel()
    return (
        numpy.array([flat[part].mean() for part in parts]),
        numpy.array([truth[part].mean() for part in parts]),
    )


__all__ = ["MOST_PICTURES", "pictures"]
