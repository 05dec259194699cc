"""What statistics say: figures, each with the interval that its noise or floor leaves it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
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
class Summary:
    """Statistics of one institution, or of several together.

    Attributes:
        units: n, the number of training units that they declare.
        institutions: how many they are.
        columns: column -> its figures.
        labels: class -> units; empty where the task has none.
        correlations: "one / other" -> correlation of the units that have both.
    """

    units: int
    institutions: int
    columns: Mapping[str, ColumnFigures]
    labels: Mapping[str, Figure]
    correlations: Mapping[str, Figure]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: rounded, without what a column has not."""
        plain: dict[str, Any] = _rounded(dataclasses.asdict(self))
        for column in plain["columns"].values():
            for name in ("mean", "deviation", "histogram", "quantiles", "categories"):
                if not column[name]:
                    del column[name]
        return plain


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

__all__ = ["CROWDED", "QUANTILES", "ColumnFigures", "Figure", "Histogram", "Summary", "pair_name"]
