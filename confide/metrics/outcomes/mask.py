"""Metrics of masks: every pixel of a picture with a class.

Of each record the shares of its pixels in which a class was told rightly, and in which it was told
or is there: the intersection over union of all records is the ratio of the sums, and no mean over
batches or institutions. Dice is a mean over records (Dice, Ecology 1945).
"""

import functools
from collections.abc import Mapping, Sequence

from confide.metrics.metric import Metric, table
from confide.metrics.sums import Figures, Sums, ratio

_LARGEST_LOSS = 10.0
OF_ALL = ("records", "loss", "dice", "right")


def mask_figures(classes: Sequence[str]) -> Figures:
    """Return what a record adds.

    Args:
        classes: all of them, what is behind everything first.
    """
    sums = [f"{figure} {one}" for one in classes for figure in ("both", "either")]
    most = dict(zip(OF_ALL, (1.0, _LARGEST_LOSS, 1.0, 1.0), strict=True))
    return Figures(most={**most, **dict.fromkeys(sums, 1.0)})


@functools.lru_cache(maxsize=16)
def mask_metrics(classes: tuple[str, ...]) -> Mapping[str, Metric]:
    """Return metrics of tallies whose columns are those of :func:`mask_figures`."""
    figures, shown = mask_figures(classes), classes[1:]

    def iou(sums: Sums) -> float | None:
        parts = [
            sums[f"both {one}"] / sums[f"either {one}"]
            for one in shown
            if sums[f"either {one}"] > 0
        ]
        return sum(parts) / len(parts) if parts else None

    of_classes = [f"{figure} {one}" for one in shown for figure in ("both", "either")]
    return table(
        figures.metric("iou", "max", iou, of=of_classes or ("records",), statistic="iou"),
        figures.metric(
            "dice",
            "max",
            ratio({"dice": 1}, {"records": 1}),
            of=("dice", "records"),
            statistic="dice",
        ),
        figures.metric(
            "pixel_accuracy",
            "max",
            ratio({"right": 1}, {"records": 1}),
            of=("right", "records"),
            statistic="right",
        ),
    )


__all__ = ["OF_ALL", "mask_figures", "mask_metrics"]
