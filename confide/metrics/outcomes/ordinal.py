"""Metrics of labels in order, and the one sum behind all of them: who was taken for what.

Scores are probabilities of the labels, shape [n, k]; targets are places in the order, shape [n].
The label that is predicted is the median: the first that at least half of the probability is up to.
"""

import math
from typing import TYPE_CHECKING

from confide.metrics.metric import Metric, Statistic, table
from confide.metrics.outcomes.classification import usable

if TYPE_CHECKING:
    import numpy

    from confide.metrics.floor import Floor


def median_labels(probabilities: "numpy.ndarray") -> "numpy.ndarray":
    """Return the place of the median label of each record, shape [n].

    >>> import numpy
    >>> median_labels(numpy.array([[0.4, 0.2, 0.4], [0.6, 0.0, 0.4]])).tolist()
    [1, 0]
    """
    # The last one is left out: the sum of all may come to a little less than half, were it rounded
    places: numpy.ndarray = (probabilities[:, :-1].cumsum(axis=1) < 0.5).sum(axis=1)
    return places


def accuracy(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the share of records whose median label is theirs."""
    return float((median_labels(probabilities) == labels).mean())


def mae(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the mean distance of median label and label, in places."""
    return float(abs(median_labels(probabilities) - labels).mean())


def weighted_kappa(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float | None:
    """Return Cohen's kappa with quadratic weights (Psychological Bulletin 1968).

    1 less squared distances as a share of what they were if predictions and labels were drawn
    apart; None where that is nothing.
    """
    return weighted_kappa_of(_confusion(probabilities, labels).sum(axis=0))


# --- the same from sums over records, which leave an institution with noise


def _confusion(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> "numpy.ndarray":
    """Return 1 at each record's label and prediction, shape [n, k^2]."""
    import numpy

    count, labelled = probabilities.shape
    rows = numpy.zeros((count, labelled, labelled))
    rows[numpy.arange(count), labels, median_labels(probabilities)] = 1.0
    return rows.reshape(count, labelled**2)


def _counts(labels: int) -> "numpy.ndarray":
    import numpy

    return numpy.ones(labels**2)


def _square(sums: "numpy.ndarray") -> tuple["numpy.ndarray", "numpy.ndarray"]:
    """Return counts by label and prediction, and distances, both [k, k]."""
    import numpy

    size = math.isqrt(len(sums))
    places = numpy.arange(size)
    return sums.reshape(size, size), abs(places[:, None] - places)


def accuracy_of(sums: "numpy.ndarray") -> float:
    """Return the share of right ones."""
    counts, _ = _square(sums)
    return float(counts.trace() / max(counts.sum(), 1.0))


def mae_of(sums: "numpy.ndarray") -> float:
    """Return the mean distance, in places."""
    counts, distances = _square(sums)
    return float((counts * distances).sum() / max(counts.sum(), 1.0))


def weighted_kappa_of(sums: "numpy.ndarray") -> float | None:
    """Return Cohen's kappa with quadratic weights; None where chance has no distance."""
    import numpy

    counts, distances = _square(sums)
    total = float(counts.sum())
    if total < 1:
        return None
    by_chance = numpy.outer(counts.sum(axis=1), counts.sum(axis=0)) / total
    expected = float((by_chance * distances**2).sum())
    return None if expected <= 0 else 1 - float((counts * distances**2).sum()) / expected


def _exact_confusion(
    probabilities: "numpy.ndarray", labels: "numpy.ndarray", floor: "Floor"
) -> "numpy.ndarray | None":
    """Count records by label and prediction, predictions of few units joined to their neighbours.

    Shape [k + 1, k]: rows are labels; the last one says which predictions are joined to the one
    before, whose records are counted with the first of them. None for too few units in all.
    """
    import numpy

    from confide.metrics.counts import neighbour_starts

    if not floor.enough(numpy.ones(len(labels), dtype=bool)):
        return None
    size, taken = probabilities.shape[1], median_labels(probabilities)
    counts = _confusion(probabilities, labels).sum(axis=0).reshape(size, size)
    starts = neighbour_starts(taken, size, floor)
    found = numpy.zeros((size + 1, size), dtype=numpy.int64)
    found[:size, starts] = numpy.add.reduceat(counts, starts, axis=1)
    found[size] = 1
    found[size, starts] = 0
    return found


CONFUSION = Statistic(
    name="confusion",
    rows_fn=_confusion,
    usable_fn=usable,
    counts_fn=_counts,
    exact_fn=_exact_confusion,
)


ORDINAL: dict[str, Metric] = table(
    Metric(
        name="weighted_kappa",
        direction="max",
        least=-1.0,
        largest=1.0,
        score_fn=weighted_kappa,
        statistic=CONFUSION,
        estimate_fn=weighted_kappa_of,
    ),
    Metric(
        name="mae",
        direction="min",
        least=0.0,
        largest=math.inf,
        score_fn=mae,
        statistic=CONFUSION,
        estimate_fn=mae_of,
    ),
    Metric(
        name="accuracy",
        direction="max",
        least=0.0,
        largest=1.0,
        score_fn=accuracy,
        proportion=True,
        statistic=CONFUSION,
        estimate_fn=accuracy_of,
    ),
)
"""Metrics of labels in order, by name."""


__all__ = [
    "CONFUSION",
    "ORDINAL",
    "accuracy",
    "accuracy_of",
    "mae",
    "mae_of",
    "median_labels",
    "weighted_kappa",
    "weighted_kappa_of",
]
