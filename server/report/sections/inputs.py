"""Which columns a model of trees uses, and how much."""

from collections.abc import Mapping
from typing import cast

from confide.pages.figures import FEDERATED, Picture, new_axes, picture
from confide.server.report.marks import name_rows, short
from confide.server.report.read import RunFiles

_SHOWN = 20


def gain_by_column(run: RunFiles) -> Mapping[str, float]:
    """Return column -> its share of the gain of all splits, the largest first; {} of no trees."""
    model = run.summary.get("model", {})
    return cast(Mapping[str, float], model.get("gain_by_column", {}))


def gains(run: RunFiles) -> Picture | None:
    """Draw the share of each column; of many, those of the largest."""
    shares = dict(list(gain_by_column(run).items())[:_SHOWN])
    if not shares:
        return None
    figure, axes = new_axes(0.9 + 0.27 * len(shares))
    axes.barh(range(len(shares)), [*reversed(shares.values())], height=0.6, color=FEDERATED)
    name_rows(axes, [short(name) for name in reversed(shares)])
    axes.set_xlabel("share of the gain")
    more = len(gain_by_column(run)) - len(shares)
    others = f" {more} more columns have less." if more > 0 else ""
    return picture(
        "gains",
        figure,
        title="What the trees split by",
        caption="Each column's share of what all splits gained on the training records; columns"
        f" that say the same share it by chance.{others}",
    )


def most_used(run: RunFiles) -> str:
    """Return a sentence on the columns that the trees use most; '' of any other model."""
    shares = [(name, share) for name, share in gain_by_column(run).items() if share][:5]
    if not shares:
        return ""
    named = ", ".join(f"{name} {share:.0%}" for name, share in shares)
    return f"Of the gain of all splits, columns have these shares: {named}."


__all__ = ["gain_by_column", "gains", "most_used"]
