"""What a metric is.

A metric is an entry of a task's table: whoever judges a model, checks a reply or writes a report
reads direction, range and pooling from that entry, and so does whoever releases it with noise: the
entry names the sums over records that it follows from. Needs no torch, so that configs can be
checked without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from confide.metrics.pooling import PoolFn, mean_by_support

if TYPE_CHECKING:
    import numpy

    from confide.metrics.floor import Floor
    from confide.metrics.tally import ScoreTally

ScoreFn = Callable[["numpy.ndarray", "numpy.ndarray"], float | None]
"""Scores [n, ...] and targets [n, ...] of an outcome, n >= 1 -> value; None where it is undefined.

Of classes: probabilities [n, c] and class indices [n]."""
UsableFn = Callable[["numpy.ndarray", "numpy.ndarray"], tuple["numpy.ndarray", "numpy.ndarray"]]
"""Scores [n, ...] as a model gives them, which may be anything, and targets as they are -> both as
rows can be made of them; each record's from its own alone."""
RowsFn = Callable[["numpy.ndarray", "numpy.ndarray"], "numpy.ndarray"]
"""Usable scores [n, ...] and targets [n, ...] -> one row a record [n, w].

No entry is negative, no row is longer than 1 (L2), and a row depends on its own record alone. Of
classes: probabilities [n, c], finite and in [0, 1], and labels [n] in 0..c-1."""
EstimateFn = Callable[["numpy.ndarray"], float | None]
"""Sum of rows, with noise in it [w] -> value, in no bounds yet; None where it is undefined."""
CountFn = Callable[["numpy.ndarray", "numpy.ndarray", "Floor"], "numpy.ndarray | None"]
"""Usable scores [n, ...], targets [n, ...] and the least number of units that a set chosen by
scores may have -> exact counts, int64, of a shape fixed by the outcome; None for none."""
SumsFn = Callable[["ScoreTally"], "numpy.ndarray | None"]
"""Tally -> sums as an :data:`EstimateFn` takes them; None where it does not tell them."""
NOISE_QUANTILE = 1.96
"""Standard deviations of noise that 95 % of it is within."""
NOISE = "_noise"
"""Ends the name of the figure that says how much noise a metric holds: its standard deviation."""


def noise_name(metric: str) -> str:
    """Return the name of the figure that says how much noise a metric holds."""
    return f"{metric}{NOISE}"


def is_noisy(evaluation: Mapping[str, float]) -> bool:
    """Tell whether an evaluation was released with noise."""
    return any(name.endswith(NOISE) for name in evaluation)


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """Sums over records from which a metric follows, for releasing them with noise.

    Attributes:
        name: by which two metrics that need the same sums are recognised.
        rows_fn: what each record adds.
        usable_fn: what rows are made of, whatever a model gives.
        counts_fn: how many numbers a record's scores are, of classes their number -> weights [w]
            whose product with any record's row is 1, so that the sums tell how many records there
            are.
        exact_fn: counts in its place where a policy lets exact metrics out; None for none.
    """

    name: str
    rows_fn: RowsFn
    usable_fn: UsableFn
    counts_fn: Callable[[int], "numpy.ndarray"]
    exact_fn: CountFn | None = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a task.

    Attributes:
        name: as configs, messages and reports write it; it means the same for every outcome.
        direction: which values are better.
        least: lowest value that it can have.
        largest: highest value that it can have.
        score_fn: computes it from scores and targets.
        pool_fn: how values of institutions become the value of all.
        proportion: whether it is a share of the records, so that an interval follows from its value
            and support.
        statistic: what is released, with noise, in place of the metric; None for one that leaves
            exact or not at all.
        estimate_fn: computes the metric from the statistic's noisy sums; goes with ``statistic``.
        reported: whether tasks report it unless they name their metrics.
        sums_fn: reads the statistic's sums off a tally, exact ones in the form that ``estimate_fn``
            takes too, so that values of institutions are not averaged where sums are known; None
            where the average is as good.
        weighed_by: metric by which institutions' values are pooled, where all of them tell it, in
            place of their number of records.
    """

    name: str
    direction: Literal["max", "min"]
    least: float
    largest: float
    # The coordinator never sees scores of records: it has institutions' values, and pools them.
    score_fn: ScoreFn
    pool_fn: PoolFn = mean_by_support
    proportion: bool = False
    statistic: Statistic | None = None
    estimate_fn: EstimateFn | None = None
    # Each statistic more is noise more in all others, and plans' texts name their metrics.
    reported: bool = True
    sums_fn: SumsFn | None = None
    weighed_by: str | None = None

    def is_better(self, value: float, than: float | None) -> bool:
        """Tell whether a value beats another; anything beats None, and NaN beats nothing."""
        if value != value:  # NaN: a model that has diverged
            return False
        if than is None:
            return True
        return value > than if self.direction == "max" else value < than


def reported(metrics: Mapping[str, Metric]) -> list[str]:
    """Return the names of metrics that a task reports unless it names its own."""
    return [name for name, metric in metrics.items() if metric.reported]


def table(*metrics: Metric) -> dict[str, Metric]:
    """Key metrics by their names, in the order in which they are reported."""
    return {metric.name: metric for metric in metrics}


__all__ = [
    "CountFn",
    "EstimateFn",
    "Metric",
    "RowsFn",
    "ScoreFn",
    "Statistic",
    "SumsFn",
    "UsableFn",
    "is_noisy",
    "noise_name",
    "reported",
    "table",
]
