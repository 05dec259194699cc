"""Settings of a forecast: quantiles of the values that follow a window."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import Labelling, LossBounds, OutcomeConfig
from confide.metrics.metric import Metric
from confide.metrics.outcomes.forecast import FORECAST, forecast_metrics

AHEAD = "ahead"
"""Column of the values that follow a window, which an institution makes: a JSON list."""
LARGEST_OUTPUT = 2.0
"""Output of the upper end of the range, and less of the lower one: as large as logits are."""


@dataclass
class ForecastConfig(OutcomeConfig):
    """The next values of one column of readings, on a public range."""

    metrics: ClassVar[Mapping[str, Metric]] = FORECAST
    linear_model: ClassVar[str] = "a linear regression"

    kind: str = setting(
        "forecast", "Chosen by its group: task/outcome=forecast.", choices=("forecast",)
    )
    column: str = setting("value", "Column of readings that is predicted.")
    minimum: float | None = setting(None, "Lowest value of the public range.")
    maximum: float | None = setting(None, "Highest value of the public range.")
    steps: int = setting(1, "Steps after the window that are predicted.", ge=1, le=1000)
    loss: str = setting(
        "quantile",
        "quantile: pinball loss of each quantile; squared: of the mean alone, linear beyond half of"
        " the range.",
        choices=("quantile", "squared"),
    )
    quantiles: list[float] = setting(
        lambda: [0.1, 0.5, 0.9], "Quantiles, in order, 0.5 among them; squared loss knows none."
    )

    @property
    def span(self) -> tuple[float, float]:
        """The public range; of a config that gives none, which is told as a problem, 0 to 1."""
        if self.minimum is None or self.maximum is None:
            return 0.0, 1.0
        return self.minimum, self.maximum

    @property
    def levels(self) -> tuple[float, ...]:
        """Quantiles that are predicted; the mean stands for 0.5."""
        return tuple(self.quantiles) if self.loss == "quantile" else (0.5,)

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics, in units of the value."""
        low, high = self.span
        return forecast_metrics(high - low, nominal=self.levels[-1] - self.levels[0])

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the column of the values."""
        return (AHEAD,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name each quantile of each step."""
        return tuple(
            f"{self.column}_{step}_q{level:g}"
            for step in range(1, self.steps + 1)
            for level in self.levels
        )

    def bounds(self, labelling: Labelling) -> LossBounds | None:
        """Return those of squared loss, the mean over steps; pinball loss has no smoothness."""
        if self.loss == "quantile":
            return None
        return LossBounds(
            smoothness=1 / (LARGEST_OUTPUT * self.steps), gradient=self.steps**-0.5, noise=2.0
        )

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Name the value and its range."""
        low, high = self.span
        ahead = "the next value" if self.steps == 1 else f"the next {self.steps} values"
        return f"Predicts {ahead} of “{self.column}”, from {low:g} to {high:g}, of {records}"

    def intended(self, labelling: Labelling) -> str:
        """Name the value."""
        return (
            f"predict {self.column} of series of the same kind, from institutions like those that"
            " took part"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        low, high = self.minimum, self.maximum
        if low is None or high is None or not 0 < high - low < math.inf:
            yield (
                f"minimum={low}, maximum={high}: expected two numbers, minimum < maximum, that"
                " say what is possible and not what occurs."
            )
        levels = self.quantiles
        if sorted(set(levels)) != levels or 0.5 not in levels or not 0 < levels[0] < levels[-1] < 1:
            yield (
                f"quantiles={levels}: expected rising numbers between 0 and 1, 0.5 among them, such"
                " as [0.1, 0.5, 0.9]."
            )


__all__ = ["AHEAD", "LARGEST_OUTPUT", "ForecastConfig"]
