"""Rates of groups are those of their records, by scikit-learn and by hand, noise in intervals."""

from typing import Any

import numpy
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, recall_score, roc_auc_score

from confide.metrics.evaluation import Measured, describe
from confide.metrics.floor import Floor
from confide.metrics.outcomes.classification import CLASSIFICATION
from confide.metrics.outcomes.ordinal import ORDINAL
from confide.metrics.release import add_noise, named_sums, sensitivity, statistics_of, unit_sums
from confide.metrics.subgroups.classes import CELLS, CLASSES, RIGHT
from confide.metrics.subgroups.describe import describe_subgroups
from confide.metrics.subgroups.groups import Subgroups
from confide.metrics.subgroups.kind import group_kind
from confide.metrics.subgroups.pooled import by_groups, group_name, split_up
from confide.metrics.tally import ScoreTally

SEX = Subgroups(column="sex", categories=("Female", "Male"))
LABELS = ("absent", "present")
Floats = numpy.ndarray


def drawn(count: int, seed: int = 0, classes: int = 2) -> tuple[Floats, Floats, Floats]:
    """Draw probabilities, labels, and groups of whom the second is scored and is higher."""
    rng = numpy.random.default_rng(seed)
    codes = rng.integers(0, 2, count)
    odds = rng.normal(0, 1.5, (count, classes))
    odds[:, -1] += codes
    scores = numpy.exp(odds) / numpy.exp(odds).sum(axis=1, keepdims=True)
    labels = numpy.array([rng.choice(classes, p=one) for one in scores])
    return scores, labels, codes


def exact(scores: Floats, labels: Floats, codes: Floats, kind: str = "classes") -> ScoreTally:
    its, table = group_kind(kind), CLASSIFICATION if kind == "classes" else ORDINAL
    assert its is not None
    sums: dict[str, list[int]] = {}
    for one in its.statistics_fn(table, list(table)):
        for group in range(2):
            chosen = codes == group
            assert one.exact_fn is not None
            found = one.exact_fn(*one.usable_fn(scores[chosen], labels[chosen]), Floor())
            assert found is not None
            sums[group_name(one.name, "sex", group)] = [int(it) for it in found.ravel()]
    tally = ScoreTally(sums=sums)
    assert tally.problem() is None
    return tally


def noisy(scores: Floats, labels: Floats, codes: Floats, std: float, seed: int) -> ScoreTally:
    statistics = CLASSES.statistics_fn(CLASSIFICATION, list(CLASSIFICATION))
    released = [by_groups(one, SEX, codes) for one in statistics]
    sums = unit_sums(released, scores, labels)
    told = add_noise(sums, numpy.random.default_rng(seed).normal(0, std, len(sums)))
    named = named_sums(told, released, 2)
    return ScoreTally(
        sums={
            group_name(one.name, "sex", group): part
            for one in statistics
            for group, part in split_up(named[f"{one.name}/sex"], one, SEX).items()
        },
        std=std,
    )


def section(
    tallies: dict[str, ScoreTally], labels: tuple[str, ...] = LABELS, **more: Any
) -> dict[str, Any]:
    kind = more.pop("kind", "classes")
    measured = Measured(
        labels=labels,
        metrics=more.pop("metrics", CLASSIFICATION),
        federated={"num_examples": 100},
        is_pooled=True,
        test={name: {"num_examples": 100} for name in tallies},
        tallies=tallies,
        subgroups=more.pop("subgroups", (SEX,)),
        **more,
    )
    told: dict[str, Any] = describe_subgroups(kind, measured, describe(kind, measured))
    return told.get("subgroups", {})


def measures(told: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {
        one["group"]: {name: it["value"] for name, it in one["measures"].items()}
        for one in told["columns"]["sex"]["groups"]
    }


def test_rates_are_those_of_scikit_learn_over_institutions() -> None:
    scores, labels, codes = drawn(3000)
    at = numpy.arange(3000) % 3  # three institutions
    tallies = {
        str(one): exact(scores[at == one], labels[at == one], codes[at == one]) for one in range(3)
    }
    told = section(tallies)
    assert told["positive"] == "present"
    for group, name in enumerate(SEX.categories):
        chosen = codes == group
        true, score = labels[chosen], scores[chosen, 1]
        predicted = scores[chosen].argmax(axis=1)
        one = measures(told)[name]
        assert one["accuracy"] == pytest.approx(accuracy_score(true, predicted), abs=1e-6)
        assert one["macro_f1"] == pytest.approx(
            f1_score(true, predicted, average="macro"), abs=1e-6
        )
        assert one["recall"] == pytest.approx(recall_score(true, predicted), abs=1e-6)
        assert one["selection_rate"] == pytest.approx(predicted.mean(), abs=1e-6)
        wrongly = predicted[true == 0].mean()
        assert one["false_positive_rate"] == pytest.approx(wrongly, abs=1e-6)
        assert one["auc"] == pytest.approx(roc_auc_score(true, score), abs=1e-3)
        assert one["brier"] == pytest.approx(brier_score_loss(true, score), abs=1e-3)
        assert one["calibration"] == pytest.approx(true.mean() - score.mean(), abs=2e-3)


def test_gaps_are_differences_of_rates_and_equalised_odds_the_larger_of_two() -> None:
    told = section({"a": exact(*drawn(2000))})
    by_group = measures(told)
    gaps = {(one["measure"], one["called"]): one for one in told["columns"]["sex"]["gaps"]}
    parity = gaps["selection_rate", "demographic parity"]
    assert parity["value"] == pytest.approx(
        by_group["Male"]["selection_rate"] - by_group["Female"]["selection_rate"], abs=1e-5
    )
    assert (parity["highest"], parity["lowest"]) == ("Male", "Female")
    assert parity["beyond_chance"]
    odds = next(one for (_, called), one in gaps.items() if called == "equalised odds")
    assert odds["value"] == max(
        gaps["recall", "equal opportunity"]["value"], gaps["false_positive_rate", ""]["value"]
    )
    ratio = told["columns"]["sex"]["selection_ratio"]
    assert ratio["value"] == pytest.approx(
        by_group["Female"]["selection_rate"] / by_group["Male"]["selection_rate"], abs=1e-5
    )
    assert ratio["below_four_fifths"] == (ratio["value"] < 0.8)
    assert ratio["interval"][0] < ratio["value"] < ratio["interval"][1]


def test_class_that_is_looked_for_may_be_the_first() -> None:
    drawn_ = drawn(500)
    usual, turned = (
        section({"a": exact(*drawn_)}),
        section({"a": exact(*drawn_)}, positive="absent"),
    )
    assert turned["positive"] == "absent"
    for name, one in measures(usual).items():
        other = measures(turned)[name]
        assert other["selection_rate"] == pytest.approx(1 - one["selection_rate"], abs=1e-6)
        assert other["recall"] == pytest.approx(1 - one["false_positive_rate"], abs=1e-6)
        assert other["calibration"] == pytest.approx(-one["calibration"], abs=1e-6)
        assert other["auc"] == one["auc"]


def test_several_classes_have_rates_each() -> None:
    scores, labels, codes = drawn(900, classes=3)
    told = section({"a": exact(scores, labels, codes)}, ("low", "middle", "high"))
    one, chosen = measures(told)["Male"], codes == 1
    predicted = scores[chosen].argmax(axis=1)
    recalls = recall_score(labels[chosen], predicted, average=None)
    assert [one[f"recall ({it})"] for it in ("low", "middle", "high")] == pytest.approx(
        recalls, abs=1e-6
    )
    assert told["positive"] is None
    assert "selection_ratio" not in told["columns"]["sex"]


def test_grades_are_as_many_steps_off_as_their_records() -> None:
    scores, labels, codes = drawn(800, classes=4)
    told = section(
        {"a": exact(scores, labels, codes, "ordinal")},
        ("a", "b", "c", "d"),
        kind="ordinal",
        metrics=ORDINAL,
    )
    places = (scores[:, :-1].cumsum(axis=1) < 0.5).sum(axis=1)
    off = (places - labels)[codes == 0]
    one = measures(told)["Female"]
    assert one["mean_error"] == pytest.approx(off.mean(), abs=1e-6)
    assert one["mae"] == pytest.approx(abs(off).mean(), abs=1e-6)
    assert one["accuracy"] == pytest.approx((off == 0).mean(), abs=1e-6)


def test_intervals_hold_the_truth_with_noise() -> None:
    scores, labels, codes = drawn(40_000, seed=1)
    truth = measures(section({"all": exact(scores, labels, codes)}))
    inside: dict[str, list[bool]] = {}
    for seed in range(60):
        rows = numpy.random.default_rng(seed).choice(len(labels), 400)
        tally = noisy(scores[rows], labels[rows], codes[rows], std=4.0, seed=seed)
        told = section({"a": tally})
        assert told["noise"] == 4.0
        for one in told["columns"]["sex"]["groups"]:
            for name, figure in one["measures"].items():
                if figure["interval"] and one["group"] in truth:
                    low, high = figure["interval"]
                    inside.setdefault(name, []).append(
                        low - 1e-9 <= truth[one["group"]][name] <= high + 1e-9
                    )
    for name in (
        "accuracy",
        "selection_rate",
        "recall",
        "false_positive_rate",
        "auc",
        "calibration",
    ):
        assert numpy.mean(inside[name]) > 0.88, name  # of 95 %, at 120 draws


def test_unit_moves_all_sums_by_the_sensitivity_at_most() -> None:
    """Zero-out neighbours: a record is in one group of each column, and counted in each."""
    scores, labels, codes = drawn(50)
    age = Subgroups(column="age", edges=(40.0, 60.0))
    ages = numpy.random.default_rng(3).integers(0, 4, 50)
    of_all = statistics_of(list(CLASSIFICATION), CLASSIFICATION)
    of_groups = CLASSES.statistics_fn(CLASSIFICATION, list(CLASSIFICATION))
    bound = sensitivity([*of_all, *of_groups, *of_groups])
    largest = 0.0
    for left_out in range(50):
        kept = numpy.arange(50) != left_out

        def sums(rows: Floats) -> Floats:
            grouped = [by_groups(one, SEX, codes[rows]) for one in of_groups]
            grouped += [by_groups(one, age, ages[rows]) for one in of_groups]
            found: Floats = unit_sums([*of_all, *grouped], scores[rows], labels[rows]) / 2**30
            return found

        largest = max(largest, float(numpy.linalg.norm(sums(kept) - sums(kept | True))))
    assert largest <= bound + 1e-12
    assert largest > 0.9 * bound  # and no less is needed: losses alone are not as long


def test_unit_is_an_owner_however_many_records_it_has() -> None:
    scores, labels, codes = drawn(40)
    owners = numpy.array([0] * 30 + list(range(1, 11)))
    one = by_groups(CELLS, SEX, codes)
    with_it = unit_sums([one], scores, labels, owners)
    rest = by_groups(CELLS, SEX, codes[30:])
    without = unit_sums([rest], scores[30:], labels[30:], owners[30:])
    assert numpy.linalg.norm((with_it - without) / 2**30) <= 1.0


def test_model_that_takes_few_for_a_class_is_told_by_who_was_right_alone() -> None:
    scores, labels, _ = drawn(200)
    scores[:, 1] *= 1e-9  # nobody is taken for the second class
    assert CELLS.exact_fn is not None
    found = CELLS.exact_fn(*CELLS.usable_fn(scores, labels), Floor(least=10))
    assert found is not None
    assert found.tolist() == [int((labels == 0).sum()), int((labels == 1).sum())]
    tally = ScoreTally(sums={group_name("cells", "sex", 0): found.tolist()})
    one = measures(section({"a": tally}))["Female"]
    assert set(one) == {"accuracy"}


def test_policy_that_lets_accuracy_alone_out_tells_no_rates() -> None:
    assert CLASSES.statistics_fn(CLASSIFICATION, ["accuracy"]) == [RIGHT]
    assert CLASSES.statistics_fn(CLASSIFICATION, ["log_loss"]) == []
    assert [one.name for one in CLASSES.statistics_fn(CLASSIFICATION, ["auc"])] == [
        "cells",
        "ranks",
    ]


def test_nothing_is_told_without_a_test_or_groups() -> None:
    tallies = {"a": exact(*drawn(200))}
    assert section(tallies)
    assert section({}) == section(tallies, subgroups=()) == {}


def test_groups_of_few_records_are_not_shown() -> None:
    scores, labels, codes = drawn(60)
    codes[:] = 1
    codes[:19] = 0
    told = section({"a": exact(scores, labels, codes)}, least_in_group=20)
    assert set(measures(told)) == {"Male"}
    assert told["columns"]["sex"]["withheld"] == ["Female", "not stated"]
    assert told["columns"]["sex"]["gaps"] == []
