"""Metrics of survival: against lifelines, and by hand."""

import numpy
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import concordance_index

from confide.metrics.ends import end_codes, life_table, risk, risk_bins, survival_curve
from confide.metrics.outcomes.survival import (
    ENDS,
    c_index,
    c_index_of,
    comparable_pairs,
    concordance,
    integrated_brier,
    usable,
)
from tests.survivors import K, people


@pytest.mark.parametrize("count", [2, 7, 64, 65, 700])
@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_c_index_is_lifelines_whatever_the_ties(count: int, decimals: int) -> None:
    survival, labels = people(count, seed=count, decimals=decimals)
    survival = survival.round(2 if decimals < 9 else 16)
    if not labels[:, 1].any():
        labels[0, 1] = 1.0
    found = c_index(survival, labels)
    if found is None:
        with pytest.raises(ZeroDivisionError):
            concordance_index(labels[:, 0], -risk(survival), labels[:, 1])
    else:
        assert found == pytest.approx(
            concordance_index(labels[:, 0], -risk(survival), labels[:, 1]), abs=1e-12
        )


def test_nobody_is_comparable_without_an_event() -> None:
    survival, labels = people(9)
    labels[:, 1] = 0
    assert c_index(survival, labels) is None
    assert comparable_pairs(survival, labels) == 0
    # Two events at one moment: nobody knows who would have been first
    assert concordance(numpy.array([0.1, 0.2]), numpy.array([[1.0, 1], [1.0, 1]])) == (0.0, 0)


def test_censored_at_the_moment_of_an_event_is_comparable() -> None:
    labels = numpy.array([[2.0, 1.0], [2.0, 0.0]])
    assert concordance(numpy.array([0.9, 0.1]), labels) == (1.0, 1)
    assert concordance(numpy.array([0.5, 0.5]), labels) == (0.5, 1)
    assert concordance(numpy.array([0.1, 0.9]), labels) == (0.0, 1)


def test_risks_of_crossing_curves_are_ranked_by_what_they_lose() -> None:
    early, late = [0.5, 0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0, 0.4]
    assert risk(numpy.array([early, late])) == pytest.approx([0.5, 0.12])


def test_integrated_brier_without_censoring_is_a_mean_of_squares() -> None:
    survival, labels = people(200)
    labels[:, 1] = labels[:, 0] < K  # whoever lives to the horizon is free of the event there
    truth = labels[:, :1] > numpy.arange(1, K + 1)
    truth[:, -1] |= labels[:, 0] == K
    assert integrated_brier(survival, labels) == pytest.approx(((survival - truth) ** 2).mean())


def test_integrated_brier_weights_by_lifelines_curve_of_censoring() -> None:
    survival, labels = people(300, seed=3)
    times, events = labels[:, 0], labels[:, 1] > 0
    # Events come before censoring at the same moment: lifelines has no such rule, hence the shift
    fitted = KaplanMeierFitter().fit(times + 1e-6 * ~events, ~events)
    observed = lambda at: float(fitted.predict(at))  # noqa: E731
    total = 0.0
    for end in range(1, K + 1):
        for free, time, event in zip(survival[:, end - 1], times, events, strict=True):
            if event and time <= end:
                total += free**2 / observed(time)
            elif time >= end:
                total += (1 - free) ** 2 / observed(end)
    assert integrated_brier(survival, labels) == pytest.approx(total / K / len(times), rel=1e-9)
    # Weights are more than one: whoever was censored is stood for by others
    assert observed(4.0) < 0.8


def test_a_useless_model_has_a_worse_brier_score() -> None:
    survival, labels = people(2000, seed=5)
    shuffled = numpy.random.default_rng(0).permutation(survival)
    assert integrated_brier(survival, labels) < integrated_brier(shuffled, labels)


# --- sums


def test_life_table_counts_as_the_loss_does() -> None:
    labels = numpy.array([[0.4, 1], [0.5, 0], [0.49, 0], [1.5, 0], [1.4, 0], [2, 1], [2, 0]])
    codes = numpy.bincount(end_codes(labels, 2), minlength=7)
    events, at_risk = life_table(codes)
    assert events.tolist() == [1, 1]
    # Censored before the middle of an interval is not at risk in it, and at or after it is
    assert at_risk.tolist() == [6, 3]


def test_curves_of_institutions_add_up_to_the_pooled_one() -> None:
    _, labels = people(500)
    codes = end_codes(labels, K)
    parts = [numpy.bincount(one, minlength=3 * K + 1) for one in numpy.array_split(codes, 7)]
    together = survival_curve(*life_table(numpy.bincount(codes, minlength=3 * K + 1)))
    assert (survival_curve(*life_table(sum(parts))) == together).all()
    mean = numpy.mean([survival_curve(*life_table(part)) for part in parts], axis=0)
    assert (mean != together).any()


def test_curve_in_intervals_is_kaplan_and_meiers_where_time_is_whole_intervals() -> None:
    _, labels = people(400, seed=2, decimals=0)
    labels = labels[labels[:, 0] > 0]
    codes = numpy.bincount(end_codes(labels, K), minlength=3 * K + 1)
    fitted = KaplanMeierFitter().fit(labels[:, 0], labels[:, 1])
    expected = fitted.predict(numpy.arange(1, K + 1)).to_numpy()
    assert survival_curve(*life_table(codes)) == pytest.approx(expected)


def test_a_record_adds_one_row_of_length_one() -> None:
    survival, labels = people(300)
    rows = ENDS.rows_fn(survival, labels)
    assert ((rows**2).sum(axis=1) == 1).all()
    assert rows @ ENDS.counts_fn(K) == pytest.approx(numpy.ones(300))
    # Of its own record alone
    assert (ENDS.rows_fn(survival[7:9], labels[7:9]) == rows[7:9]).all()


def test_sums_rank_as_the_records_do_where_bins_and_intervals_tell_them_apart() -> None:
    survival, labels = people(4000)
    sums = ENDS.rows_fn(survival, labels).sum(axis=0)
    # The same records with all that the sums do not know taken away
    blunt = labels.copy()
    blunt[:, 0] = numpy.where(
        labels[:, 1] > 0, numpy.ceil(labels[:, 0]).clip(1), numpy.floor(labels[:, 0])
    )
    concordant, pairs = concordance(risk_bins(survival), blunt)
    assert c_index_of(sums) == pytest.approx(concordant / pairs)
    # Pairs within an interval, which are harder to rank, are not among them
    assert c_index_of(sums) == pytest.approx(c_index(survival, labels), abs=0.02)
    assert c_index_of(numpy.zeros_like(sums)) is None


def test_extreme_predictions_have_a_bin() -> None:
    assert risk_bins(numpy.array([[1.0] * K, [0.0] * K])).tolist() == [0, 15]


def test_a_model_that_says_nothing_is_wrong_of_everybody() -> None:
    survival, labels = people(200)
    survival[::2] = numpy.nan
    survival[1::2, 0] = numpy.inf
    rows = ENDS.rows_fn(*usable(survival, labels))
    # Two who have the event are at the same risk, none; anybody else ranks above both
    told = c_index_of(rows.sum(axis=0))
    assert told is not None
    assert told < 0.2
    assert ((rows**2).sum(axis=1) == 1).all()


def test_whatever_scores_and_targets_are_a_row_has_length_one() -> None:
    scores = numpy.array([[1e300, -5.0], [0.2, numpy.nan], [2.0, 0.5], [-numpy.inf, 0.0]])
    labels = numpy.array([[numpy.nan, 1], [1e9, numpy.nan], [-4, -1], [numpy.inf, 7]])
    rows = ENDS.rows_fn(*usable(scores, labels))
    assert ((rows**2).sum(axis=1) == 1).all()
    assert (ENDS.rows_fn(*usable(scores[2:3], labels[2:3])) == rows[2:3]).all()
