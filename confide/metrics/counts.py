"""Exact counts of records by score or by predicted class, as coarse as an institution asks.

Nothing here is protected: each count is as it is. Records that share a bin of scores, or a
predicted class, were brought together by the model, which a coordinator chooses; so every such set
has at least ``least`` records (``policy.min_cell``). No bin is told to be empty either: that would
say where the highest score of all lies.
"""

import bisect

import numpy

from confide.metrics.grids import (
    REACH,
    Floats,
    Integers,
    by_priority,
    edges_between,
    exact_bins,
    places,
)


def score_counts(probabilities: Floats, labels: Integers, least: int) -> Integers | None:
    """Count records by score and label, in bins as narrow as ``least`` allows.

    Args:
        probabilities: of classes, shape [n, c], n >= 1, finite and in [0, 1].
        labels: class indices, shape [n].
        least: smallest number of records in a bin; 1 for bins of any number, and none.

    Returns:
        Records of the rest, records of the class, and whether a bin is joined to the one before it,
        shape [h, bins, 3]: h = 1 for two classes, of which the second is counted, and c otherwise.
        A joined bin's records are counted in the first of those that it is joined to. None for
        fewer records than ``least``.
    """
    count, classes = probabilities.shape
    if count < least:
        return None
    scores = probabilities[:, 1:] if classes == 2 else probabilities
    histograms, bins = scores.shape[1], exact_bins(classes)
    positive = (labels[:, None] == numpy.arange(classes - histograms, classes)).astype(int)
    fine = numpy.zeros((histograms, bins, 2), dtype=numpy.int64)
    numpy.add.at(fine, (numpy.arange(histograms), places(scores, REACH, bins), positive), 1)
    counts = numpy.zeros((histograms, bins, 3), dtype=numpy.int64)
    for one, table in zip(fine, counts, strict=True):
        starts = joined_starts(one.sum(axis=1), least)
        table[starts, :2] = numpy.add.reduceat(one, starts, axis=0)
        table[:, 2] = 1
        table[starts, 2] = 0
    return counts


def joined_starts(totals: Integers, least: int) -> list[int]:
    """Return the first of each run of bins that are joined: those with few records to others."""
    if least <= 1:
        return list(range(len(totals)))
    below = [0, *(int(it) for it in totals.cumsum())]
    starts, ends = [0], [len(totals)]
    for place in by_priority(edges_between(REACH, len(totals))):
        cut = place + 1
        run = bisect.bisect_right(starts, cut) - 1
        parts = below[cut] - below[starts[run]], below[ends[run]] - below[cut]
        if min(parts) >= least:
            starts.insert(run + 1, cut)
            ends.insert(run, cut)
    return starts


def confusion(probabilities: Floats, labels: Integers, least: int) -> Integers | None:
    """Count records by label and likeliest class, shape [c, c].

    None where fewer than ``least`` were taken for some class, and for two classes, whose scores
    tell as much at 1/2.
    """
    classes = probabilities.shape[1]
    if classes == 2:
        return None
    counts = numpy.zeros((classes, classes), dtype=numpy.int64)
    numpy.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    taken = counts.sum(axis=0)
    return counts if least <= 1 or taken.min() >= least else None


__all__ = ["confusion", "joined_starts", "score_counts"]
