"""A gradient in closed form is autograd's, bit for bit."""

import pytest
import torch
from builders import build_task
from torch import Tensor

from confide.config.outcomes.ordinal import OrdinalConfig
from confide.tasks.outcomes.build import outcome_of
from confide.tasks.outcomes.outcome import KnowsGradient, Outcome

LABELS = [str(number) for number in range(10)]


def by_autograd(outcome: Outcome, outputs: Tensor, targets: Tensor) -> Tensor:
    leaf = outputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(outcome.loss(leaf, targets).sum(), leaf)
    return gradient


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("count", [1, 16, 301])
def test_the_gradient_of_classes_is_autograds(classes: int, count: int) -> None:
    outcome = outcome_of(build_task("age", labels=LABELS[:classes]))
    assert isinstance(outcome, KnowsGradient)
    generator = torch.Generator().manual_seed(0)
    outputs = 5 * torch.randn(count, classes, generator=generator)
    outputs[0, 0] = 1e30
    targets = torch.randint(0, classes, (count,), generator=generator)
    found = outcome.loss_gradient(outputs, targets)
    assert found is not None
    assert found.equal(by_autograd(outcome, outputs, targets))


def test_other_losses_of_classes_are_left_to_autograd() -> None:
    outputs, targets = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    for task in (
        build_task("age", labels=LABELS[:3], label_smoothing=0.1),
        build_task("age", labels=[], outcome=OrdinalConfig(labels=LABELS[:3])),
    ):
        outcome = outcome_of(task)
        assert isinstance(outcome, KnowsGradient)
        assert outcome.loss_gradient(outputs, targets) is None
