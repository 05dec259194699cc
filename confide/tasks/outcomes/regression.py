"""Regression: a number on a public range, under squared or Huber loss (Huber 1964).

The range, or the logarithm in it, is mapped to outputs as large as logits. The loss is that of the
residual as a share of half of the range, scaled so that its gradient in the output is the residual
over the threshold beyond which the loss is linear: at most 1, whatever the record.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from confide.config.outcomes.outcome import Labelling
from confide.config.outcomes.regression import RegressionConfig
from confide.tasks.outcomes.classes import PREDICTION
from confide.tasks.outcomes.outcome import Targets, Values, all_there, at_least_float32
from confide.tasks.reading import Problem, decimal_commas, distinct_of, first, number_of

if TYPE_CHECKING:
    from torch import Tensor

_BINS, _STRATA = 5, 10
_FEW = 5
"""Numbers of which even all say nothing about a range."""


class Regression:
    """Targets are shares of the range, float32 of shape [n]; scores are numbers, shape [n, 1].

    Args:
        config: column, range, scale and loss.
        labelling: not read.
    """

    target_shape: tuple[int, ...] = ()
    score_shape: tuple[int, ...] = (1,)
    score_name = "predictions"

    def __init__(self, config: RegressionConfig, labelling: Labelling) -> None:
        self._config = config
        self._low, high = config.span
        self._span = high - self._low

    @property
    def score_unit(self) -> float:
        """The range."""
        return self._span

    def read(self, columns: Mapping[str, Sequence[object]]) -> Targets:
        """Read numbers; what lies outside the range is its nearest end, or refused."""
        codes, distinct = distinct_of(columns[self._config.column])
        text = [str(value).strip() for value in distinct]
        # A null has the code -1, which is the last element.
        numbers = numpy.array([*map(number_of, text), numpy.nan])[codes]
        null = numpy.array([*(value == "" for value in text), True])[codes]
        wrong = numpy.isnan(numbers) & ~null
        beyond = (numbers < self._low) | (numbers > self._low + self._span)
        known = ~numpy.isnan(numbers)
        problems = [*self._unread(text, codes, null, wrong)]
        notes: list[Problem] = []
        if beyond.any():
            told = self._outside(numbers, known, beyond)
            (notes if self._may_clip(known, beyond) else problems).append(told)
        shares = (numpy.where(known, numbers, self._low) - self._low) / self._span
        return Targets(shares.clip(0, 1).astype(numpy.float32), known, problems, notes)

    def _unread(
        self, text: Sequence[str], codes: Values, null: Values, wrong: Values
    ) -> Iterator[Problem]:
        column, total = self._config.column, len(null)
        if null.any():
            yield Problem(
                f"Column {column}: {null.sum()} of {total} numbers to be predicted are null; fill"
                " them in or remove these records.",
                first(null),
            )
        if wrong.any():
            yield Problem(
                f"Column {column}: {wrong.sum()} of {total} values are not numbers, which"
                " outcome.kind=regression predicts; correct or remove them."
                f"{decimal_commas(text, codes)}",
                first(wrong),
            )

    def _may_clip(self, known: Values, beyond: Values) -> bool:
        # All of them outside is another unit, and nothing is left to learn from
        all_outside = known.sum() >= _FEW and beyond.sum() == known.sum()
        return self._config.outside == "clip" and not all_outside

    def _outside(self, numbers: Values, known: Values, beyond: Values) -> Problem:
        column, low, high = self._config.column, *self._config.span
        what = (
            f"Column {column}: {beyond.sum()} of {known.sum()} numbers lie outside outcome.minimum"
            f" to outcome.maximum, {low:g} to {high:g}"
        )
        if self._may_clip(known, beyond):
            return Problem(f"{what}, and become the nearest end of it.", first(beyond))
        fix = "Are they in another unit? Convert them, or widen the range"
        if self._config.outside == "error":
            fix = "Correct them, widen the range, or set outcome.outside=clip"
        return Problem(f"{what}. {fix}.", first(beyond))

    def counts(self, values: Values) -> dict[str, int]:
        """Count records in five parts of the range, equal on its scale."""
        inner = [self._share(part / _BINS) for part in range(1, _BINS)]
        places = numpy.searchsorted(inner, values, side="right")
        counted = numpy.bincount(places, minlength=_BINS).tolist()
        return dict(zip(self._bins([0.0, *inner, 1.0]), counted, strict=True))

    def _bins(self, shares: Sequence[float]) -> list[str]:
        """Name parts of the range by their ends, with as many digits as tell these apart."""
        ends = [self._low + share * self._span for share in shares]
        digits = next(
            (n for n in range(3, 17) if len({f"{end:.{n}g}" for end in ends}) == len(ends)), 17
        )
        names = [f"{end:.{digits}g}" for end in ends]
        return [f"{one} to {other}" for one, other in itertools.pairwise(names)]

    def _share(self, mapped: float) -> float:
        """Return the share of the range at a share of its scale."""
        if self._config.scale == "linear":
            return mapped
        return math.expm1(mapped * math.log1p(self._span)) / self._span

    def count_problems(
        self, counts: Mapping[str, int], *, total: int, minimum: int
    ) -> Iterator[str]:
        """Yield that there are too few numbers to learn from; no part of the range needs any."""
        if sum(counts.values()) < minimum:
            yield (
                f"Column {self._config.column}: {sum(counts.values())} of {total} records have a"
                f" number, expected at least data.min_per_label={minimum}; bring more, or lower it."
            )

    def strata(self, values: Values) -> list[str]:
        """Name each record's tenth of all numbers."""
        shares = numpy.arange(1, _STRATA) / _STRATA
        edges: Values = numpy.unique(numpy.quantile(values, shares)) if len(values) else shares
        return [f"tenth-{place + 1}" for place in numpy.searchsorted(edges, values, side="right")]

    def invent(self, count: int, generator: numpy.random.Generator) -> Mapping[str, list[str]]:
        """Draw numbers of the range, each as likely."""
        drawn = generator.uniform(self._low, self._low + self._span, count)
        return {self._config.column: [repr(number) for number in drawn.tolist()]}

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the Huber loss, scaled."""
        from torch.nn import functional

        if self._config.scale == "log1p":
            targets = (targets * self._span).log1p() / math.log1p(self._span)
        threshold, largest = self._config.threshold, self._config.largest_output
        exact = at_least_float32(outputs)[:, 0]
        mapped = 2 * targets.to(exact.dtype) - 1
        residuals = functional.huber_loss(
            exact / largest, mapped, reduction="none", delta=threshold
        )
        return residuals * (largest / threshold)

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Return numbers in the range."""
        shares = (outputs.float() / self._config.largest_output).clamp(-1, 1) / 2 + 0.5
        if self._config.scale == "log1p":
            shares = ((shares * math.log1p(self._span)).exp() - 1) / self._span
        return self._low + shares * self._span

    def measured(self, scores: Values, targets: Values) -> tuple[Values, Values]:
        """Return both in float64."""
        return scores.astype(numpy.float64), targets.astype(numpy.float64)

    def prediction_columns(self) -> Sequence[str]:
        """Name the column of the number."""
        return (PREDICTION,)

    def predictions(self, scores: Values) -> Mapping[str, Sequence[object] | Values]:
        """Return the number."""
        return {PREDICTION: scores[:, 0]}

    def placeholder(self) -> Mapping[str, str]:
        """Return a number of the range."""
        return {self._config.column: repr(self._low)}

    def labelled(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Say which records have a number."""
        return all_there(columns, (self._config.column,))


__all__ = ["Regression"]
