"""Metrics of tallies: from sums over records, such as entities that were found and that there are.

A record adds a row of figures whose names the task fixes, and a metric is a function of the sum: it
is the same for one institution, for some and for all together, whichever way records are split. A
mean of institutions' values is another number wherever a metric is a ratio.

With noise leaves the sum of clipped rows: those figures that a metric needs, each as a share of the
most that a record is taken to add, beside a one that counts the record. A record that adds more
counts as one that adds the most, which biases the metric and not the guarantee.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from confide.metrics.metric import Metric, Statistic
from confide.metrics.tally import LARGEST_SUM

# Configs hold tables of metrics, and need no numpy.
if TYPE_CHECKING:
    import numpy

    from confide.metrics.floor import Floor
    from confide.metrics.tally import ScoreTally

Sums = Mapping[str, float]
"""Figure -> its sum over records."""
ValueFn = Callable[[Sums], float | None]
"""Sums, noise included -> value; None where it is undefined."""
EXACT_UNIT = 2.0**-16
"""Exact sums are told as whole numbers of this."""


def whole_sums(sums: "numpy.ndarray") -> "numpy.ndarray":
    """Return exact sums as whole numbers of :data:`EXACT_UNIT`.

    Those of a model that has diverged may be of any size: no more is told than a tally may hold.
    """
    import numpy

    whole: numpy.ndarray = numpy.round(numpy.minimum(sums / EXACT_UNIT, LARGEST_SUM))
    return whole.astype(numpy.int64)


def within_sums(tallies: "numpy.ndarray") -> "numpy.ndarray":
    """Return tallies none of which alone is more than a sum may be: sums do not overflow."""
    import numpy

    kept: numpy.ndarray = numpy.minimum(tallies, LARGEST_SUM)
    return kept


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a record adds.

    Attributes:
        most: name of a figure -> the most that one record adds to it once sums leave with noise;
            in the order of a tally's columns.
    """

    most: Mapping[str, float]

    def named(self, tallies: "numpy.ndarray") -> dict[str, float]:
        """Return the sums of tallies [n, w] by their names."""
        # In float64 whatever came: sums of many records would lose the small ones.
        sums = tallies.astype("float64").sum(axis=0)
        return dict(zip(self.most, sums.tolist(), strict=True))

    def statistic(self, name: str, chosen: Sequence[str]) -> Statistic:
        """Return what leaves with noise in place of some of the figures.

        Args:
            name: by which metrics that need the same figures are recognised.
            chosen: figures, at least one; the fewer, the less noise is in each.
        """
        places = [list(self.most).index(figure) for figure in chosen]
        most = [self.most[figure] for figure in chosen]
        # Of k figures and the one beside them none is more than 1, so that a row's norm is at most
        # the root of k + 1.
        norm = math.sqrt(len(chosen) + 1)

        def usable(
            tallies: "numpy.ndarray", targets: "numpy.ndarray"
        ) -> tuple["numpy.ndarray", "numpy.ndarray"]:
            import numpy

            figures = tallies[:, places].astype("float64")
            # Of a model that has diverged: as far off as a record can be.
            return numpy.where(numpy.isfinite(figures), figures.clip(min=0), most), targets

        def rows(tallies: "numpy.ndarray", targets: "numpy.ndarray") -> "numpy.ndarray":
            import numpy

            ones = numpy.ones((len(tallies), 1))
            return numpy.concatenate([ones, tallies.clip(max=most) / most], axis=1) / norm

        def counts(width: int) -> "numpy.ndarray":
            import numpy

            weights = numpy.zeros(len(chosen) + 1)
            weights[0] = norm
            return weights

        def exact(
            tallies: "numpy.ndarray", targets: "numpy.ndarray", floor: "Floor"
        ) -> "numpy.ndarray | None":
            import numpy

            if not floor.enough(numpy.ones(len(tallies), dtype=bool)):
                return None
            return whole_sums(numpy.concatenate([[len(tallies)], within_sums(tallies).sum(axis=0)]))

        return Statistic(
            name=name, rows_fn=rows, usable_fn=usable, counts_fn=counts, exact_fn=exact
        )

    def metric(  # noqa: PLR0913 - what a metric is
        self,
        name: str,
        direction: Literal["max", "min"],
        value_fn: ValueFn,
        *,
        of: Sequence[str],
        statistic: str,
        largest: float = 1.0,
        weighed_by: str | None = None,
    ) -> Metric:
        """Return a metric from 0 to ``largest``.

        Args:
            name: as configs, messages and reports write it.
            direction: which values are better.
            value_fn: function that works it out from the sums of ``of``.
            of: figures that it needs.
            statistic: name of these figures together; the same for metrics that share them.
            largest: highest value.
            weighed_by: as of :class:`Metric`.
        """
        chosen = tuple(of)
        most = [self.most[figure] for figure in chosen]

        def score(tallies: "numpy.ndarray", targets: "numpy.ndarray") -> float | None:
            named = self.named(tallies)
            return value_fn({figure: named[figure] for figure in chosen})

        def estimate(sums: "numpy.ndarray") -> float | None:
            scale = math.sqrt(len(chosen) + 1)
            parts = [float(it) * scale for it in sums[1:]]
            return value_fn(
                {figure: it * top for figure, it, top in zip(chosen, parts, most, strict=True)}
            )

        def told(tally: "ScoreTally") -> "numpy.ndarray | None":
            import numpy

            sums = numpy.asarray(tally.sums.get(statistic, ()), dtype=float)
            if len(sums) != len(chosen) + 1:
                return None
            if tally.std:
                return sums
            scale = numpy.array([1.0, *most]) * math.sqrt(len(sums))
            released: numpy.ndarray = sums * EXACT_UNIT / scale
            return released

        return Metric(
            name=name,
            direction=direction,
            least=0.0,
            largest=largest,
            score_fn=score,
            statistic=self.statistic(statistic, chosen),
            estimate_fn=estimate,
            sums_fn=told,
            weighed_by=weighed_by,
        )


def ratio(above: Mapping[str, float], below: Mapping[str, float]) -> ValueFn:
    """Return a function of sums: one weighted sum over another; None where that is not positive.

    >>> f1 = ratio({"hits": 2}, {"predicted": 1, "gold": 1})
    >>> f1({"hits": 3.0, "predicted": 4.0, "gold": 8.0})
    0.5
    """

    def value(sums: Sums) -> float | None:
        total = sum(weight * sums[name] for name, weight in below.items())
        if not total > 0:
            return None
        return sum(weight * sums[name] for name, weight in above.items()) / total

    return value


__all__ = ["EXACT_UNIT", "Figures", "Sums", "ValueFn", "ratio", "whole_sums", "within_sums"]
