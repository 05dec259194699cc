"""Units that stand behind counts: of any run of bins, and owners where they are known."""

import numpy
import pytest

from confide.metrics.counts import neighbour_starts, score_counts
from confide.metrics.evaluations.survival import exact_ends
from confide.metrics.floor import Floor
from confide.metrics.outcomes.multi_label import MULTI_LABEL
from confide.metrics.outcomes.ordinal import ORDINAL
from confide.metrics.outcomes.regression import regression_metrics
from confide.metrics.release import exact_sums, statistics_of


@pytest.mark.parametrize("owned", [False, True])
def test_units_between_any_two_bins_are_counted(owned: bool) -> None:
    rng = numpy.random.default_rng(0)
    for _ in range(20):
        places = rng.integers(0, 9, size=40)
        owners = rng.integers(0, 12, size=40) if owned else None
        binned = Floor(owners=owners).in_bins(places, 9)
        for start in range(9):
            for end in range(start, 10):
                inside = (places >= start) & (places < end)
                units = int(inside.sum()) if owners is None else len(set(owners[inside]))
                assert binned.units(start, end) == units


def records(owners: int, each: int) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Draw scores that tell owners apart, labels and owners."""
    rng = numpy.random.default_rng(1)
    whose = numpy.repeat(numpy.arange(owners), each)
    scores = 1 / (1 + numpy.exp(-numpy.linspace(-4, 4, owners)[whose]))
    return scores, (rng.random(len(whose)) < scores).astype(int), whose


def least_owners(place: numpy.ndarray, joined: numpy.ndarray, whose: numpy.ndarray) -> int:
    """Return the smallest number of owners in a run of joined bins."""
    runs = (joined == 0).cumsum()[place]
    return min(len(set(whose[runs == run])) for run in range(1, int(runs.max()) + 1))


@pytest.mark.parametrize("each", [1, 12])
def test_bins_of_scores_hold_owners_and_not_their_rows(each: int) -> None:
    scores, labels, whose = records(40, each)
    floor = Floor(least=10, owners=whose)
    counts = score_counts(numpy.stack([1 - scores, scores], axis=1), labels, floor)
    assert counts is not None
    starts = numpy.flatnonzero(counts[0, :, 2] == 0)
    place = numpy.floor((numpy.log(scores / (1 - scores)) / 16 + 1) / 2 * 1024).astype(int)
    assert len(starts) > 1
    assert least_owners(place, counts[0, :, 2], whose) >= 10


def test_few_owners_tell_nothing_however_many_their_rows() -> None:
    scores, labels, whose = records(9, 50)
    classes = numpy.stack([1 - scores, scores], axis=1)
    floor = Floor(least=10, owners=whose)
    survival = numpy.stack([scores, scores / 2], axis=1)
    ends = numpy.stack([numpy.full(len(labels), 1.5), labels.astype(float)], axis=1)
    assert exact_ends(survival, ends, floor) is None
    numbers, truth = (100 * scores)[:, None], scores
    assert score_counts(classes, labels, floor) is None
    for metrics, given, targets in (
        (MULTI_LABEL, classes, numpy.stack([1 - labels, labels], axis=1)),
        (ORDINAL, classes, labels),
        (regression_metrics(0.0, 100.0), numbers, truth),
    ):
        statistics = statistics_of(list(metrics), metrics)
        assert exact_sums(statistics, given, targets, floor) == {}
        assert exact_sums(statistics, given, targets, Floor(least=10)) != {}


def test_neighbours_are_joined_from_the_lowest() -> None:
    places = numpy.array([0] * 3 + [1] * 9 + [2] * 10 + [4] * 4)
    assert neighbour_starts(places, 5, Floor(least=10)) == [0, 2]
    assert neighbour_starts(places, 5, Floor()) == [0, 1, 2, 3, 4]
