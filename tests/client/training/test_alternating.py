"""Adapters whose halves are trained in turns: one half a round, alone clipped, noised and moved."""

from pathlib import Path

import pytest
import torch
from builders import build_plan, build_records, build_tuning
from small_language_models import TASK, make_language_model
from small_models import TEXT, make_backbone
from torch import Tensor

from confide.client.assembly import make_trainer
from confide.client.schedule import LocalSchedule
from confide.client.training.alternating import AlternatingTrainer, trainer_of_round
from confide.client.training.local_round import RoundInputs, local_round
from confide.client.training.private import preflight
from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.row_check import RowCheck
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.language_model import LanguageModelConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import PrivacyConfig
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.workload import Workload, build_workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.tasks.task import Examples

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

PRIVATE = PrivacyConfig(unit="record", epsilon=8.0)
HALVES = {1: "lora_B", 2: "lora_A", 3: "lora_B"}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> TransformerConfig:
    return make_backbone(tmp_path_factory.mktemp("backbone"), "bert")


def plan_of(
    backbone: TransformerConfig | LanguageModelConfig, privacy: PrivacyConfig
) -> TrainingPlan:
    client = ClientConfig(
        local_steps=2,
        sampling_rate=0.5,
        optimizer=OptimizerConfig(kind="sgd", learning_rate=0.5),
    )
    return build_plan(
        task=TEXT if isinstance(backbone, TransformerConfig) else TASK,
        backbone=backbone,
        tuning=build_tuning("lora_alternating", rank=2),
        privacy=privacy,
        client=client,
        num_rounds=3,
    )


def make(plan: TrainingPlan, *, seed: int = 0) -> tuple[Workload, Trainer, Tensors]:
    workload = build_workload(plan.task, plan.backbone, plan.tuning, compute=Compute(), seed=seed)
    start = trainable_tensors(workload.model)
    # As after rounds that moved both halves: at zero, B hides what A does
    generator = torch.Generator().manual_seed(1)
    moved = {n: t + 0.1 * torch.randn(t.shape, generator=generator) for n, t in start.items()}
    return workload, make_trainer(workload, plan), moved


def schedule_of(plan: TrainingPlan, *, noise: float) -> LocalSchedule:
    return LocalSchedule(
        num_examples=40,
        batch_size=20,
        steps=2,
        sampling_rate=0.5,
        max_rounds=plan.num_rounds,
        noise_multiplier=noise,
    )


def update_of(plan: TrainingPlan, server_round: int, *, noise: float = 0.0) -> Tensors:
    workload, trainer, start = make(plan)
    inputs = RoundInputs(params=start, server_round=server_round)
    result = local_round(
        trainer,
        inputs,
        build_records(workload),
        LocalWork(plan=plan, schedule=schedule_of(plan, noise=noise), secret=bytes(32)),
    )
    return result.update


def moved(update: Tensors) -> set[str]:
    return {name for name, tensor in update.items() if tensor.abs().max() > 0}


@pytest.mark.parametrize("privacy", [PrivacyConfig(unit="none"), PRIVATE], ids=["none", "record"])
@pytest.mark.parametrize("server_round", [1, 2])
def test_round_moves_the_head_and_one_half(
    backbone: TransformerConfig, privacy: PrivacyConfig, server_round: int
) -> None:
    plan = plan_of(backbone, privacy)
    update = update_of(plan, server_round, noise=1.0 if plan.private else 0.0)
    names = {name for name in update if HALVES[server_round] in name}
    assert len(names) == 4  # queries and values of two layers
    assert moved(update) == names | {"head.weight", "head.bias"}


@pytest.mark.parametrize("family", ["bert", "language model"])
def test_turn_is_what_training_with_the_other_half_frozen_gives(
    family: str, backbone: TransformerConfig, tmp_path: Path
) -> None:
    """Clipped by the norm of its own half: with all tensors together steps would be shorter."""
    # A language model's hooks hand on what its frozen layers computed: a turn has its own
    answering = make_language_model(tmp_path)
    plan = plan_of(backbone if family == "bert" else answering, PRIVATE)
    workload, trainer, start = make(plan)
    records = build_records(workload)
    schedule = schedule_of(plan, noise=0.0)
    turn = trainer_of_round(trainer, 1)
    work = LocalWork(plan=plan, schedule=schedule, secret=bytes(32))
    found = turn.train(start, records.train, work)
    workload.model.load_state_dict(start, strict=False)
    for name, parameter in workload.model.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad_(False)
    alone = Trainer(workload, private=True)
    half = {name: start[name] for name in alone.shapes}
    expected = alone.train(half, records.train, work)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("group_size", "book_keeping"), [(None, True), (2, False)])
def test_each_turn_passes_the_preflight_in_both_engines(
    backbone: TransformerConfig, group_size: int | None, book_keeping: bool
) -> None:
    plan = plan_of(backbone, PRIVATE)
    workload, _, _ = make(plan)
    # Raises where a clipped sum differs from a loop over single records
    trainer = AlternatingTrainer(
        workload,
        tuning=plan.tuning,
        turns=(".lora_A.", ".lora_B."),
        private=True,
        group_size=group_size,
    )
    for server_round in HALVES:
        gradients = trainer.turn(server_round)._private
        assert gradients is not None
        engine = gradients.dp_sgd
        assert engine.book_keeping == book_keeping
        assert {HALVES[server_round] in name for name in engine.names if "lora" in name} == {True}
    assert trainer._private is None


def test_turns_share_what_is_frozen(backbone: TransformerConfig) -> None:
    plan = plan_of(backbone, PRIVATE)
    workload, trainer, _ = make(plan)
    own = {name: p.data_ptr() for name, p in workload.model.named_parameters()}
    for server_round in (1, 2):
        turn = trainer_of_round(trainer, server_round)
        for name, parameter in turn.workload.model.named_parameters():
            is_shared = parameter.data_ptr() == own[name]
            assert is_shared != (name.startswith("head.") or "lora" in name)


def test_mean_of_a_round_is_the_mean_of_the_adapters(backbone: TransformerConfig) -> None:
    """Two institutions begin a round with the same A: what they add to B A is linear in B."""
    plan = plan_of(backbone, PRIVATE)
    updates = [update_of(plan, 1, noise=noise) for noise in (0.5, 2.0)]
    _, _, start = make(plan)
    name = next(name for name in start if "lora_A" in name)
    half, other = start[name], name.replace("lora_A", "lora_B")
    products = [(start[other] + one[other]) @ half for one in updates]
    mean = start[other] + (updates[0][other] + updates[1][other]) / 2
    assert torch.allclose(mean @ half, (products[0] + products[1]) / 2, atol=1e-6)
    assert all(not one[name].any() for one in updates)


def test_the_preflight_sees_gradients_of_each_half(
    backbone: TransformerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tolerance is a thousandth of all: a half whose part is less would pass whatever it is."""
    shares: list[float] = []
    loop = preflight._gradients_by_loop

    def spy(dp_sgd: DpSgd, examples: Examples) -> Tensor:
        rows = loop(dp_sgd, examples)
        total = rows.sum(dim=0)
        parts = zip(dp_sgd.names, total.split([p.numel() for p in dp_sgd.params]), strict=True)
        own = torch.cat([part for name, part in parts if "lora" in name])
        shares.append(float(own.norm() / total.norm()))
        return rows

    monkeypatch.setattr(preflight, "_gradients_by_loop", spy)
    make(plan_of(backbone, PRIVATE))
    assert len(shares) >= 2
    assert min(shares) > 3e-3


def test_rows_are_checked_anew_where_the_other_half_differs(
    backbone: TransformerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(backbone, PRIVATE)
    _, trainer, start = make(plan)
    turn, schedule = trainer_of_round(trainer, 1), schedule_of(plan, noise=1.0)
    checked: list[int] = []
    monkeypatch.setattr(RowCheck, "check", lambda *_, **__: checked.append(1))
    turn.check_rows(start, schedule)
    turn.check_rows(start, schedule)
    assert len(checked) == 1
    # In round 1 halves A stay as they come, and decide what a record adds all the same
    other = {name: 2 * it if "lora_A" in name else it for name, it in start.items()}
    turn.check_rows(other, schedule)
    assert len(checked) == 2
