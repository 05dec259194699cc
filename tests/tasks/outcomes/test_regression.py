import numpy
import pytest
import torch
from builders import build_task
from sklearn import metrics as theirs

from confide.config.outcomes.regression import RegressionConfig
from confide.tasks.metrics import outcome_metrics
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.outcomes.outcome import Outcome


def made(**settings: object) -> Outcome:
    given = {"column": "stay", "minimum": 0.0, "maximum": 10.0, **settings}
    return outcome_of(build_task(labels=[], outcome=RegressionConfig(**given)))  # type: ignore[arg-type]


def test_numbers_are_shares_of_the_range_and_what_is_outside_is_told() -> None:
    read = made().read({"stay": ["0", " 2.5 ", "10", "12", "-1"]})
    assert read.values.tolist() == [0.0, 0.25, 1.0, 1.0, 0.0]
    assert not read.problems
    assert [(note.record, note.text) for note in read.notes] == [
        (
            3,
            "Column stay: 2 of 5 numbers lie outside outcome.minimum to outcome.maximum, 0 to 10,"
            " and become the nearest end of it.",
        )
    ]


@pytest.mark.parametrize(
    ("values", "settings", "words", "record"),
    [
        (["1", None, ""], {}, "2 of 3 numbers to be predicted are null", 1),
        (["1", "2,5", "x"], {}, "2 of 3 values are not numbers.*1 have a decimal comma", 1),
        (["1", "12"], {"outside": "error"}, "1 of 2 numbers lie outside.*outside=clip", 1),
        (["20"] * 6, {}, "6 of 6 numbers lie outside.*another unit", 0),
    ],
)
def test_what_does_not_fit_is_a_problem(
    values: list[str | None], settings: dict[str, object], words: str, record: int
) -> None:
    (problem,) = made(**settings).read({"stay": values}).problems
    assert problem.record == record
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(problem.text)


def test_squared_loss_is_linear_beyond_half_of_the_range() -> None:
    # The range is mapped to [-2, 2]
    losses = made().loss(torch.tensor([[-3.0], [1.0], [-4.0]]), torch.tensor([0.0, 0.5, 1.0]))
    assert losses.tolist() == [0.25, 0.25, 5.0]


def test_huber_loss_is_over_its_threshold() -> None:
    losses = made(loss="huber", delta=0.5).loss(
        torch.tensor([[1.0], [8.0]]), torch.tensor([0.5, 0.5])
    )
    assert losses.tolist() == [0.25, 7.0]


@pytest.mark.parametrize("scale", ["linear", "log1p"])
def test_an_output_without_loss_predicts_the_number(scale: str) -> None:
    outcome, numbers = made(scale=scale, maximum=1000.0), [0.0, 1.0, 30.0, 999.0]
    targets = torch.from_numpy(outcome.read({"stay": list(map(str, numbers))}).values)
    outputs = torch.zeros((4, 1), requires_grad=True)
    for _ in range(200):
        (slope,) = torch.autograd.grad(outcome.loss(outputs, targets).sum(), outputs)
        outputs = (outputs - 2.0 * slope).detach().requires_grad_()
    scores = outcome.scores(outputs.detach())[:, 0].tolist()
    assert scores == pytest.approx(numbers, rel=1e-3, abs=1e-3)
    assert outcome.scores(torch.tensor([[-9.0], [9.0]]))[:, 0].tolist() == pytest.approx([0, 1000])


def test_metrics_are_those_of_scikit_learn_in_the_numbers_unit() -> None:
    rng = numpy.random.default_rng(0)
    truth, told = rng.uniform(0, 10, 500), rng.uniform(0, 10, 500)
    task = build_task(labels=[], outcome=RegressionConfig(column="s", minimum=0.0, maximum=10.0))
    found = outcome_metrics(
        outcome_of(task),
        torch.from_numpy(told[:, None]),
        torch.from_numpy(truth / 10),
        task.metrics,
        task.metric_table,
    )
    assert found == pytest.approx(
        {
            "r2": theirs.r2_score(truth, told),
            "mae": theirs.mean_absolute_error(truth, told),
            "rmse": theirs.root_mean_squared_error(truth, told),
        }
    )


def test_r2_of_one_number_alone_is_undefined() -> None:
    task = build_task(labels=[], outcome=RegressionConfig(column="s", minimum=0.0, maximum=10.0))
    found = outcome_metrics(
        outcome_of(task), torch.ones(3, 1), torch.full((3,), 0.5), ["r2"], task.metric_table
    )
    assert found == {}


def test_counts_are_of_parts_of_the_range_that_are_equal_on_its_scale() -> None:
    read = made().read({"stay": ["0", "1.9", "2", "9", "10"]})
    assert made().counts(read.values) == {
        "0 to 2": 2,
        "2 to 4": 1,
        "4 to 6": 0,
        "6 to 8": 0,
        "8 to 10": 2,
    }
    bent = made(scale="log1p", maximum=99999.0).counts(read.values)
    assert next(iter(bent)) == "0 to 9"


def test_strata_are_tenths() -> None:
    strata = made().strata(numpy.linspace(0, 1, 100, dtype="float32"))
    assert sorted({strata.count(name) for name in strata}) == [10]
    assert len(set(strata)) == 10
