"""What a threshold on a class's score decides, and what its mistakes cost.

Net benefit: Vickers and Elkin, "Decision Curve Analysis", Medical Decision Making 2006. The
threshold that is cheapest for a calibrated model: Elkan, "The Foundations of Cost-Sensitive
Learning", IJCAI 2001.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from confide.metrics.grids import Floats, probability
from confide.metrics.score_table import ScoreTable, spread

WANTED = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds that people ask for; each stands for the nearest edge of a table."""

_APART = 0.02
_BEYOND_CHANCE = 2.0


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one mistake costs, in any unit.

    Attributes:
        missed: of a record of the class that is below the threshold, > 0.
        wrong: of another record at or above it, > 0.
    """

    missed: float = 1.0
    wrong: float = 1.0

    @property
    def threshold(self) -> float:
        """Cheapest threshold of a model whose probabilities are right."""
        return self.wrong / (self.wrong + self.missed)


def at_edges(counts: Floats) -> Floats:
    """Return records by what a threshold at each edge decides.

    Args:
        counts: shape [..., b, 2].

    Returns:
        Rightly taken, wrongly taken, missed, and rightly left: shape [4, ..., b - 1].
    """
    above = counts[..., ::-1, :].cumsum(axis=-2)[..., ::-1, :][..., 1:, :]
    below = counts.cumsum(axis=-2)[..., :-1, :]
    return numpy.stack([above[..., 1], above[..., 0], below[..., 1], below[..., 0]])


def cost_a_record(decided: Floats, costs: Costs) -> Floats:
    """Return what a record costs in the mean: [4, ...] -> [...]."""
    _, wrong, missed, _ = decided
    return numpy.asarray(
        (costs.wrong * wrong + costs.missed * missed) / decided.sum(axis=0).clip(min=1.0)
    )


def net_benefit(decided: Floats, threshold: Floats) -> Floats:
    """Return rightly taken less wrongly taken ones at the odds of the threshold, a record.

    Args:
        decided: shape [4, ...].
        threshold: probability, in (0, 1).
    """
    right, wrong, _, _ = decided
    odds = threshold / (1 - threshold)
    return numpy.asarray((right - wrong * odds) / decided.sum(axis=0).clip(min=1.0))


def cheapest(table: ScoreTable, costs: Costs) -> tuple[float, bool] | None:
    """Return the threshold, as log odds, that costs least as far as records can tell.

    That is the one a calibrated model would need, unless others are cheaper beyond chance: by two
    standard deviations of the difference, over records and noise. The cheapest of many edges is
    otherwise the one that noise favours.

    Returns:
        The threshold, and whether it is another than follows from the costs; None for a table of
        one bin.
    """
    if not len(table.edges):
        return None
    draws = table.draws
    each = cost_a_record(at_edges(table.between(draws.edges).counts), costs)
    drawn = cost_a_record(at_edges(draws.counts), costs)
    home = int(numpy.abs(draws.edges - _log_odds(costs.threshold)).argmin())
    gains = each[home] - each
    sure = [
        gain > _BEYOND_CHANCE * spread(drawn[:, home] - drawn[:, place])
        for place, gain in enumerate(gains)
    ]
    if not any(sure):
        return _log_odds(costs.threshold), False
    return float(draws.edges[int(numpy.where(sure, gains, -numpy.inf).argmax())]), True


def shown(table: ScoreTable, also: Sequence[float]) -> list[int]:
    """Return the places of the edges that a table of thresholds shows, ascending.

    Args:
        table: whose edges.
        also: further thresholds, as probabilities.
    """
    if len(table.edges) <= len(WANTED):
        return list(range(len(table.edges)))
    apart = [it for it in WANTED if all(abs(it - other) >= _APART for other in also)]
    return sorted({nearest_edge(table, _log_odds(it)) for it in (*apart, *also)})


def nearest_edge(table: ScoreTable, log_odds: float) -> int:
    """Return the place of the edge nearest to a threshold; the table has one at least."""
    return int(numpy.abs(table.edges - log_odds).argmin())


def as_probability(edge: float) -> float:
    """Return the probability that an edge stands for."""
    return float(probability(numpy.array(edge)))


def _log_odds(threshold: float) -> float:
    return float(numpy.log(threshold / (1 - threshold)))


__all__ = [
    "WANTED",
    "Costs",
    "as_probability",
    "at_edges",
    "cheapest",
    "cost_a_record",
    "nearest_edge",
    "net_benefit",
    "shown",
]
