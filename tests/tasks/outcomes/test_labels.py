"""Several labels a record, and labels in order."""

import numpy
import pytest
import torch
from builders import build_task
from sklearn import metrics as theirs

from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.tasks.task import TaskConfig
from confide.tasks.metrics import outcome_metrics
from confide.tasks.outcomes.build import outcome_of

COLUMNS = build_task(labels=[], outcome=MultiLabelConfig(labels=["x", "y"]))
LISTS = build_task(labels=[], outcome=MultiLabelConfig(labels=["x", "y"], column="tags"))
GRADES = build_task(labels=[], outcome=OrdinalConfig(column="g", labels=["low", "mid", "top"]))


def scored(task: TaskConfig, scores: numpy.ndarray, truth: numpy.ndarray) -> dict[str, float]:
    told = torch.from_numpy(scores), torch.from_numpy(truth)
    return outcome_metrics(outcome_of(task), *told, task.metrics, task.metric_table)


def test_labels_are_read_from_columns_of_truth_values() -> None:
    read = outcome_of(COLUMNS).read({"x": ["0", "1.0", "true"], "y": ["yes", "no", "FALSE"]})
    assert read.values.tolist() == [[0, 1], [1, 0], [1, 0]]
    assert not read.problems
    assert outcome_of(COLUMNS).counts(read.values) == {"x": 2, "y": 1, "none of them": 0}


def test_labels_are_read_from_a_list_and_an_empty_one_holds_none() -> None:
    read = outcome_of(LISTS).read({"tags": ["x", "", None, "y, x"]})
    assert read.values.tolist() == [[1, 0], [0, 0], [0, 0], [1, 1]]
    assert read.known.all()
    assert outcome_of(LISTS).counts(read.values)["none of them"] == 2


@pytest.mark.parametrize(
    ("task", "columns", "words"),
    [
        (COLUMNS, {"x": ["0", None], "y": ["0", "1"]}, "Column x: 1 of 2 labels are null"),
        (COLUMNS, {"x": ["0", "2"], "y": ["0", "1"]}, "neither 0 nor 1.*such as '2'"),
        (LISTS, {"tags": ["x", "x;y"]}, r"unknown label 'x;y' \(1 record\).*separator=','"),
        (GRADES, {"g": ["low", "Mid."]}, "unknown label.*task.outcome.labels"),
    ],
)
def test_what_does_not_fit_is_a_problem(
    task: TaskConfig, columns: dict[str, list[str | None]], words: str
) -> None:
    read = outcome_of(task).read(columns)
    assert read.known.tolist() == [True, False]
    (problem,) = read.problems
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(problem.text)


def test_spaces_around_a_label_are_not_the_label() -> None:
    read = outcome_of(GRADES).read({"g": [" low", "mid ", "top", "  ", None]})
    assert read.values.tolist()[:3] == [0, 1, 2]
    assert read.known.tolist() == [True, True, True, False, False]
    assert [problem.text.split(";")[0] for problem in read.problems] == [
        "Column g: 2 of 5 labels are null"
    ]
    spaced = build_task(labels=[], outcome=OrdinalConfig(column="g", labels=["a", " a"]))
    assert outcome_of(spaced).read({"g": ["a", " a"]}).values.tolist() == [0, 1]


def test_a_label_needs_records_for_which_it_holds_and_others() -> None:
    outcome, counts = outcome_of(COLUMNS), {"x": 0, "y": 3, "none of them": 0}
    told = list(outcome.count_problems(counts, total=3, minimum=1))
    assert [text.split(":")[0] for text in told] == ["Label x", "Label y"]


def test_metrics_of_several_labels_are_those_of_scikit_learn() -> None:
    rng = numpy.random.default_rng(0)
    truth, scores = rng.integers(0, 2, (300, 2)), rng.random((300, 2)).round(1)
    said = scores >= 0.5
    assert scored(COLUMNS, scores, truth) == pytest.approx(
        {
            "macro_f1": theirs.f1_score(truth, said, average="macro"),
            "micro_f1": theirs.f1_score(truth, said, average="micro"),
            "auc": theirs.roc_auc_score(truth, scores),
            "mean_average_precision": theirs.average_precision_score(truth, scores),
        }
    )


def test_metrics_of_labels_in_order_are_those_of_scikit_learn() -> None:
    rng = numpy.random.default_rng(0)
    truth, scores = rng.integers(0, 3, 300), rng.dirichlet([1, 1, 1], 300)
    said = (scores.cumsum(axis=1) < 0.5).sum(axis=1)
    assert scored(GRADES, scores, truth) == pytest.approx(
        {
            "weighted_kappa": theirs.cohen_kappa_score(truth, said, weights="quadratic"),
            "mae": theirs.mean_absolute_error(truth, said),
            "accuracy": theirs.accuracy_score(truth, said),
        }
    )


def test_probabilities_of_labels_in_order_are_no_less_than_nothing() -> None:
    outputs = torch.tensor([[-3.0, 5.0], [2.0, 1.0]])  # the first one's steps cross
    scores = outcome_of(GRADES).scores(outputs)
    assert bool((scores >= 0).all())
    assert scores.sum(dim=1).tolist() == pytest.approx([1, 1])
    assert outcome_of(GRADES).predictions(scores.numpy())["prediction"] == ["low", "top"]


def test_the_rarest_label_names_a_record() -> None:
    strata = outcome_of(COLUMNS).strata(numpy.array([[1, 1], [1, 0], [0, 0]]))
    assert strata == ["y", "x", "none of them"]


def test_predicted_labels_are_listed() -> None:
    columns = outcome_of(LISTS).predictions(numpy.array([[0.9, 0.5], [0.1, 0.2]]))
    assert columns["prediction"] == ["x,y", ""]
    assert columns["probability_x"].tolist() == [0.9, 0.1]  # type: ignore[union-attr]
