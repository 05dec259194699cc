"""The loss of a record's survival: by hand, its bounds, and what it does not depend on."""

import math

import numpy
import pytest
import torch

from confide.metrics.ends import end_codes, life_table
from confide.tasks.outcomes.hazards import hazard_logits, hazard_losses, survival


def logits(hazards: list[float]) -> torch.Tensor:
    """Return outputs whose hazards these are."""
    wanted = torch.tensor([hazards]).logit()
    return wanted + math.log(2 * len(hazards) - 1)


def loss(hazards: list[float], place: float, event: bool) -> float:
    return float(hazard_losses(logits(hazards), torch.tensor([[place, float(event)]])))


def gradients(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    outputs = outputs.clone().requires_grad_()
    hazard_losses(outputs, labels).sum().backward()
    assert outputs.grad is not None
    return outputs.grad


def drawn(count: int, intervals: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(intervals)
    place = torch.rand((count, 1), generator=generator) * intervals
    event = (torch.rand((count, 1), generator=generator) < 0.5).float()
    outputs = torch.randn((count, intervals), generator=generator) * scale
    return outputs, torch.cat([place, event], dim=1)


def test_an_event_pays_for_the_intervals_before_it_and_its_own() -> None:
    expected = -math.log(0.9) - math.log(0.3)
    assert loss([0.1, 0.3, 0.5], 1.2, event=True) == pytest.approx(expected, rel=1e-5)
    # An edge belongs to the interval that it ends, and the start to the first one
    assert loss([0.1, 0.3, 0.5], 2.0, event=True) == pytest.approx(expected, rel=1e-5)
    assert loss([0.1, 0.3, 0.5], 0.0, event=True) == pytest.approx(-math.log(0.1), rel=1e-5)


@pytest.mark.parametrize(
    ("place", "survived"), [(0.0, 0), (0.49, 0), (0.5, 1), (1.4, 1), (1.5, 2), (2.5, 3), (3.0, 3)]
)
def test_a_censored_record_pays_for_intervals_whose_middle_it_passed(
    place: float, survived: int
) -> None:
    hazards = [0.1, 0.3, 0.5]
    expected = -sum(math.log(1 - hazard) for hazard in hazards[:survived])
    assert loss(hazards, place, event=False) == pytest.approx(expected, rel=1e-5)


def test_a_model_starts_from_hazards_that_leave_six_in_ten() -> None:
    for intervals in (1, 5, 10, 40):
        start = torch.zeros((1, intervals))
        assert torch.sigmoid(hazard_logits(start)) == pytest.approx(1 / (2 * intervals))
        assert 0.5 <= float(survival(start)[0, -1]) < 0.61


@pytest.mark.parametrize("intervals", [1, 2, 5, 20])
def test_gradients_are_below_one_at_the_start_and_below_the_root_of_k_anywhere(
    intervals: int,
) -> None:
    for scale, bound in ((0.0, 1.0), (3.0, math.sqrt(intervals)), (1e4, math.sqrt(intervals))):
        norms = gradients(*drawn(500, intervals, scale)).norm(dim=1)
        assert float(norms.max()) <= bound * (1 + 1e-6)
    # The bound is reached: a record that survives where the model was sure that nobody would
    sure = gradients(torch.full((1, intervals), 50.0), torch.tensor([[float(intervals), 0.0]]))
    assert float(sure.norm()) == pytest.approx(math.sqrt(intervals), rel=1e-5)


def test_the_hessian_is_diagonal_and_at_most_a_quarter() -> None:
    outputs, labels = drawn(20, 4, 2.0)
    for one, label in zip(outputs, labels, strict=True):
        hessian = torch.autograd.functional.hessian(
            lambda z, label=label: hazard_losses(z[None], label[None]).sum(), one
        )
        diagonal = hessian.diagonal()
        assert (hessian - torch.diag(diagonal)).abs().max() == 0
        assert 0 <= float(diagonal.min()) <= float(diagonal.max()) <= 0.25 + 1e-6


def test_a_loss_depends_on_its_own_record_alone() -> None:
    outputs, labels = drawn(64, 5, 2.0)
    together = hazard_losses(outputs, labels)
    assert torch.equal(hazard_losses(outputs[3:5], labels[3:5]), together[3:5])


@pytest.mark.parametrize("value", [-1e30, -200.0, 200.0, 1e30])
def test_loss_gradient_and_curve_are_numbers_whatever_the_outputs(value: float) -> None:
    outputs, labels = torch.full((2, 5), value), torch.tensor([[2.0, 1.0], [5.0, 0.0]])
    assert bool(hazard_losses(outputs, labels).isfinite().all())
    assert bool(gradients(outputs, labels).isfinite().all())
    curve = survival(outputs)
    assert bool(((curve >= 0) & (curve <= 1)).all())
    assert bool((curve[:, 1:] <= curve[:, :-1]).all())


def test_curve_is_the_product_of_what_hazards_leave() -> None:
    assert survival(logits([0.1, 0.3, 0.5]))[0].tolist() == pytest.approx([0.9, 0.63, 0.315])


def test_constant_model_learns_the_share_of_events_among_those_at_risk() -> None:
    _, labels = drawn(4000, 3, 0.0)
    common = torch.zeros(3, requires_grad=True)
    steps = torch.optim.LBFGS([common], max_iter=50)

    def closure() -> torch.Tensor:
        steps.zero_grad()
        mean = hazard_losses(common.expand(4000, 3), labels).mean()
        mean.backward()
        return mean

    steps.step(closure)
    codes = numpy.bincount(end_codes(labels.numpy(), 3), minlength=10)
    events, at_risk = life_table(codes)
    found = torch.sigmoid(hazard_logits(common.detach()[None]))[0]
    assert found.numpy() == pytest.approx(events / at_risk, abs=1e-4)
