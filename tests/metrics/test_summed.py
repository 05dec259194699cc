"""Scores inside a masked sum: of all together as if each were known, and nothing of one."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.config.tasks.table import known_metrics
from confide.metrics.metric import Metric, noise_name
from confide.metrics.outcomes.regression import regression_metrics
from confide.metrics.pooling import FORMS, total
from confide.metrics.summed import SummedScores
from confide.server.rounds.state import mean_metrics

SPLITS = ("validation", "test")
RANGES = {
    "accuracy": (0.0, 1.0),
    "log_loss": (0.0, 50.0),
    "rmse": (0.0, 300.0),
    "perplexity": (1.0, 1e6),
    "answer_tokens": (1e4, 1e6),
    "nll": (0.0, 20.0),
    "c_index": (0.0, 1.0),
    "comparable_pairs": (1e4, 1e8),
}
NAMES = tuple(RANGES)
WEIGHTS = ("answer_tokens", "comparable_pairs")
MOST = 10
A = {"accuracy": 0.5, "num_examples": 10}
B = {"accuracy": 0.7, "num_examples": 30}


TABLE = {**known_metrics(), **regression_metrics(0.0, 300.0, largest=300.0)}


def sums(
    names: tuple[str, ...] = NAMES, *, table: Mapping[str, Metric] = TABLE, most: int = MOST
) -> SummedScores:
    return SummedScores(splits=SPLITS, names=names, table=table, most=most)


def together(
    scores: SummedScores, *institutions: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    total = numpy.zeros(scores.length, dtype=numpy.int64)
    for evaluations in institutions:
        written = scores.write(evaluations)
        assert written.dtype == numpy.int64
        assert numpy.abs(written).max(initial=0) <= 2**61 / scores.most
        total += written
    return scores.read(total)


@st.composite
def evaluations(draw: st.DrawFn) -> dict[str, float]:
    noisy = draw(st.booleans())
    told: dict[str, float] = {
        "num_examples": draw(st.floats(100, 1e4) if noisy else st.integers(1, 10_000))
    }
    for name, (least, largest) in RANGES.items():
        if name in WEIGHTS or draw(st.integers(0, 5)):
            told[name] = draw(st.floats(least, largest))
            if noisy:
                noise = draw(st.floats(0.02, 0.2))
                told[noise_name(name)] = noise * (told[name] if name == "perplexity" else largest)
    return told


def bound(name: str, told: list[dict[str, float]]) -> float:
    """How far the function of the value may be off, as the module's docstring says."""
    metric = TABLE[name]
    if metric.pool_fn is total:
        return len(told) * 2.0**-21
    to = FORMS[metric.pool_fn].to
    top = max(abs(to(metric.largest)), 1.0)
    bits = 20 if metric.weighed_by or math.isinf(top) else 30
    unit = 2.0**-bits * (1 if math.isinf(top) else 2 ** math.ceil(math.log2(top)))
    values = max(abs(to(one[name])) for one in told)
    weight = sum(one[metric.weighed_by or "num_examples"] for one in told)
    return len(told) * (unit + 2.0**-20 * values) / (2 * weight)


@given(st.lists(evaluations(), min_size=1, max_size=MOST))
def test_sum_tells_what_the_institutions_values_would(told: list[dict[str, float]]) -> None:
    pooled = together(sums(), *({"validation": one} for one in told))["validation"]
    expected = mean_metrics({f"{number:02}": one for number, one in enumerate(told)})
    assert pooled.keys() == expected.keys()
    assert pooled["num_examples"] == pytest.approx(expected["num_examples"], abs=MOST * 2.0**-21)
    for name in set(NAMES) & expected.keys():
        to = FORMS[TABLE[name].pool_fn].to
        within = bound(name, [one for one in told if name in one])
        assert to(pooled[name]) == pytest.approx(to(expected[name]), abs=within, rel=1e-12)
        if noise_name(name) in expected:
            noise = pooled[noise_name(name)]
            assert noise == pytest.approx(expected[noise_name(name)], rel=2e-2)


def test_numbers_of_records_without_noise_stay_whole() -> None:
    pooled = together(sums(("accuracy",)), {"test": A}, {"test": B})
    assert pooled == {"test": {"accuracy": pytest.approx(0.65, abs=1e-9), "num_examples": 40}}
    assert isinstance(pooled["test"]["num_examples"], int)


def test_what_an_institution_does_not_tell_adds_nothing() -> None:
    scores = sums(("accuracy", "auc"))
    assert scores.length == 2 * (1 + 3 * 2)
    assert not scores.write({}).any()
    alone = together(scores, {"validation": A})
    assert together(scores, {"validation": A}, {}, {"personal": B}) == alone
    assert set(alone) == {"validation"}
    assert "auc" not in alone["validation"]
    # Its records count, those of its accuracy do not
    more = together(scores, {"validation": A}, {"validation": {"num_examples": 7}})
    assert more["validation"] == {**alone["validation"], "num_examples": 17}


def test_a_metric_is_weighed_by_another_where_the_plan_has_it() -> None:
    large = {"c_index": 0.6, "comparable_pairs": 900.0, "num_examples": 50}
    small = {"c_index": 1.0, "comparable_pairs": 100.0, "num_examples": 50}
    silent = {"c_index": 1.0, "num_examples": 50}
    names = ("c_index", "comparable_pairs")
    pooled = together(sums(names), {"test": large}, {"test": small}, {"test": silent})["test"]
    assert pooled["c_index"] == pytest.approx(0.64, abs=1e-6)
    assert pooled["comparable_pairs"] == 1000
    by_records = together(sums(("c_index",)), {"test": large}, {"test": small})["test"]
    assert by_records == {"c_index": pytest.approx(0.8, abs=1e-8), "num_examples": 100}


def test_noise_is_that_of_independent_parts_and_never_reads_as_none() -> None:
    noisy = [{**A, "accuracy_noise": 0.03}, {**B, "accuracy_noise": 0.04}, {**B}]
    pooled = together(sums(("accuracy",)), *({"test": one} for one in noisy))["test"]
    assert pooled["accuracy_noise"] == pytest.approx(math.hypot(0.3, 1.2) / 70, rel=1e-4)
    least = together(sums(("accuracy",)), {"test": {**A, "accuracy_noise": 1e-9}})["test"]
    assert 1e-9 <= least["accuracy_noise"] < 1e-3


def test_noise_of_one_institution_is_its_own_whatever_the_rule() -> None:
    for name, value in (("rmse", 40.0), ("rmse", 0.0), ("perplexity", 70.0)):
        told = {name: value, noise_name(name): 5.0, "num_examples": 400}
        assert mean_metrics({"a": told})[noise_name(name)] == pytest.approx(5)
        pooled = together(sums((name,)), {"test": told})["test"]
        assert pooled[noise_name(name)] == pytest.approx(5, rel=1e-2)


@pytest.mark.parametrize(
    "odd", [{"accuracy": math.nan}, {"accuracy": 0.5, "accuracy_noise": math.inf}]
)
def test_what_is_not_finite_is_left_out(
    odd: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    told = {"validation": {**odd, "num_examples": 3}}
    pooled = together(sums(("accuracy",)), told, {"validation": A})["validation"]
    assert pooled == {"accuracy": 0.5, "num_examples": 13}
    assert "validation/accuracy" in caplog.text


@pytest.mark.parametrize("most", [1, 3, 100])
def test_what_might_not_fit_into_the_sum_is_left_out(
    most: int, caplog: pytest.LogCaptureFixture
) -> None:
    scores = sums(("accuracy", "log_loss"), most=most)
    fits = {"accuracy": 1.0, "log_loss": 2.0**60 / most / 2**22, "num_examples": 4}
    assert together(scores, *([{"test": fits}] * most))["test"]["log_loss"] == pytest.approx(
        fits["log_loss"]
    )
    assert not caplog.records
    huge = {**fits, "log_loss": fits["log_loss"] * 4}
    assert together(scores, {"test": huge})["test"] == {"accuracy": 1.0, "num_examples": 4}
    assert "test/log_loss" in caplog.text
    assert together(scores, {"test": {**fits, "num_examples": 2**53}}) == {}


def test_a_pool_function_without_sums_is_not_told() -> None:
    own = replace(known_metrics()["accuracy"], name="worst", pool_fn=lambda parts: min(parts)[0])
    scores = sums(("worst", "accuracy"), table={**TABLE, "worst": own})
    assert together(scores, {"test": {**A, "worst": 0.5}})["test"] == A


def test_a_metric_that_no_table_has_is_averaged_by_records() -> None:
    told = [{"own": -3.0, "num_examples": 10}, {"own": 5.0, "num_examples": 30}]
    pooled = together(sums(("own",)), *({"test": one} for one in told))["test"]
    assert pooled == {"own": 3.0, "num_examples": 40}


def test_a_sum_that_no_institutions_made_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    scores = sums(("accuracy",))
    total = scores.write({"test": A})
    total[-3] = 2**58
    assert scores.read(total) == {"test": {"num_examples": 10}}
    assert "outside its range" in caplog.text
    total[-4] = -1
    assert scores.read(total) == {}
    with pytest.raises(ValueError, match="shape"):
        scores.read(total[1:])
