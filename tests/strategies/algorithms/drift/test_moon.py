"""MOON by hand, and its gradients through a real model."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import build_institution, build_plan, build_records, build_task, workload_of
from torch.nn import functional

from confide.client.algorithm_state import ClientStates
from confide.client.assembly import make_trainer
from confide.client.schedule import make_schedule
from confide.client.training.local_round import RoundInputs, local_round
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig
from confide.config.composing.compose import compose
from confide.config.models.perceptrons import MlpConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.drift import MoonConfig
from confide.config.strategies.strategy import ObjectiveConfig
from confide.errors import ConfigError, ModelError
from confide.models.networks import inputs_of_last, trainable_tensors
from confide.protocol.messages import Request
from confide.protocol.tensors import Tensors, decode, encode
from confide.strategies.algorithms.drift.moon import contrastive_losses

SECRET = bytes(range(32))
PLAN = build_plan(
    task=build_task("a", "b", "c"),
    backbone=MlpConfig(hidden=[6]),
    objective=MoonConfig(mu=2.0, temperature=0.5),
    client=ClientConfig(local_steps=1, sampling_rate=1.0),
    num_rounds=4,
)
START: Tensors = trainable_tensors(workload_of(PLAN).model)
OTHER: Tensors = trainable_tensors(workload_of(PLAN, seed=3).model)


def test_the_loss_by_hand() -> None:
    # Cosines 1 and 0, tau 0.5: -log(e^2 / (e^2 + 1)).
    z, away = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 7.0]])
    found = contrastive_losses(z, 3 * z, away, temperature=0.5)
    expected = -math.log(math.exp(2) / (math.exp(2) + 1))
    assert found.tolist() == pytest.approx([expected])
    # The other way round the loss is 2 more
    turned = contrastive_losses(z, away, 3 * z, temperature=0.5)
    assert turned.tolist() == pytest.approx([expected + 2.0])


def test_what_goes_into_the_last_layer_is_seen() -> None:
    workload = workload_of(PLAN)
    examples = workload.synthetic(5, torch.Generator().manual_seed(1))
    batch = examples.take(torch.arange(5))
    found = inputs_of_last(workload.model, lambda: workload.outputs(workload.model, batch))
    first, last = workload.model.linears  # type: ignore[misc]
    expected = first(batch["features"]).relu()
    assert found.equal(expected)
    assert workload.outputs(workload.model, batch).equal(last(found))
    with pytest.raises(ModelError, match="Identity has no representation"):
        inputs_of_last(torch.nn.Identity(), lambda: None)


def one_round(objective: ObjectiveConfig, kept: Tensors, steps: int = 1) -> Tensors:
    plan = replace(
        PLAN, objective=objective, client=ClientConfig(local_steps=steps, sampling_rate=1.0)
    )
    workload = workload_of(plan, physical_batch_size=16)  # passes of a step, of 40 records
    data = build_records(workload)
    schedule = make_schedule(plan, num_examples=len(data.train))
    inputs = RoundInputs(params=START, kept=kept)
    trainer = make_trainer(workload, plan)
    work = LocalWork(plan=plan, schedule=schedule, secret=SECRET)
    return local_round(trainer, inputs, data, work).update


def expected_step(kept: Tensors) -> Tensors:
    """Return one step on both losses, written down anew."""
    workload = workload_of(PLAN)
    data = build_records(workload)
    batch = data.train.take(torch.arange(len(data.train)))
    weight, bias = "layers.0.weight", "layers.0.bias"
    params = {name: value.clone().requires_grad_() for name, value in START.items()}

    def z(tensors: Tensors) -> torch.Tensor:
        return (batch["features"] @ tensors[weight].T + tensors[bias]).relu()

    own = z(params)
    outputs = own @ params["layers.2.weight"].T + params["layers.2.bias"]
    loss = functional.cross_entropy(outputs, batch["labels"])
    near = torch.exp(functional.cosine_similarity(own, z(START)) / 0.5)
    far = torch.exp(functional.cosine_similarity(own, z(kept)) / 0.5)
    loss = loss + 2.0 * -torch.log(near / (near + far)).mean()
    names = list(params)
    gradients = torch.autograd.grad(loss, [params[name] for name in names])
    rate = PLAN.client.optimizer.learning_rate
    return {name: -rate * it for name, it in zip(names, gradients, strict=True)}


def test_a_step_is_one_on_both_losses() -> None:
    found, expected = one_round(PLAN.objective, OTHER), expected_step(OTHER)
    plain = one_round(ObjectiveConfig(), {})
    for name in START:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)
    assert max(float((found[name] - plain[name]).abs().max()) for name in START) > 1e-3


@pytest.mark.parametrize(
    ("objective", "kept"),
    [(MoonConfig(mu=0.0), OTHER), (MoonConfig(mu=5.0), START)],
    ids=["mu 0", "first step after the global model itself"],
)
def test_it_is_fedavg_where_there_is_nothing_to_contrast(
    objective: MoonConfig, kept: Tensors
) -> None:
    found, plain = one_round(objective, kept), one_round(ObjectiveConfig(), {})
    exact = objective.mu == 0
    for name in START:
        assert found[name].equal(plain[name]) or not exact
        torch.testing.assert_close(found[name], plain[name], rtol=0, atol=1e-6)


def test_mu_0_is_fedavg_bit_for_bit_over_many_steps() -> None:
    found, plain = (
        one_round(one, OTHER, steps=9) for one in (MoonConfig(mu=0.0), ObjectiveConfig())
    )
    assert all(found[name].equal(plain[name]) for name in START)


def test_an_institution_keeps_its_local_model(tmp_path: Path) -> None:
    states = ClientStates(tmp_path, kept=3)
    asked = build_institution(PLAN, states=states)
    request = Request(plan=PLAN.to_json(), server_round=1, arrays=encode(START))
    reply = asked.handle("train", request)
    assert reply.refusal is None
    assert reply.arrays is not None
    shapes = {name: tuple(value.shape) for name, value in START.items()}
    update = decode(reply.arrays, shapes, max_value=1e9).tensors
    kept = states.load(PLAN.job, before=2)
    assert kept is not None
    assert all(kept[name].equal(START[name] + update[name]) for name in START)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["backbone=mlp", "privacy=record"],
            r"kind=moon computes more from records .* set privacy=none, or strategy=fedprox",
        ),
        (["backbone=logistic"], r"kind=moon compares .* backbone\.kind=logistic has none"),
        (["backbone=mlp", "strategy.objective.temperature=0"], r"temperature=0.*: expected > 0"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=heart_disease", "strategy=moon", *overrides])


def test_a_head_on_fixed_features_has_nothing_to_contrast() -> None:
    with pytest.raises(ConfigError, match=r"tuning\.kind=head leaves it as it is"):
        compose(["experiment=tweets", "strategy=moon", "tuning=head"])


@pytest.mark.parametrize(
    "fields",
    [
        {"privacy": PrivacyConfig(unit="record", epsilon=3.0, delta=1e-3)},
        {"backbone": build_plan().backbone},
    ],
    ids=["private", "logistic"],
)
def test_such_a_plan_is_refused_at_the_door(fields: dict[str, object]) -> None:
    plan = build_plan(
        **{"task": PLAN.task, "backbone": PLAN.backbone, "objective": PLAN.objective, **fields}
    )
    request = Request(plan=plan.to_json(), server_round=1)
    assert build_institution(PLAN).handle("train", request).refusal == "plan_invalid"
