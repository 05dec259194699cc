"""Counts by score: what scikit-learn computes record by record, and sums of any institutions."""

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_records import Floats, Integers, exact, noisy, records
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve

from confide.metrics.calibration import calibration
from confide.metrics.counts import confusion, score_counts
from confide.metrics.floor import Floor
from confide.metrics.grids import REACH, edges_between, exact_bins, middles
from confide.metrics.intervals import auc_deviation, share_interval
from confide.metrics.outcomes.classification import CLASSIFICATION, RANKS
from confide.metrics.release import sensitivity, statistics_of, unit_sums
from confide.metrics.score_table import (
    ScoreTable,
    add_up,
    auc,
    average_precision,
    brier,
    tables_of,
)
from confide.metrics.tally import ScoreTally
from confide.metrics.thresholds import at_edges


def at_middles(count: int, seed: int = 0) -> tuple[Floats, Integers]:
    """Draw records whose scores are middles of bins, so that counts say all about them."""
    scores, labels = records(count, seed=seed)
    grid = edges_between(REACH, exact_bins(2))
    place = numpy.searchsorted(grid, numpy.log(scores[:, 1] / scores[:, 0]))
    middle = middles(grid)[place]
    return numpy.stack([1 - middle, middle], axis=1), labels


def table(scores: Floats, labels: Integers, least: int = 1) -> ScoreTable:
    return tables_of(exact(scores, labels, least), 2)[0]


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_counts_are_those_of_scikit_learn(seed: int) -> None:
    scores, labels = at_middles(800, seed)
    found, score = table(scores, labels), scores[:, 1]
    assert auc(found.counts) == pytest.approx(theirs.roc_auc_score(labels, score), abs=1e-12)
    squares = theirs.brier_score_loss(labels, score)
    assert brier(found.counts, found.edges) == pytest.approx(squares, abs=1e-12)
    precision = theirs.average_precision_score(labels, score)
    assert average_precision(found.counts) == pytest.approx(precision, abs=4e-3)  # ties: any order


@pytest.mark.parametrize(("count", "error"), [(300, 2e-3), (20_000, 3e-4)])
def test_counts_of_any_scores_say_nearly_the_same(count: int, error: float) -> None:
    scores, labels = records(count)
    found, score = table(scores, labels), scores[:, 1]
    assert auc(found.counts) == pytest.approx(theirs.roc_auc_score(labels, score), abs=error)
    precision = theirs.average_precision_score(labels, score)
    assert average_precision(found.counts) == pytest.approx(precision, abs=error)
    squares = theirs.brier_score_loss(labels, score)
    assert brier(found.counts, found.edges) == pytest.approx(squares, abs=error)


def test_thresholds_decide_as_scikit_learn_does() -> None:
    scores, labels = records(500)
    found = table(scores, labels)
    decided = at_edges(found.counts)
    for place in (300, 470, 500, 511, 520, 560, 700):
        above = numpy.log(scores[:, 1] / scores[:, 0]) >= found.edges[place]
        (left, wrong), (missed, right) = theirs.confusion_matrix(labels, above, labels=[0, 1])
        assert decided[:, place].tolist() == [right, wrong, missed, left]
    precision, recall, _ = theirs.precision_recall_curve(labels, scores[:, 1])
    right, wrong, missed, _ = decided[:, decided[0] + decided[1] > 0]
    told = {(round(r, 12), round(p, 12)) for r, p in zip(recall, precision, strict=True)}
    mine = set(
        zip((right / (right + missed)).round(12), (right / (right + wrong)).round(12), strict=True)
    )
    assert len(mine - told) <= 0.1 * len(mine)  # but for scores that share a bin


def test_calibration_is_that_of_scikit_learn() -> None:
    scores, labels = at_middles(5000)
    found = calibration(table(scores, labels))
    ends = numpy.cumsum([group.records for group in found.groups]).astype(int)
    order = numpy.argsort(scores[:, 1], kind="stable")
    observed, predicted = [], []
    for part in numpy.split(order, ends[:-1]):
        share, mean = calibration_curve(labels[part], scores[part, 1], n_bins=1)
        observed.append(share[0])
        predicted.append(mean[0])
    assert [group.observed for group in found.groups] == pytest.approx(observed)
    assert [group.predicted for group in found.groups] == pytest.approx(predicted)
    weights = numpy.diff([0, *ends]) / 5000
    error = weights @ numpy.abs(numpy.array(observed) - predicted)
    assert found.error == pytest.approx(error)
    assert 9 <= len(found.groups) <= 11


def test_error_of_a_perfect_model_is_the_one_that_chance_leaves() -> None:
    rng, errors, expected = numpy.random.default_rng(0), [], []
    for _ in range(40):
        share = rng.beta(1, 3, size=400)
        labels = (rng.random(400) < share).astype(int)
        found = calibration(table(numpy.stack([1 - share, share], axis=1), labels))
        errors.append(found.error)
        expected.append(found.by_chance)
    assert numpy.mean(expected) == pytest.approx(numpy.mean(errors), rel=0.1)


@settings(max_examples=40, deadline=None)
@given(
    owners=st.lists(st.integers(0, 4), min_size=60, max_size=60), classes=st.sampled_from([2, 4])
)
def test_sums_of_any_institutions_are_those_of_the_pool(owners: list[int], classes: int) -> None:
    scores, labels = records(60, classes)
    whose = numpy.array(owners)
    parts = [
        tables_of(exact(scores[whose == who], labels[whose == who]), classes)
        for who in sorted(set(owners))
    ]
    whole = tables_of(exact(scores, labels), classes)
    for together, alone in zip(zip(*parts, strict=True), whole, strict=True):
        added = add_up(together)
        assert added.counts.tolist() == alone.counts.tolist()
        assert added.edges.tolist() == alone.edges.tolist()


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.floats(-40, 40), min_size=1, max_size=80),
    least=st.integers(2, 30),
    seed=st.integers(0, 9),
)
def test_no_exact_bin_is_of_fewer_records_than_the_policy_says(
    logits: list[float], least: int, seed: int
) -> None:
    share = 1 / (1 + numpy.exp(-numpy.array(logits)))
    labels = numpy.random.default_rng(seed).integers(0, 2, size=len(share))
    counts = score_counts(numpy.stack([1 - share, share], axis=1), labels, Floor(least=least))
    if len(share) < least:
        assert counts is None
        return
    assert counts is not None
    starts = counts[0, :, 2] == 0
    sizes = counts[0, :, :2].sum(axis=1)
    assert sizes[~starts].sum() == 0
    # An empty bin would tell where the highest score lies.
    assert sizes[starts].min() >= least
    assert sizes.sum() == len(share)


def test_exact_bins_of_small_institutions_add_up_where_they_share_edges() -> None:
    parts = [records(count, seed=count) for count in (60, 100, 200, 400)]
    found = add_up([table(*part, least=5) for part in parts])
    scores = numpy.concatenate([scores for scores, _ in parts])
    labels = numpy.concatenate([labels for _, labels in parts])
    whole = table(scores, labels).between(found.edges)
    assert len(found.edges) >= 3
    assert found.counts.tolist() == whole.counts.tolist()


def test_confusion_is_that_of_scikit_learn_and_leaves_where_no_class_is_rarely_taken() -> None:
    scores, labels = records(300, 3)
    told = theirs.confusion_matrix(labels, scores.argmax(axis=1))
    counts = confusion(scores, labels, Floor(least=20))
    assert counts is not None
    assert counts.tolist() == told.tolist()
    rare = int(told.sum(axis=0).min())
    assert confusion(scores, labels, Floor(least=rare)) is not None
    assert confusion(scores, labels, Floor(least=rare + 1)) is None


def test_noisy_table_is_what_was_released_for_the_auc() -> None:
    scores, labels = records(500, 3)
    tally = noisy(scores, labels, 0.0, numpy.random.default_rng(0))
    told = CLASSIFICATION["auc"].estimate_fn
    assert told is not None
    released = ScoreTally(sums=tally.sums, std=1e-9)
    tables = tables_of(released, 3)
    areas = numpy.mean([auc(one.counts) for one in tables])
    assert areas == pytest.approx(told(numpy.array(tally.sums[RANKS.name])), abs=1e-6)
    exact_ones = tables_of(exact(scores, labels), 3)
    for one, same in zip(tables, exact_ones, strict=True):
        assert same.between(one.edges).counts == pytest.approx(one.counts, abs=1e-5)


def test_exact_and_noisy_tables_add_up_with_the_noise_of_the_noisy_ones() -> None:
    scores, labels = records(400)
    mixed = add_up(
        [
            table(scores, labels),
            tables_of(noisy(scores, labels, 3.0, numpy.random.default_rng(1)), 2)[0],
        ]
    )
    assert len(mixed.edges) == 15
    assert mixed.variances.tolist() == [9.0] * 16
    assert mixed.records == pytest.approx(800, abs=5 * 3 * math.sqrt(32))


@pytest.mark.parametrize("std", [0.0, 4.0])
def test_intervals_hold_what_they_promise(std: float) -> None:
    rng, held, areas = numpy.random.default_rng(2), [], []
    scores, labels = records(40_000, seed=5)
    chosen = numpy.log(scores[:, 1] / scores[:, 0]) >= -1.0
    truth = chosen[labels == 1].mean()
    area = theirs.roc_auc_score(labels, scores[:, 1])
    for _ in range(150):
        drawn = rng.integers(0, len(labels), size=500)
        part = scores[drawn], labels[drawn]
        found = tables_of(noisy(*part, std, rng), 2)[0] if std else table(*part)
        place = int(numpy.flatnonzero(found.edges == -1.0)[0])
        right, _, missed, _ = at_edges(found.counts)[:, place].clip(min=0)
        above, below = found.variances[place + 1 :].sum(), found.variances[: place + 1].sum()
        ends = share_interval(right, missed, (above, below))
        assert ends is not None
        held.append(ends[0] <= truth <= ends[1])
        spread = float(auc(found.draws.counts).std()) if std else auc_deviation(found)
        areas.append(abs(auc(found.counts) - area) <= 1.96 * spread + 0.005 * bool(std))
    assert numpy.mean(held) >= 0.9
    assert numpy.mean(areas) >= 0.9


def test_delong_is_the_deviation_of_the_area_over_draws() -> None:
    scores, labels = records(300)
    rng = numpy.random.default_rng(3)
    drawn = []
    for _ in range(300):
        part = rng.integers(0, 300, size=300)
        drawn.append(theirs.roc_auc_score(labels[part], scores[part, 1]))
    assert auc_deviation(table(scores, labels)) == pytest.approx(numpy.std(drawn), rel=0.12)


def test_first_class_is_the_second_turned_round() -> None:
    scores, labels = records(300)
    turned = table(scores, labels).reversed()
    other = table(scores[:, ::-1], 1 - labels)
    assert auc(turned.counts) == pytest.approx(float(auc(other.counts)), abs=1e-3)
    assert turned.counts.sum(axis=0).tolist() == other.counts.sum(axis=0).tolist()


@pytest.mark.parametrize(
    "sums", [{}, {"ranks": [1.0] * 31}, {"ranks": [1.0] * 32}, {"ranks": []}, {"other": [1.0] * 32}]
)
def test_tally_of_another_shape_holds_no_table(sums: dict[str, list[float]]) -> None:
    assert tables_of(ScoreTally(sums=sums), 2) == []


@settings(max_examples=60, deadline=None)
@given(data=st.data(), classes=st.integers(2, 6))
def test_rows_of_new_statistics_are_no_longer_than_one(data: st.DataObject, classes: int) -> None:
    numbers = st.floats(allow_nan=True, allow_infinity=True)
    scores = numpy.array([data.draw(st.lists(numbers, min_size=classes, max_size=classes))])
    labels = numpy.array([data.draw(st.integers(0, classes - 1))])
    for names in (["brier"], ["brier", "average_precision"]):
        statistics = statistics_of(names, CLASSIFICATION)
        moved = numpy.linalg.norm(unit_sums(statistics, scores, labels) / 2**30)
        assert moved <= sensitivity(statistics) == math.sqrt(len(names))
