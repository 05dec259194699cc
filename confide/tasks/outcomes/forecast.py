"""Forecasts: quantiles under pinball loss (Koenker and Bassett 1978), or the mean.

The range is mapped to outputs as large as logits. A record's loss is the mean over steps and
quantiles, whose gradient in the outputs is no longer than 1.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from confide.config.outcomes.forecast import AHEAD, LARGEST_OUTPUT, ForecastConfig
from confide.config.outcomes.outcome import Labelling
from confide.tasks.made.windows import numbers_of
from confide.tasks.outcomes.outcome import Targets, Values, all_there, at_least_float32
from confide.tasks.reading import Problem, first

if TYPE_CHECKING:
    from torch import Tensor

_BINS = 5


class Forecast:
    """Targets are shares of the range, float32 of shape [n, h]; scores are values [n, h, k].

    Args:
        config: column, range, steps and quantiles.
        labelling: not read.
    """

    score_name = "forecasts"

    def __init__(self, config: ForecastConfig, labelling: Labelling) -> None:
        self._config = config
        self._low, high = config.span
        self._span = high - self._low

    @property
    def target_shape(self) -> tuple[int, ...]:
        """One value a step."""
        return (self._config.steps,)

    @property
    def score_shape(self) -> tuple[int, ...]:
        """One value a step and quantile."""
        return (self._config.steps, len(self._config.levels))

    @property
    def score_unit(self) -> float:
        """The range."""
        return self._span

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read lists of values; what lies outside the range is its nearest end."""
        texts, shape = columns[AHEAD], self.target_shape
        found = [numbers_of(text, shape) for text in texts]
        known = numpy.array([one is not None for one in found], dtype=bool)
        values = numpy.array([numpy.zeros(shape) if one is None else one for one in found])
        shares = (values.reshape(len(texts), *shape) - self._low) / self._span
        problems = []
        if not known.all():
            problems.append(
                Problem(
                    f"Column {AHEAD}: {(~known).sum()} of {len(known)} are no JSON list of"
                    f" {shape[0]} numbers, the values after a window.",
                    first(~known),
                )
            )
        return Targets(shares.clip(0, 1).astype(numpy.float32), known, problems)

    def counts(self, values: Values) -> dict[str, int]:
        """Count windows by the first value, in five equal parts of the range."""
        places = (values[:, 0] * _BINS).astype(int).clip(0, _BINS - 1)
        counted = numpy.bincount(places, minlength=_BINS).tolist()
        ends = [f"{self._low + self._span * part / _BINS:.6g}" for part in range(_BINS + 1)]
        names = [f"{one} to {other}" for one, other in itertools.pairwise(ends)]
        return dict(zip(names, counted, strict=True))

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield that there are too few windows."""
        if sum(counts.values()) < minimum:
            yield (
                f"{sum(counts.values())} of {total} windows have values after them, expected at"
                f" least data.min_per_label={minimum}; bring more, or lower it."
            )

    def strata(self, values: Values) -> list[str]:
        """Name each window's fifth of the range."""
        places = (values[:, 0] * _BINS).astype(int).clip(0, _BINS - 1)
        return [f"fifth-{place + 1}" for place in places]

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Draw values of the range, each as likely."""
        low, steps = self._low, self._config.steps
        drawn = generator.uniform(low, low + self._span, (count, steps))
        return {AHEAD: [json.dumps(values) for values in drawn.tolist()]}

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return pinball loss, or the Huber loss of squared, the mean over steps."""
        import torch
        from torch.nn import functional

        exact = at_least_float32(outputs).unflatten(1, self.score_shape)
        mapped = LARGEST_OUTPUT * (2 * targets.to(exact.dtype) - 1)[:, :, None]
        if self._config.loss == "squared":
            shares = functional.huber_loss(
                exact / LARGEST_OUTPUT, mapped.expand_as(exact) / LARGEST_OUTPUT, reduction="none"
            )
            squared: Tensor = (LARGEST_OUTPUT * shares).mean(dim=(1, 2))
            return squared
        levels = torch.tensor(self._config.levels, dtype=exact.dtype, device=exact.device)
        below = mapped - exact
        losses: Tensor = torch.maximum(levels * below, (levels - 1) * below).mean(dim=(1, 2))
        return losses

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return values in the range, quantiles in order, shape [b, h, k]."""
        shares = (outputs.float() / LARGEST_OUTPUT).clamp(-1, 1) / 2 + 0.5
        # Each quantile is learnt by itself, and two may cross: their order is known.
        values = shares.unflatten(1, self.score_shape).sort(dim=2).values
        told: Tensor = self._low + values * self._span
        return told

    def tally(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the figures of each record (``forecast.FIGURES``), float64 [b, 5]."""
        import torch

        shares = (self.scores(outputs).double() - self._low) / self._span
        levels = torch.tensor(self._config.levels, dtype=torch.float64, device=shares.device)
        middle = shares[:, :, self._config.levels.index(0.5)]
        truth = targets.double()
        below = truth[:, :, None] - shares
        pinball = torch.maximum(levels * below, (levels - 1) * below).mean(dim=(1, 2))
        errors = (middle - truth).abs()
        # In the unit of the range: what is 0 has no relative error.
        zero = -self._low / self._span
        sizes = (middle - zero).abs() + (truth - zero).abs()
        smape = 2 * errors / sizes.clamp(min=1e-12)
        inside = (truth >= shares[:, :, 0]) & (truth <= shares[:, :, -1])
        figures = [errors.mean(dim=1), smape.mean(dim=1), pinball, inside.double().mean(dim=1)]
        return torch.stack([torch.ones_like(pinball), *figures], dim=1)

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return tallies as they are."""
        return scores.astype(numpy.float64), targets

    def prediction_columns(self) -> Sequence[str]:
        """Name each quantile of each step."""
        return self._config.output_names(Labelling(labels=(), column=""))

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Return a column a step and quantile."""
        flat = scores.reshape(len(scores), -1)
        return {name: flat[:, i] for i, name in enumerate(self.prediction_columns())}

    def placeholder(self) -> Mapping[str, str]:
        """Return values of the range."""
        return {AHEAD: str([self._low] * self._config.steps)}

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which windows have values after them."""
        return all_there(columns, (AHEAD,))


__all__ = ["Forecast"]
