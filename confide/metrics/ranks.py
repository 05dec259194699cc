"""Scores counted in bins of log odds, by which records are ranked, and the area that follows.

NumPy is imported where a value is computed, since every config reads the tables of metrics.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

RANKS = "ranks"
"""Name of the statistic."""
_BINS, _LARGEST_LOGIT = 16, 4.0
"""Of the log odds of a class; what lies beyond is in the first or last bin."""


def rank_rows(scores: "numpy.ndarray", positive: "numpy.ndarray") -> "numpy.ndarray":
    """Return the bin of each log odds, of positives and of others apart, each 1 / sqrt(h).

    Args:
        scores: h probabilities a record, shape [n, h].
        positive: whether each is of one that is true, bool of shape [n, h].

    Returns:
        Rows of norm 1, shape [n, h B 2].
    """
    import numpy

    count, histograms = scores.shape
    with numpy.errstate(divide="ignore"):
        logits = numpy.log(scores) - numpy.log1p(-scores)
    logits = logits.clip(-_LARGEST_LOGIT, _LARGEST_LOGIT)
    bins = ((logits / _LARGEST_LOGIT + 1) / 2 * _BINS).astype(int).clip(0, _BINS - 1)
    rows = numpy.zeros((count, histograms, _BINS, 2))
    every = numpy.arange(count)[:, None]
    rows[every, numpy.arange(histograms), bins, positive.astype(int)] = 1 / math.sqrt(histograms)
    return rows.reshape(count, histograms * _BINS * 2)


def rank_counts(histograms: int) -> "numpy.ndarray":
    """Return weights whose product with any of :func:`rank_rows` is 1."""
    import numpy

    return numpy.full(histograms * _BINS * 2, 1 / math.sqrt(histograms))


def rank_bins(sums: "numpy.ndarray") -> "numpy.ndarray":
    """Return how many others and positives are in each bin, ascending, shape [h, B, 2]."""
    bins = sums.reshape(-1, _BINS, 2)
    return bins * math.sqrt(len(bins))


def auc_of(sums: "numpy.ndarray") -> float | None:
    """Return the area under the ROC curve of binned scores; ties in a bin count half.

    None where a class, or its rest, has less than one record.
    """
    bins = rank_bins(sums)
    negatives, positives = bins[:, :, 0], bins[:, :, 1]
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    if min(positives.sum(axis=1).min(), negatives.sum(axis=1).min()) < 1:
        return None
    below = negatives.cumsum(axis=1) - negatives / 2
    return float(((positives * below).sum(axis=1) / pairs).mean())


__all__ = ["RANKS", "auc_of", "rank_bins", "rank_counts", "rank_rows"]
