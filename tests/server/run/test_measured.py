"""Scores of all where nobody has all records: means by support, and what follows from sums."""

from dataclasses import replace

import numpy
import pytest

from confide.config.outcomes.regression import RegressionConfig
from confide.metrics.floor import Floor
from confide.metrics.release import exact_sums, statistics_of
from confide.metrics.tally import ScoreTally
from confide.protocol.messages import Evaluation
from confide.server.rounds.outcome import Outcome
from confide.server.rounds.state import RunState
from confide.server.run.measured import by_support, over_institutions, over_sample

METRICS = RegressionConfig(column="cost", minimum=0.0, maximum=100.0).metric_table
Floats = numpy.ndarray


def part(count: int, centre: float, seed: int) -> tuple[Floats, Floats]:
    rng = numpy.random.default_rng(seed)
    truth = rng.normal(centre, 0.05, count).clip(0, 1)
    return 100 * (truth + rng.normal(0, 0.04, count))[:, None].clip(0, 1), truth


PARTS = {"a": part(80, 0.2, 0), "b": part(300, 0.6, 1)}


def scored(told: Floats, truth: Floats) -> Evaluation:
    values = {name: float(one.score_fn(told, truth) or 0.0) for name, one in METRICS.items()}
    return {**values, "num_examples": len(truth)}


def outcome_of(tallies: dict[str, ScoreTally]) -> Outcome:
    return Outcome(
        state=RunState(server_round=1, params={}, strategy_state={}),
        kept={},
        kept_round=1,
        clients=dict.fromkeys(PARTS, 100),
        test={name: scored(*one) for name, one in PARTS.items()},
        stopped_early=False,
        tallies={"test": tallies},
    )


def tally(name: str) -> ScoreTally:
    statistics = statistics_of(list(METRICS), METRICS)
    return ScoreTally(sums=exact_sums(statistics, *PARTS[name], Floor(least=10)))


def test_r2_is_that_of_all_records_where_every_institution_tells_its_sums() -> None:
    pooled = scored(*(numpy.concatenate([one[it] for one in PARTS.values()]) for it in (0, 1)))
    found, how = over_institutions(outcome_of({name: tally(name) for name in PARTS}), METRICS)
    for name in METRICS:
        assert found[name] == pytest.approx(pooled[name], rel=1e-6), name
    assert found["num_examples"] == 380
    assert how == "mean over institutions, by support; r2 from the sums of all"


def test_r2_is_a_mean_where_one_of_them_does_not() -> None:
    found, how = over_institutions(outcome_of({"a": tally("a")}), METRICS)
    each = [scored(*one) for one in PARTS.values()]
    assert found["r2"] == pytest.approx((80 * each[0]["r2"] + 300 * each[1]["r2"]) / 380)
    assert how == "mean over institutions, by support"


def test_a_samples_interval_is_that_of_its_mean() -> None:
    values = {"a": 0.2, "b": 0.4, "c": 0.9}
    test = {name: {"accuracy": value, "num_examples": 9} for name, value in values.items()}
    outcome = replace(outcome_of({}), test=test, num_clients=12, num_scorers=3)
    found = over_sample(outcome)
    # Deviations -0.3, -0.1, 0.4: variance 0.13; 1 - 3/12 of it is not in the sample
    half = 1.959964 * (0.13 * 0.75 / 3) ** 0.5
    one = found["metrics"]["accuracy"]
    assert one["mean"] == pytest.approx(0.5)
    assert one["interval"] == [pytest.approx(0.5 - half), pytest.approx(0.5 + half)]
    assert one["institutions"] == 3
    assert (found["institutions"], found["scored"]) == (12, 3)


def test_one_institution_tells_no_interval() -> None:
    test = {"a": {"accuracy": 0.2, "num_examples": 9}}
    outcome = replace(outcome_of({}), test=test, num_clients=12, num_scorers=1)
    assert over_sample(outcome)["metrics"]["accuracy"]["interval"] is None


def test_a_mean_by_support_has_the_interval_of_a_ratio() -> None:
    told = {"a": (0.2, 10), "b": (0.4, 30), "c": (0.9, 20)}
    test = {name: {"accuracy": v, "num_examples": n} for name, (v, n) in told.items()}
    outcome = replace(outcome_of({}), test=test, num_clients=12, num_scorers=3)
    # 2 + 12 + 18 of 60; residuals -(1/3) 10, -(2/15) 30, (11/30) 20 over the mean support 20
    mean = 32 / 60
    residuals = [(v - mean) * n / 20 for v, n in told.values()]
    assert sum(residuals) == pytest.approx(0)
    half = 1.959964 * (sum(r * r for r in residuals) / 2 * 0.75 / 3) ** 0.5
    assert by_support(outcome, "accuracy") == [
        pytest.approx(mean - half),
        pytest.approx(mean + half),
    ]
    assert by_support(outcome, "mae") is None  # nobody told it
