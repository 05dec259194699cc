"""Metrics of forecasts: errors and coverage, each the mean over steps of a record, as sums."""

import math

from confide.metrics.metric import Metric, table
from confide.metrics.sums import Figures, Sums, ValueFn, ratio

FIGURES = Figures(
    most={"records": 1.0, "absolute": 1.0, "smape": 2.0, "pinball": 1.0, "inside": 1.0}
)
"""What a record adds, in the order of a tally's columns; errors are shares of the range."""


def _scaled(figure: str, span: float) -> ValueFn:
    return ratio({figure: span}, {"records": 1})


def forecast_metrics(
    span: float, *, nominal: float, largest: float | None = None
) -> dict[str, Metric]:
    """Return the metrics of forecasts on a range.

    Args:
        span: width of the range, in units of the value.
        nominal: share of values that the outer quantiles should hold between them.
        largest: largest error; None for the span.
    """
    most = span if largest is None else largest

    def coverage_error(sums: Sums) -> float | None:
        if not sums["records"] > 0:
            return None
        return abs(sums["inside"] / sums["records"] - nominal)

    def of(name: str, figure: str, value_fn: ValueFn, top: float) -> Metric:
        return FIGURES.metric(
            name,
            "min",
            value_fn,
            of=("records", figure),
            statistic=f"{figure} of forecasts",
            largest=top,
        )

    return table(
        of("forecast_mae", "absolute", _scaled("absolute", span), most),
        of("forecast_smape", "smape", _scaled("smape", 1), 2.0),
        of("pinball", "pinball", _scaled("pinball", span), most),
        of("coverage_error", "inside", coverage_error, 1.0),
    )


FORECAST = forecast_metrics(1.0, nominal=0.8, largest=math.inf)
"""Metrics of forecasts, by name, whatever the range."""


__all__ = ["FIGURES", "FORECAST", "forecast_metrics"]
