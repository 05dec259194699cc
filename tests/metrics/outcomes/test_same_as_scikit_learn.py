"""Metrics that a run works out each round are scikit-learn's, whatever records there are.

Ties, a single class, scores that are all the same, one record, none, and weights are among what
hypothesis draws.
"""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy
import pytest
import torch
from builders import build_task
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.tasks.task import TaskConfig
from confide.metrics.metric import Metric
from confide.metrics.outcomes.classification import CLASSIFICATION
from confide.metrics.pooling import mean_by_support
from confide.tasks.metrics import outcome_metrics
from confide.tasks.outcomes.build import outcome_of

EXACT = 1e-12
Floats = numpy.ndarray[Any, numpy.dtype[numpy.float64]]
Integers = numpy.ndarray[Any, numpy.dtype[numpy.int64]]

CLASSES = build_task()
LABELS = build_task(
    labels=[], outcome=MultiLabelConfig(labels=["x", "y", "z"]), metrics=["macro_f1"]
)
GRADES = build_task(
    labels=[], outcome=OrdinalConfig(column="g", labels=["a", "b", "c"]), metrics=["mae"]
)
NUMBERS = build_task(
    labels=[], outcome=RegressionConfig(column="s", minimum=-5.0, maximum=20.0), metrics=["mae"]
)


@st.composite
def scored(draw: st.DrawFn) -> tuple[Floats, Integers]:
    """Draw class probabilities and labels: mostly ties, at times one class or one score alone."""
    classes = draw(st.integers(2, 5))
    count = draw(st.integers(1, 30))
    cell = st.one_of(st.integers(0, 3).map(float), st.floats(0, 1, width=32))
    rows = st.lists(cell, min_size=classes, max_size=classes).filter(lambda row: sum(row) > 1e-3)
    if draw(st.booleans()):
        shares = numpy.array([draw(rows)] * count)
    else:
        shares = numpy.array(draw(st.lists(rows, min_size=count, max_size=count)))
    some = st.sampled_from(draw(st.sampled_from([range(classes), [0], [classes - 1]])))
    labels = numpy.array(draw(st.lists(some, min_size=count, max_size=count)))
    return shares / shares.sum(axis=1, keepdims=True), labels


def area(scores: Floats, labels: Integers, classes: Sequence[int]) -> float | None:
    if len(set(labels.tolist())) < len(classes):
        return None
    if len(classes) == 2:
        return float(theirs.roc_auc_score(labels, scores[:, 1]))
    return float(theirs.roc_auc_score(labels, scores, multi_class="ovr", labels=classes))


def precision(scores: Floats, labels: Integers, classes: Sequence[int]) -> float | None:
    if len(set(labels.tolist())) < len(classes):
        return None
    taken = [1] if len(classes) == 2 else classes
    each = [theirs.average_precision_score(labels == k, scores[:, k]) for k in taken]
    return float(numpy.mean(each))


def of_classes(scores: Floats, labels: Integers) -> dict[str, float | None]:
    classes = list(range(scores.shape[1]))
    told = scores.argmax(axis=1)
    return {
        "accuracy": theirs.accuracy_score(labels, told),
        "macro_f1": theirs.f1_score(labels, told, labels=classes, average="macro", zero_division=0),
        "auc": area(scores, labels, classes),
        "log_loss": theirs.log_loss(labels, scores, labels=classes),
        "average_precision": precision(scores, labels, classes),
        "brier": theirs.brier_score_loss(
            labels,
            scores[:, 1] if len(classes) == 2 else scores,
            labels=classes,
            scale_by_half=True,
        ),
    }


def assert_same(
    metrics: dict[str, Metric], found: tuple[Floats, Any], expected: dict[str, float | None]
) -> None:
    for name, value in expected.items():
        told = metrics[name].score_fn(*found)
        assert (told is None) == (value is None), name
        if told is not None and value is not None:
            assert math.isclose(told, value, rel_tol=EXACT, abs_tol=EXACT), (name, told, value)


@given(scored())
def test_metrics_of_classes_are_those_of_scikit_learn(drawn: tuple[Floats, Integers]) -> None:
    assert_same(CLASSIFICATION, drawn, of_classes(*drawn))


@given(scored(), st.data())
def test_means_of_weighted_records_are_those_of_scikit_learn(
    drawn: tuple[Floats, Integers], data: st.DataObject
) -> None:
    scores, labels = drawn
    weight = st.lists(st.floats(0.1, 9.0), min_size=len(labels), max_size=len(labels))
    weights = data.draw(weight)
    classes = list(range(scores.shape[1]))
    expected = {
        "accuracy": theirs.accuracy_score(labels, scores.argmax(axis=1), sample_weight=weights),
        "log_loss": theirs.log_loss(labels, scores, labels=classes, sample_weight=weights),
        "brier": theirs.brier_score_loss(
            labels,
            scores[:, 1] if len(classes) == 2 else scores,
            labels=classes,
            scale_by_half=True,
            sample_weight=weights,
        ),
    }
    for name, value in expected.items():
        one = CLASSIFICATION[name].score_fn
        parts = [float(one(scores[i : i + 1], labels[i : i + 1]) or 0) for i in range(len(labels))]
        told = mean_by_support(list(zip(parts, weights, strict=True)))
        assert math.isclose(told, value, rel_tol=EXACT, abs_tol=EXACT), name


@given(st.integers(1, 25), st.data())
def test_metrics_of_several_labels_are_those_of_scikit_learn(
    count: int, data: st.DataObject
) -> None:
    rows = st.lists(st.integers(0, 4), min_size=3, max_size=3)
    scores = numpy.array(data.draw(st.lists(rows, min_size=count, max_size=count))) / 4
    flags = st.lists(st.integers(0, 1), min_size=3, max_size=3)
    truth = numpy.array(data.draw(st.lists(flags, min_size=count, max_size=count)))
    said = scores >= 0.5
    varied = bool((truth.min(axis=0) != truth.max(axis=0)).all())
    held = bool(truth.any(axis=0).all())
    expected = {
        "macro_f1": theirs.f1_score(truth, said, average="macro", zero_division=0),
        "micro_f1": theirs.f1_score(truth, said, average="micro", zero_division=0),
        "auc": theirs.roc_auc_score(truth, scores) if varied else None,
        "mean_average_precision": theirs.average_precision_score(truth, scores) if held else None,
    }
    assert_same(dict(LABELS.metric_table), (scores, truth), expected)


@given(st.integers(1, 25), st.data())
def test_metrics_of_labels_in_order_are_those_of_scikit_learn(
    count: int, data: st.DataObject
) -> None:
    place = st.lists(st.integers(0, 2), min_size=count, max_size=count)
    truth, said = numpy.array(data.draw(place)), numpy.array(data.draw(place))
    scores = numpy.eye(3)[said]
    alone = len({*truth.tolist(), *said.tolist()}) == 1
    kappa = None if alone else theirs.cohen_kappa_score(truth, said, weights="quadratic")
    expected = {
        "weighted_kappa": kappa,
        "mae": theirs.mean_absolute_error(truth, said),
        "accuracy": theirs.accuracy_score(truth, said),
    }
    assert_same(dict(GRADES.metric_table), (scores, truth), expected)


@given(st.integers(1, 25), st.data())
def test_metrics_of_numbers_are_those_of_scikit_learn(count: int, data: st.DataObject) -> None:
    shares = st.lists(st.integers(0, 8), min_size=count, max_size=count)
    truth, told = (numpy.array(data.draw(shares)) / 8 for _ in range(2))
    low, span = -5.0, 25.0
    numbers, predicted = low + span * truth, low + span * told
    varied = truth.min() < truth.max()
    expected = {
        "r2": theirs.r2_score(numbers, predicted) if varied else None,
        "mae": theirs.mean_absolute_error(numbers, predicted),
        "rmse": theirs.root_mean_squared_error(numbers, predicted),
    }
    assert_same(dict(NUMBERS.metric_table), (predicted[:, None], truth), expected)


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3])
def test_numbers_that_are_all_the_same_have_no_variance_to_explain(value: float) -> None:
    # Their mean, rounded, is another number
    truth = numpy.full(7, value)
    assert NUMBERS.metric_table["r2"].score_fn(numpy.ones((7, 1)), truth) is None


@pytest.mark.parametrize("task", [CLASSES, LABELS, GRADES, NUMBERS])
def test_no_records_have_no_metrics(task: TaskConfig) -> None:
    outcome = outcome_of(task)
    scores = torch.empty((0, *outcome.score_shape))
    targets = torch.empty((0, *outcome.target_shape), dtype=torch.int64)
    names = list(task.metric_table)
    assert outcome_metrics(outcome, scores, targets, names, task.metric_table) == {}


def cost(work: Any, times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


def test_four_metrics_of_a_small_institution_cost_little() -> None:
    labels = numpy.array([0, 1] * 4)
    scores = numpy.random.default_rng(0).dirichlet([1, 1], 8)
    outcome, given = outcome_of(CLASSES), torch.from_numpy(scores)
    truth, names = torch.from_numpy(labels), ["accuracy", "macro_f1", "auc", "log_loss"]

    def ours() -> None:
        outcome_metrics(outcome, given, truth, names, CLASSIFICATION)

    def scikit_learns() -> None:
        of_classes(scores, labels)

    ours(), scikit_learns()  # what is loaded late
    assert min(cost(scikit_learns, 3) / cost(ours, 30) for _ in range(3)) > 10
    assert "sklearn" in sys.modules  # of this test, and of no run: tests/test_startup.py
