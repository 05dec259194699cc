"""What holds for every outcome: bounds of its loss, shapes, and that each record stands alone."""

import numpy
import pytest
import torch
from builders import build_task

from confide.config.outcomes.multi_label import MultiLabelConfig
from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.outcomes.regression import RegressionConfig
from confide.config.outcomes.table import OF_A_RECORD
from confide.config.tasks.task import TaskConfig
from confide.metrics.release import add_noise, estimates, sensitivity, statistics_of, unit_sums
from confide.tasks.metrics import outcome_metrics
from confide.tasks.outcomes.build import outcome_of

STAY = {"column": "stay", "minimum": 1.0, "maximum": 101.0}
TASKS = {
    "classes": build_task(labels=["a", "b", "c"]),
    "smoothed": build_task(labels=["a", "b", "c"], label_smoothing=0.3),
    "number": build_task(labels=[], outcome=RegressionConfig(**STAY)),
    "amount": build_task(labels=[], outcome=RegressionConfig(**STAY, scale="log1p")),
    "huber": build_task(labels=[], outcome=RegressionConfig(**STAY, loss="huber", delta=0.1)),
    "labels": build_task(labels=[], outcome=MultiLabelConfig(labels=["x", "y", "z"])),
    "grades": build_task(
        labels=[], outcome=OrdinalConfig(column="g", labels=["low", "middle", "high", "top"])
    ),
}
EVERY = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def drawn(task: TaskConfig, count: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    outputs = spread * torch.randn((count, task.num_outputs), generator=generator)
    outcome = outcome_of(task)
    raw = outcome.invent(count, numpy.random.default_rng(1))
    return outputs, torch.from_numpy(outcome.read(raw).values)


def test_each_kind_is_looked_at() -> None:
    assert {task.outcome.kind for task in TASKS.values()} >= set(OF_A_RECORD) - {"survival"}


@EVERY
@pytest.mark.parametrize("blank", [None, "", "  ", "\t"])
def test_blanks_are_no_label_to_who_reads_it_and_to_who_asks(
    task: TaskConfig, blank: str | None
) -> None:
    outcome = outcome_of(task)
    columns = {
        name: [blank, *cells[1:]]
        for name, cells in outcome.invent(3, numpy.random.default_rng(1)).items()
    }
    assert outcome.labelled(columns) == [False, True, True]
    assert outcome.read(columns).known.tolist() == [False, True, True]


@EVERY
@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
def test_no_loss_exceeds_the_bounds_that_steps_rest_on(task: TaskConfig, spread: float) -> None:
    bounds, outcome = task.loss_bounds, outcome_of(task)
    assert bounds is not None
    for output, target in zip(*drawn(task, 50, spread), strict=True):

        def loss(z: torch.Tensor, target: torch.Tensor = target) -> torch.Tensor:
            return outcome.loss(z[None], target[None])[0]

        (gradient,) = torch.autograd.grad(loss(output.requires_grad_()), output)
        assert gradient.norm() <= bounds.gradient * (1 + 1e-5)
        hessian = torch.autograd.functional.hessian(loss, output)
        assert torch.linalg.eigvalsh(hessian).max() <= bounds.smoothness * (1 + 1e-4) + 1e-6


@EVERY
def test_bounds_are_reached(task: TaskConfig) -> None:
    bounds, outcome = task.loss_bounds, outcome_of(task)
    assert bounds is not None
    outputs, targets = drawn(task, 400, 1000.0)
    outputs.requires_grad_()
    (gradients,) = torch.autograd.grad(outcome.loss(outputs, targets).sum(), outputs)
    assert gradients.norm(dim=1).max() > 0.99 * bounds.gradient


@EVERY
def test_a_records_loss_and_scores_are_its_own(task: TaskConfig) -> None:
    outcome = outcome_of(task)
    outputs, targets = drawn(task, 9, 2.0)
    together = outcome.loss(outputs, targets), outcome.scores(outputs)
    for i in range(9):
        row = slice(i, i + 1)
        assert outcome.loss(outputs[row], targets[row]).equal(together[0][row])
        assert torch.allclose(outcome.scores(outputs[row]), together[1][row])


@EVERY
def test_shapes_are_those_that_it_declares(task: TaskConfig) -> None:
    outcome = outcome_of(task)
    outputs, targets = drawn(task, 9, 2.0)
    scores = outcome.scores(outputs)
    assert tuple(targets.shape[1:]) == outcome.target_shape
    assert tuple(scores.shape[1:]) == outcome.score_shape
    columns = outcome.predictions(scores.numpy())
    assert list(columns) == list(outcome.prediction_columns())
    assert {len(values) for values in columns.values()} == {9}
    assert len(outcome.strata(targets.numpy())) == 9
    assert outcome.read({k: [v] for k, v in outcome.placeholder().items()}).known.all()


@EVERY
def test_one_unit_moves_noisy_sums_by_at_most_the_sensitivity(task: TaskConfig) -> None:
    outcome, statistics = outcome_of(task), statistics_of(task.metrics, task.metric_table)
    rng, largest = numpy.random.default_rng(0), 0.0
    outputs, targets = drawn(task, 200, 3.0)
    scores = outcome.scores(outputs).double().numpy()
    odd = rng.random(scores.shape) < 0.3
    scores[odd] = rng.choice([numpy.nan, numpy.inf, -numpy.inf, -1.0, 1e300], size=int(odd.sum()))
    for i in range(200):
        row = unit_sums(statistics, scores[i : i + 1], targets.numpy()[i : i + 1])
        largest = max(largest, float(numpy.linalg.norm(row / 2**30)))
    assert 0.5 * sensitivity(statistics) < largest <= sensitivity(statistics) * (1 + 1e-9)


@EVERY
def test_sums_without_noise_give_the_metrics(task: TaskConfig) -> None:
    outcome, names = outcome_of(task), task.metrics
    outputs, targets = drawn(task, 3000, 1.0)
    scores = outcome.scores(outputs)
    exact = outcome_metrics(outcome, scores, targets, names, task.metric_table)
    statistics = statistics_of(names, task.metric_table)
    sums = unit_sums(statistics, scores.double().numpy(), targets.numpy())
    noisy = add_noise(sums, numpy.zeros(len(sums)))
    told = estimates(noisy, names, task.metric_table, classes=outcome.score_shape[-1], std=0.0)
    assert told["num_examples"] == 3000
    for name in names:
        # Ranks are binned
        assert told[name] == pytest.approx(exact[name], rel=0.03, abs=1e-3), name


def test_an_outcome_has_its_own_metrics_and_the_first_one_decides() -> None:
    assert (TASKS["number"].metrics, TASKS["number"].primary_metric) == (
        ["r2", "mae", "rmse"],
        "r2",
    )
    assert TASKS["classes"].primary_metric == "accuracy"
    assert TASKS["classes"].outcome == OutcomeConfig()
