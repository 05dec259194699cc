import math

import numpy
import pytest
import torch
from builders import build_task
from sklearn import metrics as theirs

from confide.metrics.metric import reported
from confide.metrics.outcomes.classification import CLASSIFICATION
from confide.tasks.metrics import outcome_metrics
from confide.tasks.outcomes.build import outcome_of

# Predicted classes: 0, 1, 1, 0.
SCORES = torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]])
LABELS = torch.tensor([0, 1, 0, 0])
THREE = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])


def scored(scores: torch.Tensor, labels: torch.Tensor, names: list[str]) -> dict[str, float]:
    task = build_task(labels=[str(k) for k in range(scores.shape[1])])
    return outcome_metrics(outcome_of(task), scores, labels, names, CLASSIFICATION)


def one(name: str, scores: torch.Tensor, labels: torch.Tensor) -> float:
    return scored(scores, labels, [name])[name]


def test_accuracy_is_the_share_of_right_answers() -> None:
    assert one("accuracy", SCORES, LABELS) == 0.75


def test_macro_f1_is_the_mean_over_classes() -> None:
    # Class 0: precision 2/2, recall 2/3, F1 4/5. Class 1: precision 1/2, recall 1/1, F1 2/3.
    assert one("macro_f1", SCORES, LABELS) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_macro_f1_counts_a_class_that_nobody_has_as_zero() -> None:
    # Classes 0 and 1 are all right, class 2 is neither there nor predicted.
    assert one("macro_f1", THREE[:2], torch.tensor([0, 1])) == pytest.approx(2 / 3)


def test_log_loss_is_the_mean_of_minus_log_of_the_true_class() -> None:
    expected = -(math.log(0.8) + math.log(0.6) + math.log(0.3) + math.log(0.9)) / 4
    assert one("log_loss", SCORES, LABELS) == pytest.approx(expected, rel=1e-6)


def test_log_loss_stands_where_a_class_is_missing() -> None:
    assert one("log_loss", SCORES[:1], LABELS[:1]) == pytest.approx(-math.log(0.8), rel=1e-6)


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    # Scores of class 1: 0.6 for the positive; 0.2, 0.7 and 0.1 for the negatives.
    assert one("auc", SCORES, LABELS) == pytest.approx(2 / 3)


def test_auc_of_three_classes_is_the_mean_of_one_against_the_rest() -> None:
    # Class 0: 0.5 of one, 0.2, 0.1, 0.6 of others: 2/3. Class 1: 0.5 over all: 1. Class 2: 0.7 and
    # 0.1 over 0.2 and 0.3: 1/2.
    assert one("auc", THREE, torch.tensor([0, 1, 2, 2])) == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)


def test_auc_is_left_out_where_a_class_is_missing() -> None:
    assert scored(SCORES[2:], LABELS[2:], ["auc", "accuracy"]) == {"accuracy": 0.5}
    assert "auc" not in scored(THREE, torch.tensor([0, 1, 1, 0]), list(CLASSIFICATION))


def test_only_metrics_asked_for_are_given_in_their_order() -> None:
    assert list(scored(SCORES, LABELS, ["log_loss", "accuracy"])) == [
        "log_loss",
        "accuracy",
    ]


def test_every_metric_of_the_config_is_known() -> None:
    assert list(scored(SCORES, LABELS, list(CLASSIFICATION))) == list(CLASSIFICATION)


def test_metrics_that_cost_noise_are_reported_by_those_who_name_them() -> None:
    assert reported(CLASSIFICATION) == ["accuracy", "macro_f1", "auc", "log_loss"]


def test_float32_probabilities_that_do_not_quite_add_up_to_one_are_scored() -> None:
    scores = (
        torch.softmax(torch.randn(1000, 7, generator=torch.Generator().manual_seed(1)), dim=1)
        * 1.0001
    )
    labels = torch.arange(1000) % 7
    assert one("log_loss", scores, labels) == pytest.approx(
        one("log_loss", scores.double() / 1.0001, labels), rel=1e-6
    )


def test_unknown_metric_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Expected a metric of accuracy, .*, brier; got 'luck'"):
        scored(SCORES, LABELS, ["luck"])


@pytest.mark.parametrize(
    ("name", "value", "than", "better"),
    [
        ("accuracy", 0.6, 0.5, True),
        ("accuracy", 0.5, 0.5, False),
        ("accuracy", 0.4, 0.5, False),
        ("log_loss", 0.4, 0.5, True),
        ("log_loss", 0.5, 0.5, False),
        ("log_loss", 0.6, 0.5, False),
        ("accuracy", 0.0, None, True),
        ("log_loss", math.inf, None, True),
        ("accuracy", math.nan, None, False),
        ("log_loss", math.nan, 0.5, False),
    ],
)
def test_better_follows_the_metrics_direction(
    name: str, value: float, than: float | None, better: bool
) -> None:
    assert CLASSIFICATION[name].is_better(value, than) is better


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_scores_are_those_of_scikit_learn(classes: int) -> None:
    rng = numpy.random.default_rng(classes)
    for case in range(40):
        count = int(rng.integers(classes, 60))
        scores = rng.dirichlet(numpy.ones(classes), count)
        if case % 2:  # with ties
            scores = scores.round(1) + 1e-3
            scores /= scores.sum(axis=1, keepdims=True)
        labels, names = rng.integers(0, classes, count), list(range(classes))
        f1 = theirs.f1_score(
            labels, scores.argmax(axis=1), labels=names, average="macro", zero_division=0
        )
        assert CLASSIFICATION["macro_f1"].score_fn(scores, labels) == f1
        squares = theirs.brier_score_loss(
            labels,
            scores[:, 1] if classes == 2 else scores,
            labels=names,
            scale_by_half=True,
        )
        assert CLASSIFICATION["brier"].score_fn(scores, labels) == pytest.approx(squares, abs=1e-15)
        loss = theirs.log_loss(labels, scores, labels=names)
        assert CLASSIFICATION["log_loss"].score_fn(scores, labels) == pytest.approx(loss, abs=1e-15)
        area = CLASSIFICATION["auc"].score_fn(scores, labels)
        precision = CLASSIFICATION["average_precision"].score_fn(scores, labels)
        if len(set(labels.tolist())) < classes:
            assert area is None
            assert precision is None
            continue
        taken = [1] if classes == 2 else names
        each = [theirs.average_precision_score(labels == k, scores[:, k]) for k in taken]
        assert precision == pytest.approx(numpy.mean(each), abs=1e-12)
        ranked = scores[:, 1] if classes == 2 else scores
        many = {"multi_class": "ovr", "labels": names} if classes > 2 else {}
        assert area == pytest.approx(theirs.roc_auc_score(labels, ranked, **many), abs=1e-12)
