"""The section on a classification: the same from one institution's counts as from sums of all."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy
import pytest
from scored_records import Floats, Integers, exact, noisy, records
from sklearn import metrics as theirs

from confide.metrics.evaluation import Measured, describe, mean_deviations, metric_figures
from confide.metrics.evaluations.classes import confusion_of, outcomes_of
from confide.metrics.intervals import deviations, interval_around
from confide.metrics.outcomes.classification import CLASSIFICATION
from confide.metrics.score_table import tables_of
from confide.metrics.tally import ScoreTally
from confide.metrics.thresholds import Costs, cheapest, cost_a_record

NAMES = ["accuracy", "macro_f1", "auc", "log_loss"]


def scored(scores: Floats, labels: Integers) -> dict[str, float]:
    values = {name: CLASSIFICATION[name].score_fn(scores, labels) for name in NAMES}
    return {
        **{name: value for name, value in values.items() if value is not None},
        "num_examples": len(labels),
    }


def measured(parts: Mapping[str, tuple[Floats, Integers]], **more: Any) -> Measured:
    scores, labels = (numpy.concatenate(each) for each in zip(*parts.values(), strict=True))
    classes = scores.shape[1]
    given: dict[str, Any] = {
        "labels": ["good", "bad"] if classes == 2 else [f"class {k}" for k in range(classes)],
        "metrics": CLASSIFICATION,
        "federated": scored(scores, labels),
        "is_pooled": True,
        "test": {name: scored(*part) for name, part in parts.items()},
        "tallies": {name: exact(*part) for name, part in parts.items()},
    }
    return Measured(**(given | more))


def section(of: Measured) -> Any:
    """Describe, by way of JSON, as a summary holds it."""
    return json.loads(json.dumps(describe("classes", of), allow_nan=False))


def dealt(count: int, classes: int = 2) -> dict[str, tuple[Floats, Integers]]:
    scores, labels = records(count, classes)
    whose = numpy.random.default_rng(1).integers(0, 3, size=count)
    return {f"bank-{who}": (scores[whose == who], labels[whose == who]) for who in range(3)}


@pytest.mark.parametrize("classes", [2, 3])
def test_section_of_institutions_is_that_of_their_pool(classes: int) -> None:
    parts = dealt(300, classes)
    scores, labels = (numpy.concatenate(each) for each in zip(*parts.values(), strict=True))
    of_parts, of_pool = section(measured(parts)), section(measured({"all": (scores, labels)}))
    for name in ("metrics", "classes", "confusion", "records", "bins", "thresholds"):
        assert of_parts.get(name) == of_pool.get(name)
    assert of_parts["counted"] == ["bank-0", "bank-1", "bank-2"]


@pytest.mark.parametrize("classes", [2, 4])
def test_confusion_is_that_of_scikit_learn(classes: int) -> None:
    scores, labels = records(400, classes)
    told = section(measured({"a": (scores, labels)}))["confusion"]
    assert told["counts"] == theirs.confusion_matrix(labels, scores.argmax(axis=1)).tolist()
    if classes > 2:
        recall = theirs.recall_score(labels, scores.argmax(axis=1), average=None)
        assert [one["recall"]["value"] for one in told["by_class"]] == pytest.approx(
            recall, abs=1e-6
        )


def test_row_of_a_threshold_tells_what_it_decides_and_costs() -> None:
    scores, labels = records(600)
    of = measured({"a": (scores, labels)}, false_negative=5.0, false_positive=2.0)
    thresholds = section(of)["thresholds"]
    for row in thresholds["rows"]:
        taken = scores[:, 1] >= row["threshold"] - 1e-6
        (left, wrong), (missed, right) = theirs.confusion_matrix(labels, taken, labels=[0, 1])
        expected = {
            "flagged": taken.mean(),
            "sensitivity": right / (right + missed),
            "specificity": left / (left + wrong),
            "ppv": right / (right + wrong),
            "npv": left / (left + missed),
            "cost": (5 * missed + 2 * wrong) / 600,
            "net_benefit": (right - wrong * row["threshold"] / (1 - row["threshold"])) / 600,
        }
        for name, value in expected.items():
            assert row[name]["value"] == pytest.approx(value, abs=1e-5)
            low, high = row[name]["interval"]
            assert low <= row[name]["value"] <= high
    assert thresholds["cost_of_nobody"] == pytest.approx(5 * labels.mean(), abs=1e-6)
    assert thresholds["cost_of_everybody"] == pytest.approx(2 * (1 - labels.mean()), abs=1e-6)
    assert thresholds["if_calibrated"] == pytest.approx(2 / 7, abs=1e-6)
    assert sum(row["chosen"] for row in thresholds["rows"]) == 1


def test_class_that_is_looked_for_may_be_the_first() -> None:
    scores, labels = records(500)
    told = section(measured({"a": (scores, labels)}, positive="good"))
    assert list(told["classes"]) == ["good"]
    area = theirs.average_precision_score(labels == 0, scores[:, 0])
    assert told["classes"]["good"]["average_precision"]["value"] == pytest.approx(area, abs=2e-3)
    row = min(told["thresholds"]["rows"], key=lambda it: abs(it["threshold"] - 0.5))
    recall = theirs.recall_score(labels == 0, scores[:, 0] >= row["threshold"])
    assert row["sensitivity"]["value"] == pytest.approx(recall, abs=0.01)
    # Rows and columns stay in the order of the model's outputs.
    assert told["confusion"]["labels"] == ["good", "bad"]
    expected = theirs.confusion_matrix(labels, scores.argmax(axis=1)).tolist()
    assert told["confusion"]["counts"] == expected


def test_threshold_is_chosen_on_validation_records_where_they_tell() -> None:
    scores, labels = records(4000, base=1.5)  # far too sure of the second class
    test, validation = (scores[:2000], labels[:2000]), (scores[2000:], labels[2000:])
    alone = section(measured({"a": test}))["thresholds"]
    assert (alone["chosen_by"], alone["chosen_on"]) == ("test", "test")
    told = section(measured({"a": test}, validation={"a": exact(*validation)}))["thresholds"]
    assert (told["chosen_by"], told["chosen_on"]) == ("validation", "validation")
    assert told["chosen"] > 0.7
    assert told["if_calibrated"] == 0.5
    costs = {row["threshold"]: row["cost"]["value"] for row in told["rows"]}
    assert costs[told["chosen"]] < min(costs[it] for it in costs if 0.4 < it < 0.6)


def test_chance_does_not_move_a_threshold() -> None:
    rng, moved = numpy.random.default_rng(0), 0
    for seed in range(40):
        share = rng.beta(1, 2, size=120)  # calibrated
        labels = (numpy.random.default_rng(seed).random(120) < share).astype(int)
        found = tables_of(exact(numpy.stack([1 - share, share], axis=1), labels), 2)[0]
        chosen = cheapest(found, Costs(missed=4.0, wrong=1.0))
        assert chosen is not None
        moved += chosen[1]
    assert moved <= 6


def test_noise_leaves_intervals_that_hold_the_exact_figures() -> None:
    scores, labels = records(3000)
    whole = section(measured({"a": (scores, labels)}))
    held, wide = [], []
    for seed in range(30):
        tally = noisy(scores, labels, 6.0, numpy.random.default_rng(seed))
        told = section(measured({"a": (scores, labels)}, tallies={"a": tally}))
        assert told["noise"] == 6.0
        bad, exact_ = told["classes"]["bad"], whole["classes"]["bad"]
        for name in ("auc", "brier"):
            low, high = bad[name]["interval"]
            held.append(low - 0.005 <= exact_[name]["value"] <= high + 0.005)
            wide.append(high - low > exact_[name]["interval"][1] - exact_[name]["interval"][0])
        edges = {round(row["threshold"], 3): row for row in whole["thresholds"]["rows"]}
        for row in told["thresholds"]["rows"]:
            same = edges.get(round(row["threshold"], 3))
            if same is None:
                continue
            for name in ("sensitivity", "specificity"):
                low, high = row[name]["interval"]
                held.append(low <= same[name]["value"] <= high)
    assert numpy.mean(held) >= 0.95
    assert numpy.mean(wide) >= 0.9


@pytest.mark.parametrize("classes", [2, 3])
def test_outcomes_with_noise_are_right_missed_and_wrong_ones(classes: int) -> None:
    scores, labels = records(900, classes)
    tally = noisy(scores, labels, 0.0, numpy.random.default_rng(0))
    found = outcomes_of(replace(tally, std=1e-9), classes)
    counts = theirs.confusion_matrix(labels, scores.argmax(axis=1))
    right = counts.diagonal()
    assert found is not None
    assert found.round(4).tolist() == [
        right.tolist(),
        (counts.sum(axis=1) - right).tolist(),
        (counts.sum(axis=0) - right).tolist(),
    ]


@pytest.mark.parametrize("classes", [2, 3])
def test_deviations_are_those_of_metrics_over_draws_of_records(classes: int) -> None:
    scores, labels = records(400, classes)
    tally = exact(scores, labels)
    told = deviations(
        tables_of(tally, classes), outcomes_of(tally, classes), confusion_of(tally, classes)
    )
    rng = numpy.random.default_rng(4)
    parts = [rng.integers(0, 400, size=400) for _ in range(300)]
    for name in ("auc", "average_precision", "log_loss", "brier", "macro_f1"):
        drawn = [CLASSIFICATION[name].score_fn(scores[part], labels[part]) for part in parts]
        spread = numpy.std(drawn)
        # Errors of several classes go together, or not: then this much at most.
        assert 0.85 * spread < told[name] < (1.2 if classes == 2 else 2.2) * spread


def test_means_over_institutions_are_as_sure_as_their_parts() -> None:
    scores = {
        "a": {"auc": 0.8, "num_examples": 100},
        "b": {"auc": 0.7, "num_examples": 300},
        "c": {"accuracy": 0.5, "num_examples": 9},
    }
    found = mean_deviations({"a": {"auc": 0.04}, "b": {"auc": 0.02}}, scores)
    assert found == {"auc": pytest.approx(math.hypot(4.0, 6.0) / 400)}
    assert mean_deviations({"a": {"auc": 0.04}}, scores) == {}


def test_interval_of_noise_alone_is_not_told_as_one() -> None:
    told = metric_figures(
        {
            "auc": 0.8,
            "auc_noise": 0.01,
            "accuracy": 0.8,
            "accuracy_noise": 0.03,
            "num_examples": 90,
        },
        CLASSIFICATION,
        {},
    )
    assert json.loads(json.dumps(told["auc"])) == {"value": 0.8, "interval": None}
    low, high = json.loads(json.dumps(told["accuracy"]))["interval"]
    half = 1.96 * math.hypot(0.03, math.sqrt(0.16 / 90))
    assert (low, high) == (pytest.approx(0.8 - half, abs=1e-3), pytest.approx(0.8 + half, abs=1e-3))


def test_institution_whose_counts_are_not_of_its_records_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = dealt(300)
    of = measured(parts)
    lying = exact(*records(50_000))
    told = section(replace(of, tallies={**of.tallies, "bank-1": lying}))
    assert told["counted"] == ["bank-0", "bank-2"]
    assert "bank-1: its counts are not of the records" in caplog.text
    assert set(told["clients"]) == set(parts)


@pytest.mark.parametrize("tallies", [{}, {"bank-0": ScoreTally(sums={"new": [1.0]})}])
def test_without_counts_there_are_metrics_and_what_follows_from_them(
    tallies: dict[str, ScoreTally],
) -> None:
    told = section(replace(measured(dealt(300)), tallies=tallies))
    assert "classes" not in told
    assert told["metrics"]["accuracy"]["interval"] is not None
    assert told["metrics"]["auc"]["interval"] is None


def test_test_of_one_class_alone_has_no_ranking_and_is_described_all_the_same() -> None:
    scores, _ = records(40)
    told = section(measured({"a": (scores, numpy.zeros(40, dtype=int))}))
    bad = told["classes"]["bad"]
    assert (bad["auc"]["value"], bad["roc"], bad["observed"]["value"]) == (None, [], 0.0)
    assert told["thresholds"]["rows"][0]["sensitivity"]["value"] is None


def test_model_that_gives_everybody_one_score_is_described() -> None:
    labels = numpy.arange(60) % 2
    told = section(measured({"a": (numpy.full((60, 2), 0.5), labels)}))
    assert told["classes"]["bad"]["auc"]["value"] == 0.5
    assert len(told["classes"]["bad"]["calibration"]) == 1


def test_kind_without_a_description_and_run_without_a_test_have_no_section() -> None:
    of = measured(dealt(60))
    assert describe("another", of) == {}
    assert describe("classes", replace(of, test={})) == {}


def test_cheaper_threshold_weighs_mistakes() -> None:
    decided = numpy.array([3.0, 2.0, 1.0, 4.0])
    assert float(cost_a_record(decided, Costs(missed=5.0, wrong=2.0))) == pytest.approx(0.9)


@pytest.mark.parametrize("value", [1e-9, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("sampling", [1e-12, 1e-5, 0.3, 1e4])
def test_intervals_near_the_ends_of_a_range_are_finite(value: float, sampling: float) -> None:
    low, high = interval_around(CLASSIFICATION["auc"], value, noise=0.0, sampling=sampling)
    assert 0 <= low <= value <= high <= 1
