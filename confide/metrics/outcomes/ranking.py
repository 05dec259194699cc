"""Metrics of rankings of a catalogue: hit rate, NDCG and reciprocal rank, as sums over records.

Every item is ranked, and none is sampled: metrics on samples of items order models otherwise
(Krichene and Rendle, KDD 2020). Items of one score share their places: the rank is the expected one
if ties were drawn, so that a model that scores all alike gets what chance gets.
"""

import math

from confide.metrics.metric import Metric, table
from confide.metrics.sums import Figures, ratio

FIRST = 10
"""Places that count for hit rate and NDCG."""
_LARGEST_LOSS = 20.0
RANKS = Figures(
    most={"records": 1.0, "hits": 1.0, "gain": 1.0, "reciprocal": 1.0, "loss": _LARGEST_LOSS}
)
"""What a record adds, in the order of a tally's columns."""
_PLACES = ("records", "hits", "gain", "reciprocal")


def _of_places(name: str, figure: str) -> Metric:
    # One statistic for the three: each more would cost as much noise again.
    return RANKS.metric(
        name,
        "max",
        ratio({figure: 1}, {"records": 1}),
        of=_PLACES,
        statistic="places in a ranking",
    )


RANKING = table(
    _of_places(f"hit_rate_{FIRST}", "hits"),
    _of_places(f"ndcg_{FIRST}", "gain"),
    _of_places("mrr", "reciprocal"),
    RANKS.metric(
        "next_item_loss",
        "min",
        ratio({"loss": 1}, {"records": 1}),
        of=("records", "loss"),
        statistic="loss of the next item",
        largest=math.inf,
    ),
)
"""Metrics of the next item, by name; the first one decides."""


__all__ = ["FIRST", "RANKING", "RANKS"]
