"""Metrics of a number on a public range, and the sums behind them.

Predictions have shape [n, 1], in the number's own unit; targets have shape [n], as shares of the
range. Sums are of shares too, so that one record adds at most 1 to each. Beside what metrics need,
they tell predictions and numbers by bin (:mod:`confide.metrics.number_bins`): noise in R2 and in
the root of the mean square is 15 % more for it, that in the mean distance a tenth where this is a
tenth of the range.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confide.metrics.metric import Metric, Statistic, table
from confide.metrics.pooling import root_mean_square

if TYPE_CHECKING:
    import numpy

    from confide.metrics.floor import Floor
    from confide.metrics.tally import ScoreTally

ABSOLUTE, SQUARES = "absolute errors", "squared errors"
"""Names of the statistics."""
_SUMMED = 4
"""Sums over all records that R2 follows from: of e^2, (2 t - 1)^2, t and 1 - t."""


@dataclass(frozen=True)
class _Range:
    """The public range of a number, as functions of predictions in it need it.

    Attributes:
        minimum: lower end.
        span: its length, > 0.
        is_log: whether predictions are counted in bins of its logarithm.
    """

    minimum: float
    span: float
    is_log: bool = False

    def usable(
        self, scores: "numpy.ndarray", targets: "numpy.ndarray"
    ) -> tuple["numpy.ndarray", "numpy.ndarray"]:
        """Return predictions and targets as shares of the range, each record's from its own."""
        import numpy

        truth = numpy.nan_to_num(numpy.asarray(targets, dtype=float).reshape(len(targets)))
        truth = truth.clip(0, 1)
        with numpy.errstate(over="ignore", invalid="ignore"):
            told = self.shares(numpy.asarray(scores, dtype=float).reshape(len(truth), 1))
        # No answer counts as the worst one, so that a model cannot choose who is counted
        worst = numpy.where(truth < 0.5, 1.0, 0.0)
        return numpy.where(numpy.isfinite(told), told, worst).clip(0, 1), truth

    def shares(self, scores: "numpy.ndarray") -> "numpy.ndarray":
        """Return predictions [n, 1] as shares of the range [n]."""
        told: numpy.ndarray = (scores[:, 0] - self.minimum) / self.span
        return told

    def r2(self, scores: "numpy.ndarray", targets: "numpy.ndarray") -> float | None:
        """Return the share of the variance that is explained; None where there is none."""
        spread = float(((targets - targets.mean()) ** 2).sum())
        # Equal numbers may differ from their mean, which is rounded
        if spread <= 0 or targets.min() == targets.max():
            return None
        return 1 - float(((self.shares(scores) - targets) ** 2).sum()) / spread

    def mae(self, scores: "numpy.ndarray", targets: "numpy.ndarray") -> float:
        """Return the mean distance of prediction and number."""
        return self.span * float(abs(self.shares(scores) - targets).mean())

    def rmse(self, scores: "numpy.ndarray", targets: "numpy.ndarray") -> float:
        """Return the root of the mean squared distance."""
        return self.span * math.sqrt(float(((self.shares(scores) - targets) ** 2).mean()))

    def mae_of(self, sums: "numpy.ndarray") -> float:
        """Return the mean distance from sums of (e, 1 - e)."""
        return self.span * float(sums[0]) / max(float(sums.sum()), 1.0)

    def rmse_of(self, sums: "numpy.ndarray") -> float:
        """Return the root of the mean squared distance from sums of squares.

        Below 0 where noise has made their sum negative: cut off there, values drawn around it would
        all be 0, and the noise in them would seem to be none.
        """
        errors, _, above, below = (2 * float(one) for one in sums[:_SUMMED])
        mean = errors / max(above + below, 1.0)
        return self.span * math.copysign(math.sqrt(abs(mean)), mean)

    # --- what is added up

    def absolute(self, shares: "numpy.ndarray", truth: "numpy.ndarray") -> "numpy.ndarray":
        """Return e and, at the bin of the residual, 1 - e: [n, 1 + bins], e the distance."""
        import numpy

        from confide.metrics.number_bins import RESIDUAL_BINS, residual_places

        distance = abs(shares - truth).clip(0, 1)
        rows = numpy.zeros((len(truth), 1 + RESIDUAL_BINS))
        rows[:, 0] = distance
        rows[numpy.arange(len(truth)), 1 + residual_places(shares - truth)] = 1 - distance
        return rows

    def squares(self, shares: "numpy.ndarray", truth: "numpy.ndarray") -> "numpy.ndarray":
        """Return e^2, (2 t - 1)^2, (t, 1 - t), and that again at the bin of the prediction, halved.

        t is the target. Each of the four parts has a norm of at most 1: [n, 4 + 2 bins]. Squares
        are taken from the middle of the range, where they are smallest and so is what noise does to
        a variance.
        """
        import numpy

        from confide.metrics.number_bins import NOISY_BINS, Bins

        bins = Bins(span=self.span, is_log=self.is_log).places(shares, NOISY_BINS)
        whole = [(shares - truth) ** 2, (2 * truth - 1) ** 2, truth, 1 - truth]
        rows = numpy.zeros((len(truth), _SUMMED + 2 * NOISY_BINS))
        rows[:, :_SUMMED] = numpy.stack(whole, axis=1)
        every = numpy.arange(len(truth))
        rows[every, _SUMMED + 2 * bins] = truth
        rows[every, _SUMMED + 2 * bins + 1] = 1 - truth
        return rows.clip(0, 1) / 2

    def exact_absolute(
        self, shares: "numpy.ndarray", truth: "numpy.ndarray", floor: "Floor"
    ) -> "numpy.ndarray | None":
        """Count residuals, above a floor."""
        from confide.metrics.number_bins import exact_residuals

        return exact_residuals(shares - truth, floor)

    def exact_squares(
        self, shares: "numpy.ndarray", truth: "numpy.ndarray", floor: "Floor"
    ) -> "numpy.ndarray | None":
        """Add up squares, and numbers by bin of the prediction, above a floor."""
        from confide.metrics.number_bins import Bins, exact_squares

        return exact_squares(Bins(span=self.span, is_log=self.is_log), shares, truth, floor)


def regression_metrics(
    minimum: float, maximum: float, *, largest: float | None = None, is_log: bool = False
) -> dict[str, Metric]:
    """Return the metrics of a number, by name.

    Args:
        minimum: lower end of the public range.
        maximum: upper end.
        largest: largest error that there can be; None for the length of the range.
        is_log: whether predictions are counted in bins of the range's logarithm.
    """
    own = _Range(minimum, maximum - minimum, is_log)
    largest = own.span if largest is None else largest
    absolute = Statistic(
        name=ABSOLUTE,
        rows_fn=own.absolute,
        usable_fn=own.usable,
        counts_fn=_absolute_counts,
        exact_fn=own.exact_absolute,
    )
    squares = Statistic(
        name=SQUARES,
        rows_fn=own.squares,
        usable_fn=own.usable,
        counts_fn=_squares_counts,
        exact_fn=own.exact_squares,
    )
    return table(
        Metric(
            name="r2",
            direction="max",
            least=-math.inf,
            largest=1.0,
            score_fn=own.r2,
            statistic=squares,
            estimate_fn=r2_of,
            sums_fn=squares_of,
        ),
        Metric(
            name="mae",
            direction="min",
            least=0.0,
            largest=largest,
            score_fn=own.mae,
            statistic=absolute,
            estimate_fn=own.mae_of,
        ),
        Metric(
            name="rmse",
            direction="min",
            least=0.0,
            largest=largest,
            score_fn=own.rmse,
            pool_fn=root_mean_square,
            statistic=squares,
            estimate_fn=own.rmse_of,
        ),
    )


def _absolute_counts(numbers: int) -> "numpy.ndarray":
    import numpy

    from confide.metrics.number_bins import RESIDUAL_BINS

    return numpy.ones(1 + RESIDUAL_BINS)


def _squares_counts(numbers: int) -> "numpy.ndarray":
    import numpy

    from confide.metrics.number_bins import NOISY_BINS

    # Sums over bins hold the noise of all of them
    return numpy.array([0.0, 0.0, 2.0, 2.0, *([0.0] * 2 * NOISY_BINS)])


def r2_of(sums: "numpy.ndarray") -> float | None:
    """Return R2; None where noise leaves no variance to explain.

    Above 1 where noise has made the sum of squares negative, as :meth:`_Range.rmse_of` has it.
    """
    errors, squares, above, below = (2 * float(one) for one in sums[:_SUMMED])
    count = above + below
    # Of 2 t - 1, whose sum is above - below
    spread = (squares - (above - below) ** 2 / count) / 4 if count >= 1 else 0.0
    return None if spread <= 0 else 1 - errors / spread


def squares_of(tally: "ScoreTally") -> "numpy.ndarray | None":
    """Return the four sums that R2 follows from, as :func:`r2_of` reads them, from any tally.

    None where it does not tell them: of another release, too.
    """
    import numpy

    from confide.metrics.number_bins import EXACT_BINS, NOISY_BINS, SUM_UNIT

    sums = numpy.asarray(tally.sums.get(SQUARES, ()), dtype=float)
    if tally.std:
        return sums[:_SUMMED] if len(sums) == _SUMMED + 2 * NOISY_BINS else None
    return sums[:_SUMMED] / SUM_UNIT / 2 if len(sums) == _SUMMED + 3 * EXACT_BINS else None


REGRESSION: dict[str, Metric] = regression_metrics(0.0, 1.0, largest=math.inf)
"""Metrics of a regression, by name, whatever the range."""


__all__ = [
    "ABSOLUTE",
    "REGRESSION",
    "SQUARES",
    "r2_of",
    "regression_metrics",
    "squares_of",
]
