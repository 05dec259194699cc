"""What statistics say: figures, each with the interval that its noise or floor leaves it."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        value: its best estimate; None where it is too uncertain, or held back.
        low: lower end of its interval: 95 % of the noise, or what a floor leaves open.
        high: upper end.
    """

    value: float | None
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> "Figure":
        """Return a figure that is known."""
        return cls(value, value, value)

    def scaled(self, factor: float, offset: float = 0.0) -> "Figure":
        """Return ``offset`` plus ``factor`` (> 0) times it."""
        value = None if self.value is None else offset + factor * self.value
        return Figure(value, offset + factor * self.low, offset + factor * self.high)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of a numeric column's cells.

    Attributes:
        edges: of the cells, ascending.
        counts: units in each.
    """

    edges: Sequence[float]
    counts: Sequence[Figure]


@dataclass(frozen=True, kw_only=True)
class ColumnFigures:
    """What is known of one column.

    Attributes:
        kind: numeric or categorical.
        institutions: how many tell of it.
        missing: share of units without a value.
        mean: of those that have one.
        deviation: standard deviation of the same.
        quantiles: share of units below, as text -> value.
        histogram: counts of cells; None for categories.
        categories: category -> units.
    """

    kind: str
    institutions: int
    missing: Figure
    mean: Figure | None = None
    deviation: Figure | None = None
    quantiles: Mapping[str, Figure] = field(default_factory=dict)
    histogram: Histogram | None = None
    categories: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OutcomeFigures:
    """What is known of what is predicted.

    Attributes:
        kind: of the outcome.
        column: that it is read from; of several labels, of times and of events there are others.
        shares: label -> share of the units that have it, or for which it holds.
        number: of a regression.
        events: units that had the event.
        censored: units that were last seen without it.
        event_times: units by the public interval of their event.
        censored_times: units by that in which they were last seen; the last cell, which has no
            length, is of those who were free of the event at the horizon.
    """

    kind: str
    column: str
    shares: Mapping[str, Figure] = field(default_factory=dict)
    number: ColumnFigures | None = None
    events: Figure | None = None
    censored: Figure | None = None
    event_times: Histogram | None = None
    censored_times: Histogram | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Statistics of one institution, or of several together.

    Attributes:
        units: n, the number of training units that they declare.
        institutions: how many they are.
        columns: column -> its figures.
        labels: label -> units that have it, or for which it holds; empty where there is none.
        correlations: "one / other" -> correlation of the units that have both.
    """

    units: int
    institutions: int
    columns: Mapping[str, ColumnFigures]
    labels: Mapping[str, Figure]
    correlations: Mapping[str, Figure]
    outcome: OutcomeFigures

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: rounded, without what a column has not."""
        plain: dict[str, Any] = _rounded(dataclasses.asdict(self))
        outcome = plain["outcome"]
        for column in (*plain["columns"].values(), *filter(None, [outcome["number"]])):
            _drop_empty(column, ("mean", "deviation", "histogram", "quantiles", "categories"))
        _drop_empty(outcome, [name for name in outcome if name not in ("kind", "column")])
        return plain


def _drop_empty(plain: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if not plain[name]:
            del plain[name]


def _rounded(node: Any) -> Any:
    """Round to 6 digits: what is beyond them is rounding's own."""
    if isinstance(node, dict):
        return {key: _rounded(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_rounded(value) for value in node]
    if isinstance(node, float):
        return float(f"{node:.6g}") if math.isfinite(node) else None
    return node


def pair_name(one: str, other: str) -> str:
    """Return how a pair of columns is called among correlations."""
    return f"{one} / {other}"


CROWDED = 0.3
"""With a larger share in the first of a range's 16 equal cells, its octaves are told apart."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

__all__ = [
    "CROWDED",
    "QUANTILES",
    "ColumnFigures",
    "Figure",
    "Histogram",
    "OutcomeFigures",
    "Summary",
    "pair_name",
]
