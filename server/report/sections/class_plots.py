"""Figures of a classification's test: calibration, precision-recall, ROC, confusion."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas
from matplotlib.axes import Axes

from confide.pages.figures import (
    ALONE,
    FEDERATED,
    INK,
    MUTED,
    POOLED,
    Picture,
    legend,
    new_axes,
    picture,
)
from confide.server.report.marks import heat_map, short

_COLOURS = (FEDERATED, ALONE, POOLED, INK)
DRAWN = len(_COLOURS)
"""Largest number of classes that one figure shows."""
_MOST_NAMED = 12
_LARGEST_DOT = 60.0


def calibration_curve(classes: Mapping[str, Any]) -> Picture | None:
    """Draw observed against predicted shares, with intervals, for each class."""
    drawn = {name: one["calibration"] for name, one in classes.items() if one["calibration"]}
    if not drawn:
        return None
    figure, axes = new_axes(3.6)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    for (name, groups), colour in zip(drawn.items(), _COLOURS, strict=False):
        largest = max(group["records"] for group in groups)
        for group in groups:
            if group["interval"]:
                axes.plot(
                    [group["predicted"]] * 2,
                    group["interval"],
                    color=colour,
                    linewidth=3,
                    alpha=0.3,
                    solid_capstyle="butt",
                )
        axes.plot(
            [group["predicted"] for group in groups],
            [group["observed"] for group in groups],
            color=colour,
            linewidth=1,
        )
        axes.scatter(
            [group["predicted"] for group in groups],
            [group["observed"] for group in groups],
            s=[max(8.0, _LARGEST_DOT * group["records"] / largest) for group in groups],
            color=colour,
            label=short(name),
        )
    _unit_square(axes, "predicted probability", "observed share")
    if len(drawn) > 1:
        legend(axes, "upper left")
    return picture(
        "calibration",
        figure,
        title="Calibration: are probabilities what they say?",
        caption=(
            "Each dot is a group of records with similar scores, larger for more of them; bars: 95"
            " % intervals. On the dashed line as many belong to the class as the model expects;"
            f" above it more do.{_left_out(classes)}"
        ),
    )


def precision_recall(classes: Mapping[str, Any]) -> Picture | None:
    """Draw precision against recall of each class, and the share of the class."""
    if not _draws(classes, "precision_recall"):
        return None
    figure, axes = new_axes(3.3)
    for (name, one), colour in zip(classes.items(), _COLOURS, strict=False):
        points = one["precision_recall"]
        axes.axhline(one["observed"]["value"], color=colour, linewidth=1, linestyle=":")
        axes.plot(*zip(*points, strict=True), color=colour, label=_named(name, one, "AP"))
    _unit_square(axes, "recall: share of the class that is found", "precision")
    legend(axes, "lower left")
    return picture(
        "precision-recall",
        figure,
        title="Precision and recall, over all thresholds",
        caption=(
            "AP: average precision. Dotted: precision of taking everybody, the share of the"
            f" class.{_left_out(classes)}"
        ),
    )


def roc(classes: Mapping[str, Any]) -> Picture | None:
    """Draw the ROC curve of each class."""
    if not _draws(classes, "roc"):
        return None
    figure, axes = new_axes(3.3)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    for (name, one), colour in zip(classes.items(), _COLOURS, strict=False):
        points = [[0.0, 0.0], *one["roc"], [1.0, 1.0]]
        axes.plot(*zip(*points, strict=True), color=colour, label=_named(name, one, "AUC"))
    _unit_square(axes, "share of the others that is taken wrongly", "share of the class found")
    legend(axes, "lower right")
    return picture(
        "roc",
        figure,
        title="ROC curve",
        caption=f"Dashed: a model that knows nothing.{_left_out(classes)}",
    )


def confusion(
    labels: Sequence[str],
    counts: Sequence[Sequence[float]],
    predicted: Sequence[str] | None = None,
) -> Picture | None:
    """Draw which classes are taken for which; rows add up to 100 %.

    Args:
        labels: names of the rows.
        counts: records by true and by predicted class.
        predicted: names of the columns; None: those of the rows.
    """
    if len(labels) > _MOST_NAMED:
        return None
    names = [short(label) for label in labels]
    columns = names if predicted is None else [short(label) for label in predicted]
    rows = pandas.DataFrame(counts, index=names, columns=columns, dtype=float)
    sizes = rows.sum(axis=1)
    shares = rows.div(sizes.clip(lower=1), axis=0).clip(0, 1)
    shares.index = pandas.Index(
        [f"{name} ({sizes.iloc[at]:,.0f})" for at, name in enumerate(names)]
    )
    figure = heat_map(shares, named=True)
    figure.axes[0].set(xlabel="predicted")
    return picture(
        "confusion",
        figure,
        title="Which class is taken for which",
        caption=(
            "Share of each true class (row, with its records) that the model takes for each class"
            " (column)."
        ),
    )


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _draws(classes: Mapping[str, Any], curve: str) -> bool:
    return bool(classes) and all(len(one[curve]) > 1 for one in classes.values())


def _named(name: str, one: Mapping[str, Any], what: str) -> str:
    value = one["auc" if what == "AUC" else "average_precision"]["value"]
    return short(name) if value is None else f"{short(name)}, {what} {value:.3f}"


def _left_out(classes: Mapping[str, Any]) -> str:
    more = len(classes) - DRAWN
    return f" The first {DRAWN} of {len(classes)} classes." if more > 0 else ""


__all__ = ["DRAWN", "calibration_curve", "confusion", "precision_recall", "roc"]
