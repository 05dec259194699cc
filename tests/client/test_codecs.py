"""Codecs at an institution's door: what it keeps, what its policy holds, what a retry brings."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import POLICY, build_institution, build_ledger, build_plan, build_task, workload_of

from confide.client.algorithm_state import ClientStates
from confide.client.institution import Institution
from confide.client.service.chunks import WireLimits
from confide.client.service.codec import read_reply, read_request, reply_parts, request_parts
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.strategies.codecs import (
    Bf16Config,
    CodecConfig,
    Int8Config,
    LowRankConfig,
    TopKConfig,
)
from confide.config.strategies.objectives import ClientMomentumConfig, ScaffoldConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.networks import trainable_tensors
from confide.protocol.codecs.travel import CODED, travel_of
from confide.protocol.messages import Reply, Request
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, encode, flatten, read_values, shapes_of

COLUMNS = [f"c{n}" for n in range(20)]
PLAN = build_plan(
    task=build_task(*COLUMNS, labels=[f"l{n}" for n in range(8)]),
    tuning=TuningConfig(kind="full"),
    client=ClientConfig(batch_size=8, local_steps=3, optimizer=OptimizerConfig(kind="sgd")),
    num_rounds=4,
)
PRIVATE = replace(PLAN, privacy=PrivacyConfig(unit="record", epsilon=4.0, delta=1e-3))
START: Tensors = trainable_tensors(workload_of(PLAN).model)
SHAPES = shapes_of(START)
NAMES = sorted(SHAPES)
CODECS = [Bf16Config(), Int8Config(), TopKConfig(fraction=0.1), LowRankConfig(rank=1)]
PLANS = pytest.mark.parametrize("plan", [PLAN, PRIVATE], ids=["plain", "private"])


def institution(folder: Path, plan: TrainingPlan, **safeguards: object) -> Institution:
    return build_institution(plan, states=ClientStates(folder, kept=3), **safeguards)


def train(asked: Institution, server_round: int, plan: TrainingPlan) -> Reply:
    arrays = travel_of(plan.download).encode(START, key=bytes(32))
    return asked.handle(
        "train", Request(plan=plan.to_json(), server_round=server_round, arrays=arrays)
    )


def words_of(reply: Reply) -> bytes:
    assert reply.refusal is None
    assert reply.arrays is not None
    assert list(reply.arrays) == [CODED]
    return bytes(reply.arrays[CODED].data)


def told(reply: Reply, plan: TrainingPlan) -> torch.Tensor:
    assert reply.arrays is not None
    found = travel_of(plan.upload).decode(reply.arrays, SHAPES, max_value=1e9).tensors
    return flatten(found, NAMES)


@PLANS
@pytest.mark.parametrize("codec", CODECS, ids=lambda it: it.kind)
def test_an_update_is_what_it_was_but_for_its_codec(
    codec: CodecConfig, plan: TrainingPlan, tmp_path: Path
) -> None:
    """The same steps and the same noise: what the codec leaves out is all that differs."""
    coded = replace(plan, upload=codec)
    seen = told(train(institution(tmp_path, coded, key_fn=_fixed), 1, coded), coded)
    whole = train(institution(tmp_path / "plain", plan, key_fn=_fixed), 1, plan)
    assert whole.arrays is not None
    update = flatten(
        travel_of(plan.upload).decode(whole.arrays, SHAPES, max_value=1e9).tensors, NAMES
    )
    kept = ClientStates(tmp_path, kept=3).load(plan.job, before=2)
    left = kept["codec/error"] if kept else torch.zeros(len(update))
    allowed = {"bf16": 2**-8, "int8": 1 / 127}.get(codec.kind, 1e-6)
    assert float((seen + left - update).abs().max()) <= allowed * float(update.abs().max())
    assert bool(kept) == (codec.kind in ("top_k", "low_rank"))


def _fixed(job: str, mechanism: str) -> bytes:
    return bytes(32)


@PLANS
def test_what_was_left_out_goes_with_the_next_update(plan: TrainingPlan, tmp_path: Path) -> None:
    plan = replace(plan, upload=TopKConfig(fraction=0.1))
    asked, states = institution(tmp_path, plan), ClientStates(tmp_path, kept=3)
    train(asked, 1, plan)
    before = states.load(plan.job, before=2)
    second = told(train(asked, 2, plan), plan)
    after = states.load(plan.job, before=3)
    assert before is not None
    assert after is not None
    # What was told is in no error any more, and the largest left is below the least told
    places = second.nonzero().flatten()
    assert not after["codec/error"][places].any()
    assert float(after["codec/error"].abs().max()) <= float(second[places].abs().min())
    assert before["codec/error"].any()
    # Asked again, the round starts from the same error
    assert told(train(asked, 2, plan), plan).equal(second)


@PLANS
@pytest.mark.parametrize("codec", CODECS, ids=lambda it: it.kind)
def test_a_round_asked_again_has_the_same_bytes(
    codec: CodecConfig, plan: TrainingPlan, tmp_path: Path
) -> None:
    plan = replace(plan, upload=codec)
    asked = institution(tmp_path, plan)
    first, second = (words_of(train(asked, number, plan)) for number in (1, 2))
    assert words_of(train(asked, 2, plan)) == second
    # By another process, which has the folder and the keys
    assert words_of(train(institution(tmp_path, plan), 2, plan)) == second
    assert words_of(train(institution(tmp_path, plan), 1, plan)) == first


@pytest.mark.parametrize("codec", CODECS, ids=lambda it: it.kind)
def test_a_durable_reply_is_the_words_that_were_sent(codec: CodecConfig, tmp_path: Path) -> None:
    plan = replace(PRIVATE, upload=codec)

    def opened() -> Institution:
        ledger = build_ledger(tmp_path / "ledger.db", epsilon=20.0, delta=1e-2)
        return institution(tmp_path / "states", plan, ledger=ledger, key_fn=None)

    first = words_of(train(opened(), 1, plan))
    assert words_of(train(opened(), 1, plan)) == first


@pytest.mark.parametrize("codec", CODECS, ids=lambda it: it.kind)
def test_the_trainer_service_carries_words_to_the_bit(codec: CodecConfig, tmp_path: Path) -> None:
    """Bytes that would be no number, were they read as one, too."""
    plan = replace(PLAN, upload=codec)
    reply = train(institution(tmp_path, plan), 1, plan)
    assert read_reply(reply_parts(reply), WireLimits()) == reply
    odd = torch.tensor([0x7FC00001, -1, 0x7F800001, 1], dtype=torch.int32).view(torch.float32)
    request = Request(plan=plan.to_json(), arrays=encode({CODED: odd}))
    carried = read_request(request_parts(request), WireLimits()).arrays
    assert carried is not None
    assert read_values(carried, {CODED: (4,)}).view(torch.int32).tolist() == [
        0x7FC00001,
        -1,
        0x7F800001,
        1,
    ]


def test_another_error_is_another_mechanism(tmp_path: Path) -> None:
    """Equal noise never meets two states, whatever they come from."""
    plan = replace(PRIVATE, upload=TopKConfig(fraction=0.1))
    asked = institution(tmp_path, plan)
    train(asked, 1, plan)
    train(asked, 2, plan)
    states = ClientStates(tmp_path, kept=3)
    kept = states.load(plan.job, before=2)
    assert kept is not None
    states.save(plan.job, 1, {name: value + 1.0 for name, value in kept.items()}, plan=plan.sha256)
    train(asked, 2, plan)
    assert asked.spent(plan.job).count == 3


def test_the_policy_holds_for_what_is_told(tmp_path: Path) -> None:
    """An update of some length may tell of a longer one, once errors have added up."""
    plan = replace(PLAN, upload=TopKConfig(fraction=0.1), num_rounds=40)
    norms = []
    free = institution(tmp_path / "free", plan)
    for number in range(1, 12):
        norms.append(float(told(train(free, number, plan), plan).norm()))
    limit = (norms[0] + max(norms)) / 2
    policy = replace(POLICY, max_update_norm=limit)
    held = institution(tmp_path / "held", plan, policy=policy)
    refused = [train(held, number, plan).refusal for number in range(1, 12)]
    first = next(number for number, norm in enumerate(norms) if norm > limit)
    assert refused[: first + 1] == [None] * first + ["policy_max_update_norm"]
    # What may not leave is not kept as if it had
    assert ClientStates(tmp_path / "held", kept=3).version(plan.job, before=first + 2) == first


@pytest.mark.parametrize("codec", [Bf16Config(), Int8Config()], ids=lambda it: it.kind)
def test_tensors_of_a_round_come_coded_and_those_to_score_as_they_are(
    codec: CodecConfig, tmp_path: Path
) -> None:
    plan = replace(PLAN, download=codec)
    asked = institution(tmp_path, plan)
    assert train(asked, 1, plan).refusal is None
    plainly = Request(plan=plan.to_json(), server_round=1, arrays=encode(START), splits=["test"])
    assert asked.handle("train", plainly).refusal == "tensor_names"
    assert asked.handle("evaluate", plainly).refusal is None


def test_a_model_too_large_for_the_policy_is_refused_once_it_is_read(tmp_path: Path) -> None:
    plan = replace(PLAN, download=Int8Config())
    asked = institution(tmp_path, plan, policy=replace(POLICY, max_value=10.0))
    large = {name: torch.full_like(value, 11.0) for name, value in START.items()}
    arrays = travel_of(plan.download).encode(large, key=bytes(32))
    reply = asked.handle("train", Request(plan=plan.to_json(), server_round=1, arrays=arrays))
    assert (reply.refusal, dict(reply.figures)["allowed"]) == ("policy_max_value", 10.0)


@pytest.mark.parametrize("codec", CODECS, ids=lambda it: it.kind)
def test_an_update_that_is_not_finite_is_refused_as_ever(
    codec: CodecConfig, tmp_path: Path
) -> None:
    plan = replace(PLAN, upload=codec)
    asked = institution(tmp_path, plan, policy=replace(POLICY, max_value=3.4e38))
    arrays = encode({name: torch.full_like(value, 3e38) for name, value in START.items()})
    request = Request(plan=plan.to_json(), server_round=1, arrays=arrays)
    assert asked.handle("train", request).refusal == "policy_update_finite"
    assert ClientStates(tmp_path, kept=3).version(plan.job, before=9) is None


def test_without_a_folder_an_error_cannot_be_kept() -> None:
    plan = replace(PLAN, upload=LowRankConfig())
    assert train(build_institution(plan), 1, plan).refusal == "no_state"


def test_an_algorithm_keeps_its_own_beside_the_error(tmp_path: Path) -> None:
    plan = replace(PLAN, objective=ClientMomentumConfig(), upload=TopKConfig(fraction=0.1))
    train(institution(tmp_path, plan), 1, plan)
    kept = ClientStates(tmp_path, kept=3).load(plan.job, before=2)
    assert kept is not None
    assert kept.keys() == {*SHAPES, "codec/error"}


# Plans


@pytest.mark.parametrize("codec", CODECS, ids=lambda it: it.kind)
def test_a_plan_says_its_codecs_and_a_plan_without_says_nothing(codec: CodecConfig) -> None:
    plan = replace(PLAN, upload=codec, download=Bf16Config())
    assert TrainingPlan.from_json(plan.to_json()) == plan
    assert "load" not in PLAN.to_json()
    assert TrainingPlan.from_json(PLAN.to_json()).upload == CodecConfig()


@pytest.mark.parametrize(
    "fields",
    [
        {"download": TopKConfig()},
        {"objective": ScaffoldConfig(), "upload": Int8Config()},
        {"upload": TopKConfig(fraction=0.5)},
        {"upload": LowRankConfig(rank=0)},
    ],
    ids=["sparse model", "scaffold", "half", "no rank"],
)
def test_a_plan_that_cannot_work_is_refused(fields: dict[str, object], tmp_path: Path) -> None:
    plan = replace(PLAN, **fields)  # type: ignore[arg-type]
    asked = institution(tmp_path, PLAN)
    request = Request(plan=plan.to_json(), server_round=1, arrays=encode(START))
    assert asked.handle("train", request).refusal == "plan_invalid"
