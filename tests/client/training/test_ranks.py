"""Adapters of mixed ranks: what an institution trains, sends and is told."""

from pathlib import Path

import pytest
import torch
from builders import build_plan, build_records, build_tuning
from small_models import TEXT, make_backbone
from torch import Tensor

from confide.client.assembly import make_trainer
from confide.client.schedule import LocalSchedule
from confide.client.training.local_round import RoundInputs, local_round
from confide.client.training.ranks import masks_of
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tunings.lora import LoraConfig
from confide.config.tunings.named import check_named
from confide.errors import ConfigError
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.workload import build_workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
NONE, PRIVATE = PrivacyConfig(unit="none"), PrivacyConfig(unit="record", epsilon=8.0)
RANK = 3


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> TransformerConfig:
    return make_backbone(tmp_path_factory.mktemp("backbone"), "bert")


def plan_of(
    backbone: TransformerConfig,
    kind: str,
    privacy: PrivacyConfig,
    optimizer: OptimizerConfig,
    ranks: dict[str, int],
) -> TrainingPlan:
    tuning = build_tuning(kind, rank=RANK, ranks=ranks).seeded(1)
    client = ClientConfig(local_steps=2, sampling_rate=0.5, optimizer=optimizer)
    return build_plan(
        task=TEXT, backbone=backbone, tuning=tuning, privacy=privacy, client=client, num_rounds=3
    )


def update_of(plan: TrainingPlan, institution: str) -> Tensors:
    workload = build_workload(plan.task, plan.backbone, plan.tuning, compute=Compute(), seed=0)
    generator = torch.Generator().manual_seed(1)
    start = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in trainable_tensors(workload.model).items()
    }
    result = local_round(
        make_trainer(workload, plan),
        RoundInputs(params=start, institution=institution),
        build_records(workload),
        LocalWork(
            plan=plan,
            schedule=LocalSchedule(
                num_examples=40,
                batch_size=20,
                steps=2,
                sampling_rate=0.5,
                max_rounds=3,
                noise_multiplier=1.0 if plan.private else 0.0,
            ),
            secret=bytes(32),
        ),
    )
    return result.update


def beyond(name: str, tensor: Tensor, rank: int) -> Tensor:
    """Return what of an adapter's half lies beyond a rank."""
    return tensor[rank:] if "lora_A" in name else tensor[:, rank:]


SGD = OptimizerConfig(kind="sgd", learning_rate=0.5)
ADAM = OptimizerConfig(kind="adam", learning_rate=0.01, weight_decay=0.1)


@pytest.mark.parametrize(
    ("kind", "privacy", "optimizer"),
    [
        ("lora", NONE, ADAM),
        ("lora", PRIVATE, SGD),
        ("lora_ffa", PRIVATE, ADAM),
        ("lora_alternating", PRIVATE, SGD),
        ("lora_exact", PRIVATE, SGD),
    ],
)
def test_nothing_beyond_its_rank_moves(
    backbone: TransformerConfig, kind: str, privacy: PrivacyConfig, optimizer: OptimizerConfig
) -> None:
    plan = plan_of(backbone, kind, privacy, optimizer, {"small": 2})
    adapters = {n: it for n, it in update_of(plan, "small").items() if "lora" in n}
    assert all(not beyond(name, it, 2).any() for name, it in adapters.items())
    halves = {name: it for name, it in adapters.items() if "lora_B" in name}
    assert all(it[:, 1].any() for it in halves.values())
    others = {n: it for n, it in update_of(plan, "large").items() if "lora_B" in n}
    assert all(beyond(name, it, 2).any() for name, it in others.items())


def test_full_rank_is_plain_training(backbone: TransformerConfig) -> None:
    with_ranks, without = (
        update_of(plan_of(backbone, "lora", PRIVATE, SGD, ranks), "one")
        for ranks in ({"one": RANK, "two": 1}, {})
    )
    assert all(torch.equal(with_ranks[name], without[name]) for name in without)


def test_first_rows_and_columns_are_trained_by_hand() -> None:
    shapes = {"q.lora_A.w": (2, 3), "q.lora_B.w": (3, 2), "head": (2,)}
    masks = masks_of(LoraConfig(rank=2, ranks={"one": 1}), "one", shapes)
    assert masks.keys() == {"q.lora_A.w", "q.lora_B.w"}
    assert masks["q.lora_A.w"].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert masks["q.lora_B.w"].tolist() == [[1, 0], [1, 0], [1, 0]]


@pytest.mark.parametrize("rank", [0, RANK + 1])
def test_rank_out_of_range_is_refused(rank: int) -> None:
    with pytest.raises(ConfigError, match=rf"tuning\.ranks\.bank_1={rank}: expected 1 to"):
        compose(
            ["experiment=tweets", "tuning=lora", "tuning.rank=3", f"tuning.ranks.bank_1={rank}"]
        )


def test_algorithms_that_keep_something_of_all_tensors_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tuning=lora without tuning\.ranks"):
        compose(["experiment=tweets", "tuning=lora", "tuning.ranks.a=2", "strategy=scaffold"])


def test_institution_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"tuning\.ranks names bank_9; the institutions are b"):
        check_named(LoraConfig(ranks={"bank_9": 2}), ("bank_1", "bank_2"))


def test_plans_without_ranks_do_not_mention_them(backbone: TransformerConfig) -> None:
    for kind in ("lora", "lora_ffa", "lora_alternating", "lora_after_head"):
        assert '"ranks"' not in plan_of(backbone, kind, NONE, SGD, {}).to_json()
    plan = plan_of(backbone, "lora", NONE, SGD, {"small": 2})
    assert TrainingPlan.from_json(plan.to_json()).tuning == plan.tuning


def test_ranks_are_written_on_the_command_line(tmp_path: Path) -> None:
    config = compose(["experiment=tweets", "tuning=lora", "tuning.ranks={bank_1: 2, bank_2: 4}"])
    assert isinstance(config.tuning, LoraConfig)
    assert [config.tuning.rank_of(f"bank_{k}") for k in (1, 2, 3)] == [2, 4, 8]
