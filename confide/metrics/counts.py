"""Exact counts of records by score or by predicted class, as coarse as an institution asks.

Nothing here is protected: each count is as it is. Records that share a bin of scores, or a
predicted class, were brought together by the model, which a coordinator chooses; so every such set
is of enough units (:class:`~confide.metrics.floor.Floor`, ``policy.min_cell``). No bin is told to
be empty either: that would say where the highest score of all lies.
"""

import bisect

import numpy
from numpy.typing import NDArray

from confide.metrics.floor import Binned, Floor
from confide.metrics.grids import (
    REACH,
    Floats,
    Integers,
    bins_of,
    by_priority,
    edges_between,
    exact_bins,
    places,
)


def score_counts(probabilities: Floats, labels: Integers, floor: Floor) -> Integers | None:
    """Count records by score and label, in bins as narrow as a floor allows.

    Args:
        probabilities: of classes, shape [n, c], n >= 1, finite and in [0, 1].
        labels: class indices, shape [n].
        floor: smallest number of units in a bin; where it is off, bins of any number, and none.

    Returns:
        As of :func:`truth_counts`: of two classes the second is counted, and each otherwise.
    """
    classes = probabilities.shape[1]
    scores = probabilities[:, 1:] if classes == 2 else probabilities
    counted = numpy.arange(classes - scores.shape[1], classes)
    return truth_counts(scores, labels[:, None] == counted, exact_bins(classes), floor)


def truth_counts(
    scores: Floats, truth: NDArray[numpy.bool_], bins: int, floor: Floor
) -> Integers | None:
    """Count records by score and by whether it is of what is true.

    Args:
        scores: h probabilities a record, shape [n, h], n >= 1.
        truth: shape [n, h].
        bins: number of bins of log odds.
        floor: smallest number of units in a bin.

    Returns:
        Records of the rest, records for which it is true, and whether a bin is joined to the one
        before it, shape [h, bins, 3]. A joined bin's records are counted in the first of those that
        it is joined to. None for fewer units than the floor.
    """
    count, histograms = scores.shape
    if not floor.enough(numpy.ones(count, dtype=bool)):
        return None
    place = places(scores, REACH, bins)
    fine = numpy.zeros((histograms, bins, 2), dtype=numpy.int64)
    numpy.add.at(fine, (numpy.arange(histograms), place, truth.astype(int)), 1)
    counts = numpy.zeros((histograms, bins, 3), dtype=numpy.int64)
    for one, own, table in zip(fine, place.T, counts, strict=True):
        starts = joined_starts(own, bins, floor)
        table[starts, :2] = numpy.add.reduceat(one, starts, axis=0)
        table[:, 2] = 1
        table[starts, 2] = 0
    return counts


def joined_starts(place: Integers, bins: int, floor: Floor) -> list[int]:
    """Return the first of each run of bins that are joined: those with few units to others.

    Args:
        place: bin of each record, from 0, shape [n].
        bins: number of bins.
        floor: smallest number of units in a run.
    """
    if floor.is_off:
        return list(range(bins))
    records = floor.in_bins(place, bins)
    starts, ends = [0], [bins]
    for edge in by_priority(edges_between(REACH, bins)):
        cut = edge + 1
        run = bisect.bisect_right(starts, cut) - 1
        if _is_split(records, starts[run], cut, ends[run], floor.least):
            starts.insert(run + 1, cut)
            ends.insert(run, cut)
    return starts


def _is_split(records: Binned, start: int, cut: int, end: int, least: int) -> bool:
    return records.units(start, cut) >= least and records.units(cut, end) >= least


def neighbour_starts(place: Integers, bins: int, floor: Floor) -> list[int]:
    """Return the first of each run of bins that are joined, from the lowest.

    Args:
        place: bin of each record, from 0, shape [n].
        bins: number of bins, few.
        floor: smallest number of units in a run.
    """
    if floor.is_off:
        return list(range(bins))
    records, starts = floor.in_bins(place, bins), [0]
    for cut in range(1, bins):
        if _is_split(records, starts[-1], cut, bins, floor.least):
            starts.append(cut)
    return starts


def decided(scores: Floats) -> NDArray[numpy.bool_]:
    """Say which probabilities are at least 1/2, as the edge of their bins has it."""
    bins = bins_of(1)
    return numpy.asarray(places(scores, REACH, bins) >= bins // 2)


def confusion(probabilities: Floats, labels: Integers, floor: Floor) -> Integers | None:
    """Count records by label and likeliest class, shape [c, c].

    None where too few units were taken for some class, and for two classes, whose scores tell as
    much at 1/2.
    """
    classes = probabilities.shape[1]
    if classes == 2:
        return None
    taken = probabilities.argmax(axis=1)
    counts = numpy.zeros((classes, classes), dtype=numpy.int64)
    numpy.add.at(counts, (labels, taken), 1)
    told = floor.is_off or all(floor.enough(taken == one) for one in range(classes))
    return counts if told else None


__all__ = [
    "confusion",
    "decided",
    "joined_starts",
    "neighbour_starts",
    "score_counts",
    "truth_counts",
]
