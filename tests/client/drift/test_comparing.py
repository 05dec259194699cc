"""Two-sample tests against those of others, and against their definitions."""

import numpy
import pytest
from scipy import stats

from confide.client.drift.comparing import (
    Bins,
    calibration_change,
    category_bins,
    chi_square,
    expected_error,
    higher_mean,
    holm,
    kolmogorov_smirnov,
    mean_discrepancy,
    missing_shares,
    number_bins,
    psi,
)
from confide.client.drift.kept import MISSING, UNSEEN, Categories, Floats, Numbers, numbers_of

DRAWS = 299


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def kept(values: Floats, *, missing: int = 0) -> Numbers:
    return numbers_of(values, rng(), missing=missing)


def bins(before: list[float], after: list[float]) -> Bins:
    names = tuple(map(str, range(len(before))))
    return Bins(names, numpy.array(before), numpy.array(after))


def test_the_stability_index_is_its_definition() -> None:
    before, after = numpy.array([900.0, 100.0]), numpy.array([600.0, 400.0])
    first, second = (before + 0.5) / 1001, (after + 0.5) / 1001
    assert psi(before, after) == pytest.approx(sum((second - first) * numpy.log(second / first)))
    assert psi(before, 3 * before) == pytest.approx(0.0, abs=1e-5)


def test_chi_square_of_large_counts_is_that_of_scipy() -> None:
    found = chi_square(bins([200, 300, 500], [240, 250, 510]), DRAWS, rng())
    told = stats.chi2_contingency([[200, 300, 500], [240, 250, 510]], correction=False)
    assert (found.statistic, found.p_value) == pytest.approx((told.statistic, told.pvalue))


def test_chi_square_of_few_records_is_that_of_all_tables_with_its_margins() -> None:
    found = chi_square(bins([0, 40], [3, 37]), 20_000, rng())
    exact = stats.fisher_exact([[0, 40], [3, 37]]).pvalue
    assert found.p_value == pytest.approx(exact, abs=0.02)


def test_one_bin_is_no_change() -> None:
    assert chi_square(bins([70], [50]), DRAWS, rng()).p_value == 1.0


def test_numbers_are_counted_between_the_tenths_of_the_reference() -> None:
    counted = number_bins(kept(numpy.arange(100.0), missing=5), kept(numpy.full(20, 99.0)))
    assert counted.names[-1] == MISSING
    assert counted.reference.tolist() == [10.0] * 10 + [5.0]
    assert counted.now.tolist() == [0.0] * 9 + [20.0, 0.0]


def test_equal_numbers_share_a_bin() -> None:
    counted = number_bins(kept(numpy.array([0.0] * 70 + [1.0] * 30)), kept(numpy.zeros(50)))
    assert (counted.reference.tolist(), counted.now.tolist()) == ([70.0, 30.0], [50.0, 0.0])


def test_categories_that_the_reference_lacks_are_unseen_together() -> None:
    counted = category_bins(
        Categories({"a": 6, "b": 4, "c": 0}), Categories({"a": 5, "c": 2, "d": 3, UNSEEN: 1})
    )
    assert counted.names == ("a", "b", UNSEEN)
    assert counted.now.tolist() == [5.0, 0.0, 6.0]


def test_kolmogorov_and_smirnov_see_a_shift_and_not_a_repetition() -> None:
    values = rng().normal(size=400)
    assert kolmogorov_smirnov(kept(values), kept(values)).p_value > 0.99
    assert kolmogorov_smirnov(kept(values), kept(values + 0.5)).p_value < 1e-6


def test_missing_values_are_compared_by_fishers_test() -> None:
    found = missing_shares(kept(numpy.zeros(98), missing=2), kept(numpy.zeros(88), missing=12))
    assert found.p_value == pytest.approx(stats.fisher_exact([[2, 98], [12, 88]]).pvalue)


def test_the_discrepancy_is_the_unbiased_sum_over_pairs() -> None:
    first, second = rng(1).normal(size=(6, 3)), rng(2).normal(size=(5, 3)) + 1
    points = numpy.concatenate([first, second])
    apart = [((a - b) ** 2).sum() for i, a in enumerate(points) for b in points[:i]]

    def kernel(a: Floats, b: Floats) -> float:
        return float(numpy.exp(-((a - b) ** 2).sum() / numpy.median(apart)))

    within = [
        sum(kernel(a, b) for i, a in enumerate(side) for j, b in enumerate(side) if i != j)
        / (len(side) * (len(side) - 1))
        for side in (first, second)
    ]
    across = numpy.mean([kernel(a, b) for a in first for b in second])
    found = mean_discrepancy(first, second, DRAWS, rng())
    assert found.statistic == pytest.approx(sum(within) - 2 * across)
    assert found.effect == pytest.approx(max(found.statistic, 0.0) ** 0.5)


def test_the_discrepancy_sees_what_no_single_column_shows() -> None:
    normal = rng(3).normal(size=(300, 2))
    twin = numpy.stack([normal[:, 0], normal[:, 0]], axis=1)
    assert mean_discrepancy(normal[:150], normal[150:], DRAWS, rng()).p_value > 0.05
    assert mean_discrepancy(normal[:150], twin[150:], DRAWS, rng()).p_value < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_p_values_without_drift_are_as_often_small_as_they_say(seed: int) -> None:
    found = []
    for draw in range(120):
        drawn = rng(1000 * seed + draw)
        values = drawn.exponential(size=140)
        found.append(higher_mean(values[:90], values[90:], 99, drawn).p_value)
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_only_a_higher_loss_is_worse() -> None:
    losses = rng().exponential(size=200)
    assert higher_mean(losses, losses + 0.5, DRAWS, rng()).p_value < 0.01
    assert higher_mean(losses + 0.5, losses, DRAWS, rng()).p_value > 0.9


def test_calibration_is_told_from_accuracy() -> None:
    stated = rng(4).uniform(0.5, 1, size=(800, 1))
    came = (rng(5).random((800, 1)) < stated).astype(float)
    overconfident = (rng(6).random((800, 1)) < stated - 0.2).astype(float)
    alike = calibration_change((stated[:400], came[:400]), (stated[400:], came[400:]), DRAWS, rng())
    other = calibration_change(
        (stated[:400], came[:400]), (stated[400:], overconfident[400:]), DRAWS, rng()
    )
    assert alike.p_value > 0.05
    assert (other.p_value < 0.01, other.effect > 0.1) == (True, True)


def test_the_calibration_error_of_what_is_always_wrong_is_what_was_stated() -> None:
    assert expected_error(numpy.full((30, 1), 0.8), numpy.zeros((30, 1))) == pytest.approx(0.8)


def test_holm_is_that_of_its_paper() -> None:
    # Smallest times 4, next times 3, ..., never falling
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
