"""Metrics of tasks with one label a record, and the sums behind them.

Not by scikit-learn: four short formulas would keep a run of a small model waiting for SciPy, longer
than its training takes. Every config reads this table and few processes score anything, so that
NumPy too is imported where a value is computed.
"""

import math
from typing import TYPE_CHECKING

from confide.metrics import ranks
from confide.metrics.metric import Metric, Statistic, table
from confide.metrics.ranks import auc_of, rank_bins, rank_counts, rank_rows

if TYPE_CHECKING:
    import numpy

    from confide.metrics.floor import Floor


def accuracy(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the share of records whose likeliest class is their label."""
    import numpy

    # Counted, not averaged: of a few records numpy's mean takes longer than all else.
    right = int(numpy.count_nonzero(probabilities.argmax(axis=1) == labels))
    return right / len(labels)


def macro_f1(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the mean of F1 over classes; a class that is neither there nor predicted counts 0."""
    import numpy

    # An institution's records may lack a class, which counts all the same.
    classes, predicted = probabilities.shape[1], probabilities.argmax(axis=1)
    there, said, right = (
        numpy.bincount(rows, minlength=classes)
        for rows in (labels, predicted, labels[predicted == labels])
    )
    return float(numpy.add.reduce(2 * right / numpy.maximum(there + said, 1)) / classes)


def auc(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float | None:
    """Return the area under the ROC curve: one class against the rest, mean over classes.

    None where a class has no record: it is undefined there, not zero.
    """
    classes = probabilities.shape[1]
    if len(set(labels.tolist())) < classes:
        return None
    # Of two classes the scores of the second one rank like those of the first one turned round.
    ranked = [1] if classes == 2 else range(classes)
    return sum(area(probabilities[:, k], labels == k) for k in ranked) / len(ranked)


def area(scores: "numpy.ndarray", positive: "numpy.ndarray") -> float:
    """Return the share of pairs of a positive and another record that are ranked rightly.

    Pairs of equal scores count half (Hanley and McNeil, Radiology 1982).
    """
    import numpy

    positives, others = scores[positive], numpy.sort(scores[~positive])
    # Twice the others below each positive, and once those beside it.
    below = others.searchsorted(positives, "left"), others.searchsorted(positives, "right")
    right = numpy.add.reduce(below[0]) + numpy.add.reduce(below[1])
    return float(right / (2 * len(positives) * len(others)))


def log_loss(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the mean of minus the logarithm of the true class's probability."""
    import numpy

    true = probabilities[numpy.arange(len(labels)), labels]
    least = numpy.finfo(true.dtype).eps
    inside = numpy.minimum(numpy.maximum(true, least), 1 - least)
    return float(-(numpy.add.reduce(numpy.log(inside)) / len(labels)))


def average_precision(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float | None:
    """Return the mean of precision over recall: of the second of two classes, or over all classes.

    None where a class has no record.
    """
    import numpy

    classes = probabilities.shape[1]
    if len(set(labels.tolist())) < classes:
        return None
    found = []
    for k in [1] if classes == 2 else range(classes):
        _, places = numpy.unique(-probabilities[:, k], return_inverse=True)  # the highest first
        taken = numpy.bincount(places)
        right = numpy.bincount(places[labels == k], minlength=len(taken))
        precision = right.cumsum() / taken.cumsum()
        found.append(float((precision * right).sum() / right.sum()))
    return sum(found) / len(found)


def brier(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> float:
    """Return the mean squared error, half its sum over classes: of two, the second one's.

    Brier, Monthly Weather Review 1950.
    """
    return float(_squared_errors(probabilities, labels).mean())


def _squared_errors(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> "numpy.ndarray":
    import numpy

    truth = numpy.eye(probabilities.shape[1])[labels]
    return numpy.asarray(((probabilities - truth) ** 2).sum(axis=1) / 2)


# --- the same from sums over records, which leave an institution with noise


def usable(
    scores: "numpy.ndarray", labels: "numpy.ndarray"
) -> tuple["numpy.ndarray", "numpy.ndarray"]:
    """Return probabilities that add up to one, each record's from its own scores alone, and labels.

    Args:
        scores: class probabilities as a model gives them, shape [n, c]; they may be anything.
        labels: class indices, int64 of shape [n]; what lies beyond 0 to c - 1, as a custom task's
            may, counts as the nearest.
    """
    import numpy

    count, classes = scores.shape
    labels = labels.clip(0, classes - 1)
    scores = numpy.asarray(scores, dtype=float)
    finite = numpy.isfinite(scores).all(axis=1, keepdims=True)
    shares = numpy.where(finite, scores, 0.0).clip(0, 1)
    totals = shares.sum(axis=1, keepdims=True)
    # No answer counts as a wrong one, and not as none: otherwise a model could choose who is
    # counted, and a diverged one would be measured on nobody.
    wrong = numpy.zeros((count, classes))
    wrong[numpy.arange(count), (labels + 1) % classes] = 1.0
    answered = totals > 0
    return numpy.where(answered, shares / numpy.where(answered, totals, 1.0), wrong), labels


LARGEST_LOSS = 5.0
"""Losses are cut here before they are summed: a true class of probability 0.0067 and less."""


def _hits(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> "numpy.ndarray":
    """Return (right, wrong) of each record, shape [n, 2]."""
    import numpy

    right = probabilities.argmax(axis=1) == labels
    return numpy.stack([right, ~right], axis=1).astype(float)


def _outcomes(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> "numpy.ndarray":
    """Return each record's true positives, false negatives and false positives, shape [n, 3 c].

    A wrong record is in two classes, a false negative of the one and a false positive of the
    other, each at 1 / sqrt(2), so that its row has length 1.
    """
    import numpy

    (count, classes), predicted = probabilities.shape, probabilities.argmax(axis=1)
    rows, every = numpy.zeros((count, 3, classes)), numpy.arange(count)
    right = predicted == labels
    rows[every, 0, labels] = right
    rows[every, 1, labels] = ~right / math.sqrt(2)
    rows[every, 2, predicted] = ~right / math.sqrt(2)
    return rows.reshape(count, 3 * classes)


def _bounded_losses(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> "numpy.ndarray":
    """Return (x, 1 - x) of each record, x its loss cut at and divided by the largest, [n, 2]."""
    import numpy

    true = probabilities[numpy.arange(len(labels)), labels]
    share = -numpy.log(numpy.maximum(true, math.exp(-LARGEST_LOSS))) / LARGEST_LOSS
    return numpy.stack([share, 1 - share], axis=1).clip(0, 1)


def _bounded_squares(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> "numpy.ndarray":
    """Return (x, 1 - x) of each record, x its squared error, shape [n, 2]."""
    import numpy

    share = _squared_errors(probabilities, labels).clip(0, 1)
    return numpy.stack([share, 1 - share], axis=1)


def _ranks(probabilities: "numpy.ndarray", labels: "numpy.ndarray") -> "numpy.ndarray":
    """Return the bin of each record's log odds, of the class and of the rest, shape [n, h B 2].

    h = 1 for two classes, whose scores rank alike, and c otherwise; each of the h ones of a record
    is 1 / sqrt(h).
    """
    import numpy

    scores = probabilities[:, 1:] if probabilities.shape[1] == 2 else probabilities
    first = probabilities.shape[1] - scores.shape[1]
    positive = labels[:, None] == numpy.arange(first, first + scores.shape[1])
    return rank_rows(scores, positive)


def _score_counts(
    probabilities: "numpy.ndarray", labels: "numpy.ndarray", floor: "Floor"
) -> "numpy.ndarray | None":
    from confide.metrics.counts import score_counts

    return score_counts(probabilities, labels, floor)


def _confusion(
    probabilities: "numpy.ndarray", labels: "numpy.ndarray", floor: "Floor"
) -> "numpy.ndarray | None":
    from confide.metrics.counts import confusion

    return confusion(probabilities, labels, floor)


def _ones(width: int) -> "numpy.ndarray":
    import numpy

    return numpy.ones(width)


def _outcome_counts(classes: int) -> "numpy.ndarray":
    import numpy

    return numpy.repeat([1.0, 1 / math.sqrt(2), 1 / math.sqrt(2)], classes)


def _rank_counts(classes: int) -> "numpy.ndarray":
    return rank_counts(1 if classes == 2 else classes)


def accuracy_of(sums: "numpy.ndarray") -> float:
    """Return the share of right ones."""
    return float(sums[0] / max(sums.sum(), 1.0))


def macro_f1_of(sums: "numpy.ndarray") -> float:
    """Return the mean of F1 over classes."""
    import numpy

    right, missed, wrong = sums.reshape(3, -1) * numpy.array([[1.0], [2**0.5], [2**0.5]])
    return float((2 * right / (2 * right + missed + wrong).clip(min=1.0)).mean())


def log_loss_of(sums: "numpy.ndarray") -> float:
    """Return the mean of losses that were cut at the largest."""
    return float(LARGEST_LOSS * sums[0] / max(sums.sum(), 1.0))


def _average_precision_of(sums: "numpy.ndarray") -> float | None:
    """Return the mean of precision over recall of binned scores.

    None where a class has less than one record.
    """
    from confide.metrics.score_table import average_precision as of_counts

    bins = rank_bins(sums)
    if bins[:, :, 1].sum(axis=1).min() < 1:
        return None
    return float(of_counts(bins).mean())


def _brier_of(sums: "numpy.ndarray") -> float:
    """Return the mean squared error."""
    return float(sums[0] / max(sums.sum(), 1.0))


HITS = Statistic(name="hits", rows_fn=_hits, usable_fn=usable, counts_fn=lambda classes: _ones(2))
OUTCOMES = Statistic(
    name="outcomes",
    rows_fn=_outcomes,
    usable_fn=usable,
    counts_fn=_outcome_counts,
    exact_fn=_confusion,
)
RANKS = Statistic(
    name=ranks.RANKS,
    rows_fn=_ranks,
    usable_fn=usable,
    counts_fn=_rank_counts,
    exact_fn=_score_counts,
)
BOUNDED_SQUARES = Statistic(
    name="bounded squares",
    rows_fn=_bounded_squares,
    usable_fn=usable,
    counts_fn=lambda classes: _ones(2),
)
BOUNDED_LOSSES = Statistic(
    name="bounded losses",
    rows_fn=_bounded_losses,
    usable_fn=usable,
    counts_fn=lambda classes: _ones(2),
)


CLASSIFICATION: dict[str, Metric] = table(
    Metric(
        name="accuracy",
        direction="max",
        least=0.0,
        largest=1.0,
        score_fn=accuracy,
        proportion=True,
        statistic=HITS,
        estimate_fn=accuracy_of,
    ),
    Metric(
        name="macro_f1",
        direction="max",
        least=0.0,
        largest=1.0,
        score_fn=macro_f1,
        statistic=OUTCOMES,
        estimate_fn=macro_f1_of,
    ),
    Metric(
        name="auc",
        direction="max",
        least=0.0,
        largest=1.0,
        score_fn=auc,
        statistic=RANKS,
        estimate_fn=auc_of,
    ),
    Metric(
        name="log_loss",
        direction="min",
        least=0.0,
        largest=math.inf,
        score_fn=log_loss,
        statistic=BOUNDED_LOSSES,
        estimate_fn=log_loss_of,
    ),
    Metric(
        name="average_precision",
        direction="max",
        least=0.0,
        largest=1.0,
        score_fn=average_precision,
        statistic=RANKS,
        estimate_fn=_average_precision_of,
        reported=False,
    ),
    Metric(
        name="brier",
        direction="min",
        least=0.0,
        largest=1.0,
        score_fn=brier,
        statistic=BOUNDED_SQUARES,
        estimate_fn=_brier_of,
        reported=False,
    ),
)
"""Metrics of a classification, by name."""


__all__ = [
    "BOUNDED_LOSSES",
    "BOUNDED_SQUARES",
    "CLASSIFICATION",
    "HITS",
    "LARGEST_LOSS",
    "OUTCOMES",
    "RANKS",
    "accuracy",
    "accuracy_of",
    "area",
    "auc",
    "average_precision",
    "brier",
    "log_loss",
    "log_loss_of",
    "macro_f1",
    "macro_f1_of",
    "usable",
]
