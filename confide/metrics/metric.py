"""What a metric is, and how the values of institutions become one.

A metric is an entry of a task's table: whoever judges a model, checks a reply or writes a report
reads direction, range and pooling from that entry. Needs no torch, so that configs can be checked
without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy

ScoreFn = Callable[["numpy.ndarray", "numpy.ndarray"], float | None]
"""Scores [n, c] and labels [n], n >= 1 -> value; None where it is undefined."""
PoolFn = Callable[[Sequence[tuple[float, float]]], float]
"""(value, support) of each institution, all supports > 0 -> value of all together."""


def mean_by_support(parts: Sequence[tuple[float, float]]) -> float:
    """Average values, weighted by the number of records they were measured on.

    Exact for a mean over records; for others, such as AUC, a stand-in for the pooled value.

    >>> mean_by_support([(0.5, 10), (1.0, 30)])
    0.875
    """
    return sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a task.

    Attributes:
        name: as configs, messages and reports write it; it means the same in every task.
        direction: which values are better.
        least: lowest value that it can have.
        largest: highest value that it can have.
        score_fn: computes it from scores and labels.
        pool_fn: how values of institutions become the value of all.
        proportion: whether it is a share of the records, so that an interval follows from its value
            and support.
    """

    name: str
    direction: Literal["max", "min"]
    least: float
    largest: float
    # The coordinator never sees scores of records: it has institutions' values, and pools them.
    score_fn: ScoreFn
    pool_fn: PoolFn = mean_by_support
    proportion: bool = False

    def is_better(self, value: float, than: float | None) -> bool:
        """Tell whether a value beats another; anything beats None, and NaN beats nothing."""
        if value != value:  # NaN: a model that has diverged
            return False
        if than is None:
            return True
        return value > than if self.direction == "max" else value < than


def table(*metrics: Metric) -> dict[str, Metric]:
    """Key metrics by their names, in the order in which they are reported."""
    return {metric.name: metric for metric in metrics}


__all__ = ["Metric", "PoolFn", "ScoreFn", "mean_by_support", "table"]
