"""Settings of regression: a number on a public range."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from confide.config.fields import setting
from confide.config.outcomes.outcome import LABEL_COLUMN, Labelling, LossBounds, OutcomeConfig
from confide.metrics.metric import Metric
from confide.metrics.outcomes.regression import REGRESSION, regression_metrics

_LARGEST_OUTPUT = 2.0


@dataclass
class RegressionConfig(OutcomeConfig):
    """A number on a public range, such as a length of stay or an amount."""

    metrics: ClassVar[Mapping[str, Metric]] = REGRESSION
    linear_model: ClassVar[str] = "a linear regression"

    kind: str = setting(
        "regression", "Chosen by its group: task/outcome=regression.", choices=("regression",)
    )
    column: str = setting(LABEL_COLUMN, "Column that holds the number.")
    minimum: float | None = setting(None, "Lowest value of the public range.")
    maximum: float | None = setting(None, "Highest value of the public range.")
    scale: str = setting(
        "linear",
        "What is learnt. linear: the number; log1p: the logarithm of 1 + its distance from the"
        " minimum, for amounts that span magnitudes.",
        choices=("linear", "log1p"),
    )
    loss: str = setting(
        "squared",
        "squared: linear beyond half of the range, which no fitting model is off by, so that a"
        " record's gradient is bounded; huber: linear beyond delta.",
        choices=("squared", "huber"),
    )
    delta: float = setting(
        0.5,
        "huber: residual beyond which the loss is linear, as a share of half of the range on the"
        " scale.",
        gt=0,
        le=1,
    )
    outside: str = setting(
        "clip",
        "What a number outside the range is. clip: the nearest end of it, and counted; error:"
        " refused.",
        choices=("clip", "error"),
    )

    @property
    def span(self) -> tuple[float, float]:
        """The public range; of a config that gives none, which is told as a problem, 0 to 1."""
        if self.minimum is None or self.maximum is None:
            return 0.0, 1.0
        return self.minimum, self.maximum

    @property
    def threshold(self) -> float:
        """Residual beyond which the loss is linear, as a share of half of the range."""
        return self.delta if self.loss == "huber" else 1.0

    @property
    def largest_output(self) -> float:
        """Output that the upper end of the range is mapped to; the lower one to minus this.

        As large as logits: so the loss is as steep as that of classes, and takes the same learning
        rates.
        """
        return _LARGEST_OUTPUT / self.threshold

    @property
    def metric_table(self) -> Mapping[str, Metric]:
        """Its metrics, in units of the number."""
        return regression_metrics(*self.span, is_log=self.scale == "log1p")

    def columns(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the column of the number."""
        return (self.column,)

    def output_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name the number."""
        return (self.column,)

    def label_names(self, labelling: Labelling) -> tuple[str, ...]:
        """Name nothing: it is no label."""
        return ()

    def bounds(self, labelling: Labelling) -> LossBounds:
        """Return those of the Huber loss over its threshold.

        Its gradient is the residual over the threshold, cut at -1 and 1. Noise counts twice as much
        as that of a logit, beside the residuals that are not cut.
        """
        steepest = 1 / (self.largest_output * self.threshold)
        return LossBounds(smoothness=steepest, gradient=1.0, noise=2.0 * self.threshold)

    def describe(self, labelling: Labelling, *, purpose: str, records: str) -> str:
        """Name the number and its range."""
        low, high = self.span
        return f"Predicts “{self.column}”, a number from {low:g} to {high:g}, of {records}"

    def intended(self, labelling: Labelling) -> str:
        """Name the number."""
        low, high = self.span
        return (
            f"predict {self.column}, between {low:g} and {high:g}, of records of the same kind,"
            " from institutions like those that took part"
        )

    def problems(self) -> Iterator[str]:
        """Yield what contradicts itself."""
        low, high = self.minimum, self.maximum
        # The difference of two finite numbers may be infinite.
        if low is None or high is None or not 0 < high - low < math.inf:
            yield (
                f"minimum={low}, maximum={high}: expected two numbers, minimum < maximum, that"
                " say what is possible and not what occurs."
            )


__all__ = ["RegressionConfig"]
