"""Scores as integers that add up: institutions' metrics inside a masked sum.

A sum under masks shows nobody's part of it, so that scores of single institutions stay with them:
what comes out are those of all together. Per split, an institution adds its support; per metric,
a weight, the weight times a function of the value by which the metric is pooled
(:data:`~confide.metrics.pooling.FORMS`), and the square of the noise in that. What it does not tell
adds nothing anywhere.

Integers are whole numbers of a unit, the same for all institutions: of a metric of records within
-1 to 1, 2^-30 of a record. With m institutions and a weight of W altogether, the function of the
pooled value is exact to within ``m * (unit + 2^-20 * largest) / (2 * W)``, where the second term is
there for weights that are no whole numbers: for 10 institutions with 1,000 records, 5e-12. Units
are larger where values are (a share of 2^-30 of the largest that the metric may have), and 2^-20
where it has no largest or is weighed by another metric, whose sum may be far larger than a number
of records. Noise is rounded up, its square times W^2 by at most m units (:data:`_NOISE_BITS`).
"""

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from confide.metrics.evaluation import Scores
from confide.metrics.metric import Metric, noise_name
from confide.metrics.pooling import FORMS, Form, mean_by_support

log = logging.getLogger(__name__)

_LARGEST = 2**61
"""No sum of all institutions' integers is larger."""
_SUPPORT = "num_examples"
_VALUE_BITS, _COARSE_BITS = 30, 20
"""A value's unit is 2^-30 of the largest; of weights by other metrics and without bounds, 2^-20."""
_WEIGHT_BITS = 20
"""Released with noise, a number of records has fractions."""
_NOISE_BITS, _COARSE_NOISE_BITS = 24, 4
"""Of the square of noise times weight: 2^-24, or 2^-4, of the largest value's square."""
_FIGURES = 3
"""Integers of a metric: weight times value, weight, and the square of weight times noise."""


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """How one metric is written.

    Attributes:
        form: the sums that it is pooled by.
        weight: figure that weighs an institution's value.
        bits: a value's unit is 2^-bits.
        noise_bits: of the square of noise.
        least: of ``form.to`` of a value.
        largest: likewise.
    """

    form: Form
    weight: str
    bits: int
    noise_bits: int
    least: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class SummedScores:
    """Writes an institution's evaluations as integers, and reads the sum of all.

    Attributes:
        splits: whose scores may be told.
        names: of metrics, in the plan's order.
        table: the task's metrics; one that is not in it is averaged by support.
        most: institutions in one sum, at least 1.
    """

    splits: Sequence[str]
    names: Sequence[str]
    table: Mapping[str, Metric]
    most: int

    @property
    def length(self) -> int:
        """Number of integers."""
        return len(self.splits) * self._width

    def write(self, evaluations: Mapping[str, Scores]) -> NDArray[numpy.int64]:
        """Return an institution's evaluations as integers, of shape [length].

        What is not finite is left out, and so is, with a line in the log, what is too large for the
        sum of all to be sure to fit.

        Args:
            evaluations: split -> metrics; of splits that are not asked for, nothing is written.
        """
        rows = numpy.zeros((len(self.splits), self._width), dtype=numpy.int64)
        for row, split in zip(rows, self.splits, strict=True):
            scores = evaluations.get(split)
            if scores is not None:
                row[:] = self._row(split, scores)
        return rows.reshape(-1)

    def read(self, total: NDArray[numpy.int64]) -> dict[str, dict[str, float]]:
        """Return the evaluations of all institutions together.

        Args:
            total: sum of what they wrote, int64 of shape [length].

        Returns:
            Split -> metrics, their noise where there is any, and ``num_examples``; without splits
            and metrics that nobody told, and metrics outside their range.

        Raises:
            ValueError: if the sum is of another shape.
        """
        if total.shape != (self.length,):
            raise ValueError(f"Expected a sum of shape [{self.length}], got {list(total.shape)}.")
        read = {}
        for row, split in zip(total.reshape(-1, self._width), self.splits, strict=True):
            support = _plain(int(row[0]))
            if support > 0:
                read[split] = {**self._metrics(split, row[1:]), _SUPPORT: support}
        return read

    @property
    def _width(self) -> int:
        return 1 + _FIGURES * len(self.names)

    @functools.cached_property
    def _scales(self) -> dict[str, _Scale | None]:
        return {name: self._scale(name) for name in self.names}

    def _scale(self, name: str) -> _Scale | None:
        """Return how a metric is written; None for one whose sums are not known."""
        metric = self.table.get(name)
        form = FORMS.get(mean_by_support if metric is None else metric.pool_fn)
        if form is None:
            return None
        by = None if metric is None else metric.weighed_by
        # A plan without the metric that weighs has all institutions weighed by their records
        weight = by if by is not None and by in self.names else _SUPPORT
        ends = (-math.inf, math.inf) if metric is None else (metric.least, metric.largest)
        least, largest = map(form.to, ends)
        top = max(abs(least), abs(largest), 1.0)
        # A total has a largest value for the sake of messages alone: no count comes near it
        is_bounded = math.isfinite(top) and not form.is_total
        smaller = math.ceil(math.log2(top)) if is_bounded else 0
        is_fine = is_bounded and weight == _SUPPORT
        return _Scale(
            form=form,
            weight=weight,
            bits=(_VALUE_BITS if is_fine else _COARSE_BITS) - smaller,
            noise_bits=(_NOISE_BITS if is_fine else _COARSE_NOISE_BITS) - 2 * smaller,
            least=least,
            largest=largest,
        )

    def _row(self, split: str, scores: Scores) -> list[int]:
        """Return the integers of one split."""
        support = self._whole(scores[_SUPPORT], _WEIGHT_BITS)
        if support is None or support <= 0:
            log.warning("%s: its number of records is none for a masked sum; left out.", split)
            return [0] * self._width
        row = [support]
        for name in self.names:
            scale = self._scales[name]
            figures = None
            if scale is not None and name in scores and scale.weight in scores:
                figures = self._figures(name, scale, scores)
                if figures is None:
                    log.warning(
                        "%s/%s: not finite, or too large for a masked sum; left out.", split, name
                    )
            row += figures or [0] * _FIGURES
        return row

    def _figures(self, name: str, scale: _Scale, scores: Scores) -> list[int] | None:
        """Return the integers of one metric; None if one does not fit."""
        value, noise = scores[name], scores.get(noise_name(name), 0.0)
        weight = 1.0 if scale.form.is_total else scores[scale.weight]
        if weight <= 0:
            return [0] * _FIGURES
        if not (math.isfinite(value) and math.isfinite(noise)):
            return None
        told = weight * scale.form.to(value)
        spread = weight * scale.form.spread(value, noise)
        figures = [
            self._whole(told, scale.bits),
            self._whole(weight, _WEIGHT_BITS),
            # Upwards: noise that is there never reads as none
            self._whole(spread * spread, scale.noise_bits, upwards=True),
        ]
        known = [figure for figure in figures if figure is not None]
        return known if len(known) == _FIGURES else None

    def _whole(self, value: float, bits: int, *, upwards: bool = False) -> int | None:
        """Return a value in units of 2^-bits; None where sums of such values may not fit."""
        scaled = value * 2.0**bits
        if not abs(scaled) <= _LARGEST / self.most - 1:  # NaN, too
            return None
        return math.ceil(scaled) if upwards else round(scaled)

    def _metrics(self, split: str, figures: NDArray[numpy.int64]) -> dict[str, float]:
        """Return the metrics of one split of all institutions."""
        found = {}
        for name, sums in zip(self.names, figures.reshape(-1, _FIGURES), strict=True):
            scale = self._scales[name]
            told, weight, noise = map(int, sums)
            if scale is None or weight <= 0:
                continue
            pooled = self._pooled(scale, told, weight)
            if pooled is None:
                log.warning("%s/%s: its masked sum is outside its range; left out.", split, name)
                continue
            found[name] = pooled
            if noise > 0:
                spread = math.sqrt(noise * 2.0**-scale.noise_bits)
                if not scale.form.is_total:
                    spread /= weight * 2.0**-_WEIGHT_BITS
                found[noise_name(name)] = scale.form.noise(pooled, spread)
        return found

    def _pooled(self, scale: _Scale, told: int, weight: int) -> float | None:
        """Return the value of all; None where no institutions' values can have made it."""
        unit = 2.0**-scale.bits
        if scale.form.is_total:
            counted = told * unit
            inside = scale.least - self.most * unit <= counted <= scale.largest * self.most
            return max(counted, scale.least) if inside else None
        weights = weight * 2.0**-_WEIGHT_BITS
        mean = told * unit / weights
        size = max(abs(mean), 1.0)
        slack = self.most * (unit + size * 2.0**-_WEIGHT_BITS) / weights
        if not scale.least - slack <= mean <= scale.largest + slack:
            return None
        return scale.form.back(min(max(mean, scale.least), scale.largest))


def _plain(whole: int) -> float:
    """Return a weight, as an int where it is one: so are numbers of records without noise."""
    value = whole * 2.0**-_WEIGHT_BITS
    return int(value) if value == int(value) else value


__all__ = ["SummedScores"]
