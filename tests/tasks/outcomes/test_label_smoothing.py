"""Smoothed labels: in the loss of training alone, of classes alone."""

import dataclasses

import numpy
import pytest
import torch
from builders import build_plan, build_task, workload_of

from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.config.composing.compose import compose
from confide.config.fields import range_problems
from confide.config.outcomes.outcome import DEFAULT_OUTCOME
from confide.config.outcomes.table import OUTCOMES
from confide.errors import ConfigError
from confide.protocol.plan import TrainingPlan
from confide.tasks.metrics import outcome_metrics
from confide.tasks.outcomes.build import outcome_of

PLAIN = build_task(labels=["a", "b", "c"], metrics=["accuracy", "log_loss"])
SMOOTHED = dataclasses.replace(PLAIN, label_smoothing=0.3)


def test_a_smoothed_label_is_a_share_of_every_class() -> None:
    outputs = torch.randn((20, 3), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(20) % 3
    wanted = 0.7 * torch.nn.functional.one_hot(labels, 3) + 0.1
    expected = -(wanted * outputs.double().log_softmax(dim=1)).sum(dim=1)
    assert torch.allclose(outcome_of(SMOOTHED).loss(outputs, labels).double(), expected, atol=1e-6)


def test_reported_log_loss_is_of_the_labels_as_they_are() -> None:
    generator = numpy.random.default_rng(1)
    outputs = torch.from_numpy(generator.normal(size=(50, 3)))
    labels = torch.from_numpy(generator.integers(0, 3, 50))
    told = [
        outcome_metrics(
            outcome_of(task),
            outcome_of(task).scores(outputs),
            labels,
            task.metrics,
            task.metric_table,
        )
        for task in (PLAIN, SMOOTHED)
    ]
    assert told[0] == told[1]
    exact = torch.nn.functional.cross_entropy(outputs, labels)
    assert told[1]["log_loss"] == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("book_keeping", [True, False])
def test_private_gradients_are_of_smoothed_labels(book_keeping: bool) -> None:
    workload = workload_of(build_plan(task=build_task("x", label_smoothing=0.4)))
    examples = workload.synthetic(6, torch.Generator().manual_seed(2))
    plain = workload_of(build_plan(task=build_task("x")))
    plain.model.load_state_dict(workload.model.state_dict())
    with torch.no_grad():
        for model in (workload.model, plain.model):
            next(model.parameters()).copy_(torch.tensor([[-3.0], [3.0]]))
    batch = examples.take(torch.arange(6))
    losses = workload.losses(workload.model, batch)
    assert not torch.allclose(losses, plain.losses(plain.model, batch))
    dp_sgd = DpSgd(
        workload.model.train(), workload.losses, physical_batch_size=8, book_keeping=book_keeping
    )
    preflight(dp_sgd, examples, autocast=None)


def test_a_plan_names_it_only_where_there_is_some() -> None:
    assert "label_smoothing" not in build_plan(task=PLAIN).to_json()
    text = build_plan(task=SMOOTHED).to_json()
    assert TrainingPlan.from_json(text).task == SMOOTHED


@pytest.mark.parametrize("kind", sorted(set(OUTCOMES) - {DEFAULT_OUTCOME}))
def test_other_outcomes_refuse_it(kind: str) -> None:
    made = OUTCOMES[kind].schema()
    task = dataclasses.replace(PLAIN, labels=[], outcome=made, metrics=[], primary_metric="")
    wanted = (
        "task.label_smoothing=0.3 smooths labels of outcome=classes, and this task has"
        f" outcome.kind={kind};"
    )
    smoothed = dataclasses.replace(task, label_smoothing=0.3)
    assert [one for one in range_problems(smoothed, "task.") if one.startswith(wanted)]
    assert not [one for one in range_problems(task, "task.") if "smooth" in one]


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_is_checked(share: float) -> None:
    task = dataclasses.replace(PLAIN, label_smoothing=share)
    assert any("label_smoothing" in one for one in range_problems(task))


def test_trees_refuse_it() -> None:
    with pytest.raises(
        ConfigError, match=r"task\.label_smoothing=0\.1: backbone\.kind=trees grows"
    ):
        compose(["experiment=heart_trees", "task.label_smoothing=0.1"])


def test_an_outcome_on_the_command_line_refuses_it() -> None:
    words = ["task=heart_disease", "task/outcome=regression", "task.outcome.column=age2"]
    with pytest.raises(ConfigError) as caught:
        compose([*words, "task.label_smoothing=0.1", "data=heart_disease"])
    assert any("smooths labels of outcome=classes" in one for one in caught.value.problems)
