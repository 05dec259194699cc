"""Attributions of one record: by which method, how far they add up, and with how much effort."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from confide.config.custom import implementation
from confide.errors import ConfigError
from confide.explaining.case import Case, ScoreFn
from confide.explaining.methods.table import METHODS, Method

AttributeFn = Callable[[Case, ScoreFn, int], Tensor]
"""Case, what is explained, effort -> attributions: [u] of units, or of the shape of one input where
the method takes gradients; with an embedding of ids, of the shape of the ids. Of what is explained
piece by piece, k of these."""
BOUND = 0.01
"""Largest error of the sum of attributions, as a share of the difference that they add up to."""
_NOTHING = 1e-3
"""Difference so small that a share of it says nothing, in units of what is explained."""


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What each unit adds to each piece of what was written.

    Attributes:
        values: float64 of shape [k, u].
        scores: of the record, [k].
        baseline_scores: of the baseline, [k].
    """

    values: Tensor
    scores: Tensor
    baseline_scores: Tensor

    @property
    def differences(self) -> Tensor:
        """Scores of the record less those of the baseline, [k]."""
        return self.scores - self.baseline_scores


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What each unit of a record adds to what is explained.

    Attributes:
        method: name, of :data:`~confide.explaining.methods.table.METHODS`.
        values: of units, float64 of shape [u].
        entries: of each entry of the input, where the method gives them; None where it does not.
        score: what is explained, of the record.
        baseline_score: the same of the baseline.
        effort: steps, or samples, that it took; 0 where the method has none.
        adds_up: whether values are meant to add up to the difference of both.
        instead_of: method that was tried first and whose values did not; "" where none was.
        pieces: the same of each piece, whose sum all the above is; None where there are none.
    """

    method: str
    values: Tensor
    entries: Tensor | None
    score: float
    baseline_score: float
    effort: int
    adds_up: bool
    instead_of: str = ""
    pieces: Pieces | None = None

    @property
    def total(self) -> float:
        """Sum of the values."""
        return float(self.values.sum())

    @property
    def difference(self) -> float:
        """Score of the record less that of the baseline."""
        return self.score - self.baseline_score

    @property
    def error(self) -> float:
        """How far the sum is from the difference, as a share of it; 0 where both are nearly 0.

        Of pieces: how far all are, as a share of all differences; none makes up for another.
        """
        apart, whole = abs(self.total - self.difference), abs(self.difference)
        if self.pieces is not None:
            differences = self.pieces.differences
            apart = float((self.pieces.values.sum(dim=1) - differences).abs().sum())
            whole = float(differences.abs().sum())
        return 0.0 if apart <= _NOTHING * BOUND else apart / max(whole, _NOTHING)

    @property
    def is_complete(self) -> bool:
        """Whether the sum is as near to the difference as it should be."""
        return self.error <= BOUND


def method_for(case: Case, wanted: str | None) -> str:
    """Return the method to take: the one asked for, or the first that the model allows.

    Raises:
        ConfigError: if there is no such method, or the model does not allow it.
    """
    able = [name for name, it in METHODS.items() if case.has_gradient or not it.needs_gradient]
    if wanted is None:
        return able[0]
    if wanted not in METHODS:
        raise ConfigError(f"--method {wanted}: expected one of {', '.join(METHODS)}.")
    if wanted not in able:
        raise ConfigError(
            f"--method {wanted} takes gradients, and this model has none in its inputs; choose"
            f" {' or '.join(able)}."
        )
    return wanted


def attribute_by(case: Case, score_fn: ScoreFn, wanted: str | None) -> Attribution:
    """Attribute a score by the method asked for, or by one that the model allows.

    Where none is asked for and attributions do not add up, as where a model scales rows to one
    length and the baseline has none, the next method that adds up is taken.

    Raises:
        ConfigError: if there is no such method, or the model does not allow it.
    """
    found = attribute(case, score_fn, method_for(case, wanted))
    if wanted is not None or found.is_complete:
        return found
    others = [
        name
        for name, it in METHODS.items()
        if name != found.method and it.adds_up and (case.has_gradient or not it.needs_gradient)
    ]
    if not others:
        return found
    return replace(attribute(case, score_fn, others[0]), instead_of=found.method)


def attribute(case: Case, score_fn: ScoreFn, method: str) -> Attribution:
    """Attribute a score to the units of a record.

    Where attributions should add up to the difference from the baseline and do not, the effort is
    doubled up to the method's largest.

    Args:
        case: the record.
        score_fn: what is explained.
        method: name of the method.
    """
    how = METHODS[method]
    with torch.no_grad():
        ends = torch.cat([case.inputs, case.baseline])
        scores, baseline_scores = score_fn(case.outputs_fn(ends)).double()
    effort = how.effort
    while True:
        values, entries = _computed(case, score_fn, how, effort)
        values = values.reshape(*scores.shape, len(case.units))
        pieces = None
        if scores.dim():
            pieces = Pieces(values=values, scores=scores, baseline_scores=baseline_scores)
            values, entries = values.sum(dim=0), None if entries is None else entries.sum(dim=0)
        found = Attribution(
            method=method,
            values=values,
            entries=entries,
            score=float(scores.sum()),
            baseline_score=float(baseline_scores.sum()),
            effort=effort,
            adds_up=how.adds_up,
            pieces=pieces,
        )
        if not how.adds_up or found.is_complete or 2 * effort > how.most:
            return found
        effort *= 2


def _computed(
    case: Case, score_fn: ScoreFn, how: Method, effort: int
) -> tuple[Tensor, Tensor | None]:
    attribute_fn: AttributeFn = implementation(how.attribute)
    made = attribute_fn(case, score_fn, effort)
    if not how.needs_gradient:
        return made.double(), None
    return case.of_units(made), made


def strongest(values: Sequence[float], count: int, *, positive: bool) -> list[int]:
    """Return places of the values that say most for something, or against it, at most ``count``."""
    sign = 1 if positive else -1
    order = sorted(range(len(values)), key=lambda place: -sign * values[place])
    largest = max((abs(value) for value in values), default=0.0)
    # What adds nearly nothing is no reason
    least = max(largest * 0.02, math.ulp(0.0))
    return [place for place in order if sign * values[place] >= least][:count]


__all__ = [
    "BOUND",
    "AttributeFn",
    "Attribution",
    "Pieces",
    "attribute",
    "attribute_by",
    "method_for",
    "strongest",
]
