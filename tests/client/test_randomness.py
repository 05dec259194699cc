"""Whether the noise of a round follows from the request, or from the round alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import (
    POLICY,
    build_institution,
    build_ledger,
    build_plan,
    build_records,
    build_request,
    build_task,
    key_of,
    workload_of,
)
from company import ALONE, TOGETHER
from torch import Tensor

from confide.client.institution import Institution
from confide.client.reservation import Randomness
from confide.client.training.trainer import Trainer
from confide.config.client import ClientConfig
from confide.config.privacy import PolicyConfig, PrivacyConfig
from confide.errors import PrivacyError
from confide.models.networks import trainable_tensors
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode

WIDTH = 200
PLAN = build_plan(
    task=build_task(*(f"c{number}" for number in range(WIDTH))),
    client=ClientConfig(batch_size=8, local_steps=2),
    privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-4, spare_rounds=2),
    num_rounds=4,
)
TRAINER = Trainer(workload_of(PLAN), private=True)
DATA = build_records(TRAINER.workload, train=120, validation=400, test=300)
START = trainable_tensors(TRAINER.workload.model)
ALLOWED = replace(POLICY, allow_reproducible_noise=True)
UNRELATED = 0.3
"""Correlation of 402 values: six standard deviations of unrelated ones."""


def by_round(**options: Any) -> Institution:
    given = {"reproducible": True, "by_round": True, "policy": ALLOWED, **options}
    return build_institution(PLAN, DATA, trainer=TRAINER, **given)


def one_bit_off(tensors: Tensors) -> Tensors:
    changed = {name: tensor.clone() for name, tensor in tensors.items()}
    next(iter(changed.values())).view(torch.int32)[0, 0] ^= 1
    return changed


def flat(reply: Reply) -> Tensor:
    assert reply.refusal is None
    assert reply.arrays is not None
    tensors = decode(reply.arrays, TRAINER.shapes, max_value=1e9).tensors
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def update(
    institution: Institution,
    tensors: Tensors = START,
    *,
    server_round: int = 1,
    plan: TrainingPlan = PLAN,
) -> Tensor:
    request = build_request(plan, server_round, tensors=tensors)
    return flat(institution.handle("train", request))


def correlation(updates: Sequence[Tensor]) -> float:
    return abs(float(torch.corrcoef(torch.stack(list(updates)))[0, 1]))


def test_one_bit_of_the_tensors_leaves_noise_that_follows_the_round() -> None:
    first, second = update(by_round()), update(by_round(), one_bit_off(START))
    assert (first - second).norm() < 1e-4 * first.norm()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
@pytest.mark.parametrize(
    "options",
    [
        {"reproducible": True, "policy": ALLOWED},
        {"reproducible": False},
        {"key_fn": None},
    ],
    ids=["a seed, and records that are not public", "a secret key", "fresh keys"],
)
@pytest.mark.parametrize("process", ["one", "two"])
def test_one_bit_of_the_tensors_draws_all_noise_anew_elsewhere(
    options: dict[str, Any], process: str
) -> None:
    one = build_institution(PLAN, DATA, trainer=TRAINER, **options)
    two = one if process == "one" else build_institution(PLAN, DATA, trainer=TRAINER, **options)
    assert correlation([update(one), update(two, one_bit_off(START))]) < UNRELATED


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)
def test_one_bit_draws_noise_anew_where_an_account_is_kept(tmp_path: Path) -> None:
    ledger = build_ledger(tmp_path / "ward.ledger", epsilon=20.0, delta=1e-4)
    asked = build_institution(PLAN, DATA, trainer=TRAINER, ledger=ledger, key_fn=None)
    assert correlation([update(asked), update(asked, one_bit_off(START))]) < UNRELATED


@pytest.mark.parametrize("change", ["round", "job", "institution's key"])
def test_noise_that_follows_the_round_is_another_ones_elsewhere(change: str) -> None:
    other: dict[str, Any] = {}
    institution = by_round()
    if change == "round":
        other["server_round"] = 2
    elif change == "job":
        other["plan"] = replace(PLAN, job="another")
    else:
        institution = by_round(key_fn=lambda job, place: key_of(f"{job} of another", place))
    assert correlation([update(by_round()), update(institution, **other)]) < UNRELATED


def test_other_tensors_count_again_though_their_noise_is_the_same() -> None:
    institution = by_round()
    asked = [build_request(PLAN, 1, tensors=it) for it in (START, START, one_bit_off(START))]
    costs = [institution.handle("train", one).figures["epsilon"] for one in asked]
    assert costs[0] == costs[1] < costs[2]


def scores(institution: Institution, tensors: Tensors) -> list[float]:
    asked = build_request(PLAN, 0, tensors=tensors, splits=("validation",))
    found = institution.handle("evaluate", asked).evaluations["validation"]
    return [found["accuracy"], found["log_loss"], found["num_examples"]]


NOISY = PolicyConfig(max_delta=1e-4, allow_reproducible_noise=True, metrics_privacy="noisy")


def test_noise_of_scores_follows_the_round_as_that_of_updates() -> None:
    first, second = (
        scores(by_round(policy=NOISY), tensors) for tensors in (START, one_bit_off(START))
    )
    assert first == pytest.approx(second, rel=1e-5)


def test_noise_of_scores_follows_the_request_elsewhere() -> None:
    def institution() -> Institution:
        return build_institution(PLAN, DATA, trainer=TRAINER, policy=NOISY, reproducible=True)

    first, second = (scores(institution(), tensors) for tensors in (START, one_bit_off(START)))
    assert first != pytest.approx(second, rel=1e-3)


def test_noise_does_not_follow_the_round_without_a_seed() -> None:
    with pytest.raises(PrivacyError, match="by_round=True, reproducible=False"):
        Randomness(key_fn=key_of, reproducible=False, by_round=True)
    with pytest.raises(PrivacyError, match="by_round"):
        Randomness(key_fn=None, reproducible=True, by_round=True)
    with pytest.raises(PrivacyError, match="allow_reproducible_noise=false"):
        by_round(policy=replace(POLICY, allow_reproducible_noise=False))
