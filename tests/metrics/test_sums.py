"""Metrics of tallies: the same however records are split, and safe to release with noise."""

import math

import numpy
import pytest

from confide.metrics.floor import Floor
from confide.metrics.metric import table
from confide.metrics.release import exact_sums, from_sums, sensitivity, statistics_of, unit_sums
from confide.metrics.sums import EXACT_UNIT, Figures, ratio
from confide.metrics.tally import ScoreTally

FIGURES = Figures(most={"loss": 10.0, "hits": 8.0, "predicted": 8.0, "gold": 8.0})
SPANS = ("hits", "predicted", "gold")
METRICS = table(
    FIGURES.metric(
        "entity_f1",
        "max",
        ratio({"hits": 2}, {"predicted": 1, "gold": 1}),
        of=SPANS,
        statistic="spans",
    ),
    FIGURES.metric(
        "entity_recall", "max", ratio({"hits": 1}, {"gold": 1}), of=SPANS, statistic="spans"
    ),
    FIGURES.metric(
        "loss",
        "min",
        ratio({"loss": 1}, {"gold": 1}),
        of=["loss", "gold"],
        statistic="loss",
        largest=20.0,
    ),
)
NAMES = list(METRICS)
RNG = numpy.random.default_rng(0)
HITS = RNG.integers(0, 4, size=60)
TALLIES = numpy.stack(
    [
        RNG.uniform(0, 9, size=60),
        HITS,
        HITS + RNG.integers(0, 4, 60),
        HITS + RNG.integers(0, 4, 60),
    ],
    axis=1,
).astype(numpy.float64)
NO_TARGETS = numpy.zeros(60)
ODD = [math.nan, math.inf, -math.inf, -1.0, 1e300, 8.0, 9.0]


def test_metric_of_all_is_that_of_the_parts_sums_and_no_mean_of_theirs() -> None:
    score = METRICS["entity_f1"].score_fn
    whole = score(TALLIES, NO_TARGETS)
    assert whole == pytest.approx(
        2 * TALLIES[:, 1].sum() / (TALLIES[:, 2].sum() + TALLIES[:, 3].sum())
    )
    for cut in (1, 7, 59):
        sums = TALLIES[:cut].sum(axis=0, keepdims=True) + TALLIES[cut:].sum(axis=0, keepdims=True)
        assert score(sums, NO_TARGETS[:1]) == pytest.approx(whole)
    halves = [score(part, NO_TARGETS) for part in (TALLIES[:7], TALLIES[7:])]
    assert numpy.mean([it for it in halves if it is not None]) != pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("names", [NAMES, ["entity_f1"], ["loss"]])
def test_one_record_moves_the_sums_by_at_most_the_sensitivity(names: list[str]) -> None:
    statistics = statistics_of(names, METRICS)
    for odd in [*ODD, None]:
        rows = TALLIES.copy()
        if odd is not None:
            rows[0] = odd
        gap = unit_sums(statistics, rows, NO_TARGETS) - unit_sums(
            statistics, rows[1:], NO_TARGETS[1:]
        )
        assert numpy.linalg.norm(gap / 2**30) <= sensitivity(statistics)


@pytest.mark.parametrize("name", NAMES)
def test_without_noise_the_released_sums_give_the_metric(name: str) -> None:
    metric = METRICS[name]
    assert metric.statistic is not None
    assert metric.estimate_fn is not None
    sums = unit_sums([metric.statistic], TALLIES, NO_TARGETS) / 2**30
    assert metric.estimate_fn(sums) == pytest.approx(metric.score_fn(TALLIES, NO_TARGETS), abs=1e-6)
    assert sums @ metric.statistic.counts_fn(4) == pytest.approx(60, abs=1e-6)


def test_record_that_adds_more_counts_as_one_that_adds_the_most() -> None:
    statistic = METRICS["entity_f1"].statistic
    assert statistic is not None
    long, longest = (numpy.full((1, 4), value) for value in (8.0, 500.0))
    assert numpy.array_equal(
        unit_sums([statistic], long, NO_TARGETS[:1]),
        unit_sums([statistic], longest, NO_TARGETS[:1]),
    )


def test_exact_sums_are_those_of_all_records_or_none() -> None:
    statistics = statistics_of(["entity_f1"], METRICS)
    told = exact_sums(statistics, TALLIES, NO_TARGETS, Floor(least=10))["spans"]
    assert [it * EXACT_UNIT for it in told] == [60, *TALLIES[:, 1:].sum(axis=0)]
    assert exact_sums(statistics, TALLIES, NO_TARGETS, Floor(least=61)) == {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("std", [0.0, 1e-9])
def test_metric_of_all_follows_from_what_institutions_tell(name: str, std: float) -> None:
    metric = METRICS[name]
    assert metric.statistic is not None

    def tally(part: numpy.ndarray) -> ScoreTally:
        statistics = statistics_of([name], METRICS)
        sums = exact_sums(statistics, part, NO_TARGETS, Floor())
        if std:
            noisy = unit_sums(statistics, part, NO_TARGETS) / 2**30
            sums = {statistics[0].name: noisy.tolist()}
        return ScoreTally(sums=sums, std=std)

    found = from_sums(metric, [tally(TALLIES[:7]), tally(TALLIES[7:])])
    assert found[name] == pytest.approx(metric.score_fn(TALLIES, NO_TARGETS), abs=1e-4)
    assert from_sums(metric, [tally(TALLIES), ScoreTally(sums={})]) == {}


def test_ratio_of_nothing_is_undefined() -> None:
    assert METRICS["entity_f1"].score_fn(numpy.zeros((3, 4)), NO_TARGETS[:3]) is None


@pytest.mark.parametrize("size", [1e13, 1e20, 1e308])
def test_exact_sums_of_a_model_that_has_diverged_are_still_a_tally(size: float) -> None:
    tallies = numpy.full((5, len(FIGURES.most)), size)
    sums = exact_sums(statistics_of(NAMES, METRICS), tallies, numpy.zeros(5), Floor())
    assert sums["spans"][0] == 5 / EXACT_UNIT
    assert ScoreTally(sums=sums).problem() is None
