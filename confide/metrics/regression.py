"""Metrics of a number on a public range, and the sums behind them.

Predictions have shape [n, 1], in the number's own unit; targets have shape [n], as shares of the
range. Sums are of shares too, so that one record adds at most 1 to each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confide.metrics.metric import Metric, Statistic, table

if TYPE_CHECKING:
    import numpy


def root_mean_square(parts: Sequence[tuple[float, float]]) -> float:
    """Put root mean squared errors together, by the squares behind them; exact.

    >>> root_mean_square([(3.0, 1), (4.0, 1)])
    3.5355339059327378
    """
    total = sum(weight for _, weight in parts)
    return math.sqrt(sum(value**2 * weight for value, weight in parts) / total)


@dataclass(frozen=True)
class _Range:
    """The public range of a number, as functions of predictions in it need it.

    Attributes:
        minimum: lower end.
        span: its length, > 0.
    """

    minimum: float
    span: float

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
        if spread <= 0:
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
        """Return the root of the mean squared distance from sums of squares."""
        errors, _, above, below = (math.sqrt(3) * float(one) for one in sums)
        return self.span * math.sqrt(max(errors, 0.0) / max(above + below, 1.0))


def regression_metrics(
    minimum: float, maximum: float, *, largest: float | None = None
) -> dict[str, Metric]:
    """Return the metrics of a number, by name.

    Args:
        minimum: lower end of the public range.
        maximum: upper end.
        largest: largest error that there can be; None for the length of the range.
    """
    own = _Range(minimum, maximum - minimum)
    largest = own.span if largest is None else largest
    absolute = Statistic(
        name="absolute errors",
        rows_fn=_absolute,
        usable_fn=own.usable,
        counts_fn=lambda numbers: _weights(1.0, 1.0),
    )
    squares = Statistic(
        name="squared errors",
        rows_fn=_squares,
        usable_fn=own.usable,
        counts_fn=lambda numbers: _weights(0.0, 0.0, math.sqrt(3), math.sqrt(3)),
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


def _absolute(shares: "numpy.ndarray", truth: "numpy.ndarray") -> "numpy.ndarray":
    """Return (e, 1 - e) of each record, e the distance as a share of the range, shape [n, 2]."""
    import numpy

    distance = abs(shares - truth)
    return numpy.stack([distance, 1 - distance], axis=1).clip(0, 1)


def _squares(shares: "numpy.ndarray", truth: "numpy.ndarray") -> "numpy.ndarray":
    """Return (e^2, (2 t - 1)^2, t, 1 - t) / sqrt(3) of each record, t its target, shape [n, 4].

    The last two have a norm of at most 1 together. Squares are taken from the middle of the range,
    where they are smallest and so is what noise does to a variance.
    """
    import numpy

    rows = [(shares - truth) ** 2, (2 * truth - 1) ** 2, truth, 1 - truth]
    return numpy.stack(rows, axis=1).clip(0, 1) / math.sqrt(3)


def _weights(*counts: float) -> "numpy.ndarray":
    import numpy

    return numpy.array(counts)


def r2_of(sums: "numpy.ndarray") -> float | None:
    """Return R2; None where noise leaves no variance to explain."""
    errors, squares, above, below = (math.sqrt(3) * float(one) for one in sums)
    count = above + below
    # Of 2 t - 1, whose sum is above - below
    spread = (squares - (above - below) ** 2 / count) / 4 if count >= 1 else 0.0
    return None if spread <= 0 else 1 - max(errors, 0.0) / spread


REGRESSION: dict[str, Metric] = regression_metrics(0.0, 1.0, largest=math.inf)
"""Metrics of a regression, by name, whatever the range."""


__all__ = ["REGRESSION", "r2_of", "regression_metrics", "root_mean_square"]
