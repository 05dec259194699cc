"""The worst case: what canaries and companions add."""

import pytest
import torch
from audits import N, mechanism_of, private_plan, situation_of
from builders import build_plan, build_task, workload_of
from picture_models import cnn_workload
from sounds_made import sound_workload

from confide.config.models.perceptrons import MlpConfig
from confide.errors import PrivacyError
from confide.simulations.audit.crafted import craft, record_gradients
from confide.simulations.audit.door import added
from confide.tasks.task import Examples


def _crafted(**fields: object):  # type: ignore[no-untyped-def]
    plan = build_plan(task=build_task("a", "b", "c", "d"), **fields)
    workload = workload_of(plan)
    return workload, craft(workload, clipping_norm=1.0, most=64, seed=0)


@pytest.mark.parametrize("hidden", [None, [6], [5, 7]])
def test_a_canary_has_a_gradient_far_above_the_norm_and_companions_have_none(
    hidden: list[int] | None,
) -> None:
    backbone = {} if hidden is None else {"backbone": MlpConfig(hidden=hidden)}
    workload, crafted = _crafted(**backbone)
    for record in record_gradients(workload, crafted.start, crafted.companions):
        assert all(float(gradient.abs().max()) == 0.0 for gradient in record.values())
    assert crafted.sharpness > 1
    assert torch.all(crafted.signals.norm(dim=1) <= 1)


def test_each_canary_is_told_from_the_others() -> None:
    _, crafted = _crafted()
    assert len(crafted.canaries) == 4  # as many directions as the layer has inputs
    counts = torch.tensor([3.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    assert torch.allclose(crafted.decode(counts @ crafted.signals), counts, atol=1e-9)


def test_a_model_without_a_bias_at_its_end_is_refused() -> None:
    workload = workload_of(build_plan())
    workload.model.layers[-1].bias = None
    with pytest.raises(PrivacyError, match="worst case is unknown"):
        craft(workload, clipping_norm=1.0, most=4, seed=0)


def test_smoothed_labels_have_no_such_worst_case() -> None:
    workload = workload_of(build_plan(task=build_task(label_smoothing=0.1)))
    with pytest.raises(PrivacyError, match="every record of smoothed labels"):
        craft(workload, clipping_norm=1.0, most=4, seed=0)


def test_a_clipping_norm_beyond_every_canary_is_refused() -> None:
    workload = workload_of(build_plan(backbone=MlpConfig(hidden=[2])))
    with torch.no_grad():
        workload.model.layers[0].weight.zero_()
    with pytest.raises(PrivacyError, match="times the clipping norm"):
        craft(workload, clipping_norm=50.0, most=4, seed=0)


def test_the_door_shows_noise_of_the_claimed_size_and_the_canary_beside() -> None:
    """Without noise to speak of, what comes out is what was added: C for each step."""
    plan = private_plan(epsilon=30.0)
    mechanism = mechanism_of(plan)
    door, crafted = mechanism.once, mechanism.crafted
    assert door.claim.schedule.steps == 1
    sigma = door.claim.schedule.noise_multiplier
    records = Examples.concat([crafted.companions, crafted.canaries])
    found = torch.stack(
        [
            crafted.decode(added(door.whole_run(records, crafted.start), crafted.weight))
            for _ in range(10)
        ]
    )
    assert found.mean() == pytest.approx(1.0, abs=5 * sigma / found.numel() ** 0.5)
    assert found.std() == pytest.approx(sigma, rel=0.35)


def test_the_door_claims_the_plans_schedule() -> None:
    plan = private_plan()
    door = mechanism_of(plan).door
    assert (door.claim.epsilon, door.rounds, door.num_units) == (3.0, 3, N)
    assert door.claim.schedule.steps == 12
    assert door.claim.schedule.sampling_rate == 0.25
    assert situation_of(plan, None).level < 0.01


@pytest.mark.parametrize("content", ["pictures", "sounds"])
def test_invented_files_are_canaries(content: str) -> None:
    """They lie far above the norm and add most of it to the output layer, apart from each other."""
    workload = cnn_workload() if content == "pictures" else sound_workload()
    crafted = craft(workload, clipping_norm=1.0, most=8, seed=0)
    for record in record_gradients(workload, crafted.start, crafted.companions):
        assert all(float(gradient.abs().max()) == 0.0 for gradient in record.values())
    assert crafted.sharpness > 2
    assert crafted.signals.norm(dim=1).min() > 0.9
    assert torch.linalg.matrix_rank(crafted.signals, rtol=0.05) > 2
