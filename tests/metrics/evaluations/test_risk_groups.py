"""Curves by risk group: from the records of one place, and from sums of institutions."""

import math
from dataclasses import dataclass

import numpy
import pytest
from lifelines import KaplanMeierFitter

from confide.metrics.ends import risk
from confide.metrics.evaluation import Measured, describe
from confide.metrics.evaluations.survival import (
    GROUPS,
    exact_bins,
    exact_ends,
    groups_of,
    standard_errors,
)
from confide.metrics.floor import Floor
from confide.metrics.outcomes.survival import ENDS, SURVIVAL, c_index
from confide.metrics.tally import ScoreTally
from tests.survivors import K, people


@dataclass
class Clock:
    ends: tuple[float, ...] = (9, 18, 27, 36, 45)
    time_column: str = "months"


def tally(survival: numpy.ndarray, labels: numpy.ndarray, least: int = 1) -> ScoreTally:
    counts = exact_ends(survival, labels, Floor(least=least))
    assert counts is not None
    return ScoreTally(sums={ENDS.name: counts.ravel().tolist()})


def described(tallies: list[ScoreTally], **more: object) -> dict[str, object]:
    scores = {"c_index": 0.6, "comparable_pairs": 900.0, "num_examples": 50}
    names = [f"centre-{number}" for number in range(len(tallies))]
    measured = Measured(
        labels=(),
        metrics=SURVIVAL,
        federated=scores,
        is_pooled=bool(more.get("is_pooled", True)),
        test=dict.fromkeys(names, scores),
        tallies=dict(zip(names, tallies, strict=True)),
        settings=Clock(),
    )
    return describe("survival", measured)


def test_groups_are_thirds_of_the_records_by_risk() -> None:
    survival, labels = people(3000)
    groups = described([tally(survival, labels)])["groups"]
    assert [group["name"] for group in groups] == list(GROUPS)
    # Bins are not cut, so that groups are thirds only nearly
    assert all(abs(group["records"] - 1000) < 60 for group in groups)
    assert sum(group["records"] for group in groups) == 3000
    for curve in ("observed", "predicted"):
        ends = [group[curve][-1] for group in groups]
        assert ends[0] > ends[1] > ends[2]


def test_sums_of_institutions_give_the_pooled_section_to_the_bit() -> None:
    survival, labels = people(3000)
    parts = [tally(survival[at], labels[at]) for at in numpy.array_split(numpy.arange(3000), 67)]
    together, one = described(parts), described([tally(survival, labels)])
    for mine, theirs in zip(together["groups"], one["groups"], strict=True):
        # Rounded by each institution, to 1/2048 a bin
        assert mine.pop("predicted") == pytest.approx(theirs.pop("predicted"), abs=1e-3)
        assert mine == theirs
    assert together["metrics"] == one["metrics"]


def test_a_groups_curve_is_kaplan_and_meiers_and_its_prediction_a_mean() -> None:
    survival, labels = people(900, decimals=0)
    keep = labels[:, 0] > 0
    survival, labels = survival[keep], labels[keep]
    group = described([tally(survival, labels)])["groups"][0]
    low = numpy.sort(risk(survival))[int(group["records"]) - 1] >= risk(survival) - 1e-12
    fitted = KaplanMeierFitter().fit(labels[low, 0], labels[low, 1])
    ends = numpy.arange(1, K + 1)
    assert group["observed"] == pytest.approx(fitted.predict(ends).to_list(), abs=1e-5)
    assert group["predicted"] == pytest.approx(survival[low].mean(axis=0).tolist(), abs=1e-3)
    # Greenwood's formula, as lifelines has it
    table = fitted.event_table.loc[ends]
    survived = table["at_risk"] - table["observed"]
    expected = numpy.sqrt((table["observed"] / table["at_risk"] / survived).cumsum())
    assert standard_errors(group) == pytest.approx(
        (expected.to_numpy() * numpy.array(group["observed"])).tolist(), abs=1e-4
    )


def test_interval_of_concordance_is_as_wide_as_over_draws_of_records() -> None:
    survival, labels = people(400)
    low, high = described([tally(survival, labels)])["metrics"]["c_index"]["interval"]
    rng = numpy.random.default_rng(0)
    drawn = [rng.integers(0, 400, 400) for _ in range(200)]
    values = [c_index(survival[at], labels[at]) for at in drawn]
    assert (high - low) / (2 * 1.96) == pytest.approx(numpy.std(values), rel=0.3)
    # Of pairs within institutions pooled counts do not tell
    assert described([tally(survival, labels)], is_pooled=False)["metrics"]["c_index"] == {
        "value": 0.6,
        "interval": None,
    }


@pytest.mark.parametrize("least", [2, 10, 40])
def test_exact_counts_leave_in_bins_of_enough_records(least: int) -> None:
    survival, labels = people(333)
    counts = exact_ends(survival, labels, Floor(least=least))
    assert counts is not None
    records = counts[:, : 3 * K + 1].sum(axis=1)
    started = counts[:, -1] == 0
    assert records[started].min() >= least
    assert records[~started].sum() == 0
    assert records.sum() == 333
    assert exact_ends(survival, labels, Floor(least=334)) is None


def test_a_floor_leaves_no_sums_of_predictions() -> None:
    """A model made for it tells in them, bin by bin, how many records have a rare diagnosis."""
    survival, labels = people(333)
    counts = exact_ends(survival, labels, Floor(least=10))
    assert counts is not None
    assert not counts[:, 3 * K + 1 : -1].any()
    with_floor, without = tally(survival, labels, 10), tally(survival, labels)
    assert all("predicted" in group for group in described([without])["groups"])
    for some in ([with_floor], [with_floor, without]):
        assert not any("predicted" in group for group in described(some)["groups"])


def test_institutions_with_coarse_bins_are_added_between_shared_edges() -> None:
    survival, labels = people(4000)
    at = numpy.array_split(numpy.arange(4000), 4)
    mixed = [
        tally(survival[one], labels[one], least)
        for one, least in zip(at, (1, 10, 20, 40), strict=True)
    ]
    groups = described(mixed)["groups"]
    assert sum(group["records"] for group in groups) == 4000
    exact = described([tally(survival, labels)])["groups"]
    for mine, theirs in zip(groups, exact, strict=True):
        assert mine["observed"] == pytest.approx(theirs["observed"], abs=0.05)


@pytest.mark.parametrize("intervals", [1, 5, 20, 100])
def test_counts_stay_small_whatever_the_number_of_intervals(intervals: int) -> None:
    assert exact_bins(intervals) * (4 * intervals + 2) <= 2**14
    assert exact_bins(intervals) >= 32


def test_everybody_at_one_risk_is_one_group() -> None:
    _, labels = people(50)
    groups = described([tally(numpy.full((50, K), 0.5), labels)])["groups"]
    assert sorted(group["records"] for group in groups) == [0, 0, 50]
    (held,) = (group for group in groups if group["records"])
    assert held["predicted"] == [0.5] * K
    assert all("predicted" not in group for group in groups if group is not held)


def test_noise_leaves_curves_that_fall_from_one_and_are_near_where_counts_are_many() -> None:
    survival, labels = people(20000)
    sums = ENDS.rows_fn(survival, labels).sum(axis=0)
    noisy = sums + numpy.random.default_rng(0).normal(0, 5, len(sums))
    section = described([ScoreTally(sums={ENDS.name: noisy.tolist()}, std=5.0)], is_pooled=False)
    assert section["noisy"]
    assert section["within"]
    exact = groups_of(sums.reshape(16, -1), K)
    for group, true in zip(section["groups"], exact, strict=True):
        curve = numpy.array([1.0, *group["observed"]])
        assert (numpy.diff(curve) <= 0).all()
        assert curve[1:] == pytest.approx(numpy.array(true["observed"]), abs=0.06)
        assert "predicted" not in group
        assert math.isfinite(group["records"])


def test_tallies_of_another_shape_are_left_out() -> None:
    survival, labels = people(100)
    odd = ScoreTally(sums={ENDS.name: [1.0, 2.0]})
    section = described([tally(survival, labels), odd])
    assert section["counted"] == ["centre-0"]
    assert "groups" not in described([odd])
