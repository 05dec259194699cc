"""Series: windows of readings as rows of numbers, each on its public range."""

from collections.abc import Mapping, Sequence

import numpy
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.outcomes.forecast import LARGEST_OUTPUT, ForecastConfig
from confide.config.tasks.series import WINDOW, SeriesConfig
from confide.tasks.labelled import Labelled
from confide.tasks.made.windows import numbers_of
from confide.tasks.outcomes.forecast import Forecast
from confide.tasks.tabular import FEATURES
from confide.tasks.task import LABELS, Batch, Examples, OutputFn

_EDGE = 2.0
LOWEST = -_EDGE
"""What the lowest value of a reading's range is to a model; the highest is its opposite."""


class Series(Labelled):
    """Windows in, the outcome's outputs out.

    Args:
        config: readings with their ranges, and how long a window is.
    """

    def __init__(self, config: SeriesConfig) -> None:
        super().__init__(config)
        self._config = config

    @property
    def num_inputs(self) -> int:
        """Numbers of a window."""
        return self._config.num_inputs

    def encode(self, records: Dataset) -> Examples:
        """Encode windows: ``features`` of shape [n, lookback * readings], step after step.

        Each reading's range is mapped to [-2, 2], and what lies outside is its nearest end.

        Raises:
            DataError: naming every problem.
        """
        _, targets = self.read(records)
        shape = (self._config.lookback, len(self._config.readings))
        found = [numbers_of(text, shape) for text in records[WINDOW][:]]
        windows = numpy.array(found, dtype=numpy.float64).reshape(len(found), *shape)
        low, high = numpy.array([one.span for one in self._config.readings.values()]).T
        shares = ((windows - low) / (high - low)).clip(0, 1)
        rows = torch.from_numpy((2 * _EDGE * shares - _EDGE).astype(numpy.float32))
        return Examples({FEATURES: rows.flatten(start_dim=1), LABELS: targets})


class ForecastSeries(Series):
    """A series whose next values are predicted: tallied, beside forecasts that repeat the past."""

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return :data:`~confide.metrics.outcomes.forecast.FIGURES`, shape [b, 5]."""
        return self._forecast.tally(outputs, batch[LABELS])

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return a column a step and quantile."""
        told = self._forecast.predictions(self._forecast.scores(outputs).numpy())
        return {name: list(values) for name, values in told.items()}

    def references(self, train: Sequence[Examples]) -> Mapping[str, OutputFn]:
        """Return the last value again, and that of the season before; they need no training."""

        def naive(batch: Batch) -> Tensor:
            return self._repeated(batch, [-1] * self._config.ahead)

        def seasonal(batch: Batch) -> Tensor:
            season = self._config.season
            return self._repeated(batch, [step % season - season for step in range(self._ahead)])

        return {"last value": naive, **({"last season": seasonal} if self._config.season else {})}

    @property
    def _ahead(self) -> int:
        return self._config.ahead

    @property
    def _forecast(self) -> Forecast:
        assert isinstance(self._outcome, Forecast)
        return self._outcome

    def _repeated(self, batch: Batch, places: Sequence[int]) -> Tensor:
        """Return outputs that are a window's own values, the same for every quantile."""
        settings = self._config.outcome
        assert isinstance(settings, ForecastConfig)
        names = list(self._config.readings)
        windows = batch[FEATURES].unflatten(1, (self._config.lookback, len(names)))
        taken = windows[:, list(places), names.index(settings.column)]
        # From the range of the reading to that of what is predicted.
        (low, high), (least, most) = self._config.readings[settings.column].span, settings.span
        values = low + (taken + _EDGE) / (2 * _EDGE) * (high - low)
        outputs = LARGEST_OUTPUT * (2 * (values - least) / (most - least) - 1)
        repeated: Tensor = outputs[:, :, None].expand(-1, -1, len(settings.levels))
        return repeated.flatten(start_dim=1)


def make_series(config: SeriesConfig) -> Series:
    """Make the task of a schema: one that tallies where values are predicted."""
    return (ForecastSeries if config.ahead else Series)(config)


__all__ = ["LOWEST", "ForecastSeries", "Series", "make_series"]
