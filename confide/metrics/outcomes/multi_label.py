"""Metrics of several labels a record, each of which holds or not, and the sums behind them.

Scores are probabilities, shape [n, l]; targets are 0 or 1, shape [n, l].
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from confide.metrics.metric import EstimateFn, Metric, ScoreFn, Statistic, table
from confide.metrics.outcomes.classification import area
from confide.metrics.ranks import auc_of, rank_bins, rank_counts, rank_rows

if TYPE_CHECKING:
    import numpy

    from confide.metrics.floor import Floor

_HOLDS = 0.5


def macro_f1(scores: "numpy.ndarray", targets: "numpy.ndarray") -> float:
    """Return the mean of F1 over labels; one that is neither there nor predicted counts 0."""
    right, missed, wrong, _ = _tally(scores, targets).sum(axis=0)
    return _mean_f1(right, missed, wrong)


def micro_f1(scores: "numpy.ndarray", targets: "numpy.ndarray") -> float:
    """Return F1 of all labels of all records together; 0 where none is there or predicted."""
    right, missed, wrong, _ = _tally(scores, targets).sum(axis=(0, 2))
    return float(2 * right / max(2 * right + missed + wrong, 1.0))


def auc(scores: "numpy.ndarray", targets: "numpy.ndarray") -> float | None:
    """Return the area under the ROC curve, mean over labels.

    None where a label holds for no record, or for all.
    """
    if bool((targets.min(axis=0) == targets.max(axis=0)).any()):
        return None
    count = int(targets.shape[1])
    return sum(area(scores[:, k], targets[:, k] == 1) for k in range(count)) / count


def mean_average_precision(scores: "numpy.ndarray", targets: "numpy.ndarray") -> float | None:
    """Return the mean over labels of precision at each record for which the label holds.

    Records of equal scores have the precision of all of them together. None where a label holds
    for no record.
    """
    import numpy

    values: list[float | None] = []
    for column, truth in zip(scores.T, targets.T, strict=True):
        _, places = numpy.unique(-column, return_inverse=True)
        positives = numpy.bincount(places, weights=truth)
        everyone = numpy.bincount(places)
        values.append(_average_precision(positives, everyone - positives))
    return _mean_of_all(values)


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where one of them is undefined."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _average_precision(positives: "numpy.ndarray", others: "numpy.ndarray") -> float | None:
    """Return average precision from counts by score, the highest first."""
    import numpy

    if positives.sum() < 1:
        return None
    above = numpy.cumsum(positives)
    precision = above / numpy.maximum(above + numpy.cumsum(others), 1e-9)
    return float((positives * precision).sum() / positives.sum())


def _tally(scores: "numpy.ndarray", targets: "numpy.ndarray") -> "numpy.ndarray":
    """Return true positives, false negatives, false positives, true negatives: [n, 4, l]."""
    import numpy

    said, true = scores >= _HOLDS, targets == 1
    return numpy.stack([said & true, ~said & true, said & ~true, ~said & ~true], axis=1).astype(
        float
    )


def _mean_f1(right: "numpy.ndarray", missed: "numpy.ndarray", wrong: "numpy.ndarray") -> float:
    return float((2 * right / (2 * right + missed + wrong).clip(min=1.0)).mean())


# --- the same from sums over records, which leave an institution with noise


def usable(
    scores: "numpy.ndarray", targets: "numpy.ndarray"
) -> tuple["numpy.ndarray", "numpy.ndarray"]:
    """Return probabilities and zeros and ones, each record's from its own scores alone."""
    import numpy

    truth = (numpy.asarray(targets) == 1).astype(float)
    scores = numpy.asarray(scores, dtype=float).reshape(truth.shape)
    # No answer counts as a wrong one, so that a model cannot choose who is counted
    return numpy.where(numpy.isfinite(scores), scores, 1 - truth).clip(0, 1), truth


def _outcomes(scores: "numpy.ndarray", targets: "numpy.ndarray") -> "numpy.ndarray":
    """Return the tally of each record, shape [n, 4 l], each of its l ones at 1 / sqrt(l)."""
    count, labels = scores.shape
    return _tally(scores, targets).reshape(count, 4 * labels) / math.sqrt(labels)


def _outcome_counts(labels: int) -> "numpy.ndarray":
    import numpy

    return numpy.ones(4 * labels) / math.sqrt(labels)


def _tallied(sums: "numpy.ndarray") -> "numpy.ndarray":
    parts = sums.reshape(4, -1)
    return parts * math.sqrt(parts.shape[1])


def macro_f1_of(sums: "numpy.ndarray") -> float:
    """Return the mean of F1 over labels."""
    right, missed, wrong, _ = _tallied(sums)
    return _mean_f1(right, missed, wrong)


def micro_f1_of(sums: "numpy.ndarray") -> float:
    """Return F1 of all labels together."""
    right, missed, wrong, _ = _tallied(sums).sum(axis=1)
    return float(2 * right / max(2 * right + missed + wrong, 1.0))


def mean_average_precision_of(sums: "numpy.ndarray") -> float | None:
    """Return the mean over labels of average precision of binned scores.

    None where a label holds for less than one record.
    """
    values = [
        _average_precision(bins[::-1, 1].clip(min=0), bins[::-1, 0].clip(min=0))
        for bins in rank_bins(sums)
    ]
    return _mean_of_all(values)


def _exact_outcomes(
    scores: "numpy.ndarray", targets: "numpy.ndarray", floor: "Floor"
) -> "numpy.ndarray | None":
    """Tally labels, shape [4, l]; 0 for one that holds, or does not, for too few by the model.

    None for too few units in all.
    """
    import numpy

    from confide.metrics.counts import decided

    if not floor.enough(numpy.ones(len(scores), dtype=bool)):
        return None
    # By the edge of the bins that scores are counted in: two edges would tell who is in between
    said, true = decided(scores), targets == 1
    counts = [said & true, ~said & true, said & ~true, ~said & ~true]
    told = [floor.is_off or (floor.enough(one) and floor.enough(~one)) for one in said.T]
    tallied: numpy.ndarray = numpy.stack([one.sum(axis=0) for one in counts]) * numpy.array(told)
    return tallied


def _exact_ranks(
    scores: "numpy.ndarray", targets: "numpy.ndarray", floor: "Floor"
) -> "numpy.ndarray | None":
    """Count records by each label's score, above a floor; None for too many labels to tell."""
    from confide.metrics.counts import truth_counts
    from confide.metrics.grids import bins_of
    from confide.metrics.tally import MOST_SUMS

    count = scores.shape[1]
    if count * (3 * bins_of(count) + 4) > MOST_SUMS:
        return None
    return truth_counts(scores, targets == 1, bins_of(count), floor)


OUTCOMES = Statistic(
    name="outcomes of labels",
    rows_fn=_outcomes,
    usable_fn=usable,
    counts_fn=_outcome_counts,
    exact_fn=_exact_outcomes,
)
RANKS = Statistic(
    name="ranks of labels",
    rows_fn=lambda scores, targets: rank_rows(scores, targets == 1),
    usable_fn=usable,
    counts_fn=rank_counts,
    exact_fn=_exact_ranks,
)


def _share(name: str, score_fn: ScoreFn, statistic: Statistic, estimate_fn: EstimateFn) -> Metric:
    return Metric(
        name=name,
        direction="max",
        least=0.0,
        largest=1.0,
        score_fn=score_fn,
        statistic=statistic,
        estimate_fn=estimate_fn,
    )


MULTI_LABEL: dict[str, Metric] = table(
    _share("macro_f1", macro_f1, OUTCOMES, macro_f1_of),
    _share("micro_f1", micro_f1, OUTCOMES, micro_f1_of),
    _share("auc", auc, RANKS, auc_of),
    _share("mean_average_precision", mean_average_precision, RANKS, mean_average_precision_of),
)
"""Metrics of several labels, by name."""


__all__ = [
    "MULTI_LABEL",
    "OUTCOMES",
    "RANKS",
    "auc",
    "macro_f1",
    "macro_f1_of",
    "mean_average_precision",
    "mean_average_precision_of",
    "micro_f1",
    "micro_f1_of",
    "usable",
]
