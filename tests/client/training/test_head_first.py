"""The head alone in the first rounds, then adapters with it: what moves, by hand and by name."""

from dataclasses import replace

import pytest
import torch
from builders import build_plan, build_tuning
from datasets import Dataset
from small_models import TEXT, make_backbone
from torch.nn import functional

from confide.client.assembly import make_trainer
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import LocalSchedule, make_schedule
from confide.client.training.alternating import trainer_of_round
from confide.client.training.local_round import RoundInputs, local_round
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.composing.compose import compose
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import PrivacyConfig
from confide.errors import ConfigError
from confide.models.compute import Compute
from confide.models.networks import inputs_of_last, trainable_tensors
from confide.models.workload import build_workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
NONE, PRIVATE = PrivacyConfig(unit="none"), PrivacyConfig(unit="record", epsilon=8.0)
BOTH = pytest.mark.parametrize("privacy", [NONE, PRIVATE], ids=["none", "record"])
HEAD, RATE, COUNT = {"head.weight", "head.bias"}, 0.5, 40
WORDS = ("late", "again", "what", "a", "very", "good", "crew")
RECORDS = Dataset.from_dict(
    {
        "text": [" ".join(WORDS[i % 3 : 1 + i % 7 + i % 3]) for i in range(COUNT)],
        "label": [TEXT.labels[i % 3] for i in range(COUNT)],
    }
)
SCHEDULE = LocalSchedule(
    num_examples=COUNT,
    batch_size=20,
    steps=2,
    sampling_rate=0.5,
    max_rounds=4,
    noise_multiplier=0.0,
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> TransformerConfig:
    return make_backbone(tmp_path_factory.mktemp("backbone"), "bert")


def plan_of(
    backbone: TransformerConfig,
    privacy: PrivacyConfig,
    kind: str = "lora_after_head",
    first: int = 2,
) -> TrainingPlan:
    client = ClientConfig(
        local_steps=2,
        sampling_rate=0.5,
        optimizer=OptimizerConfig(kind="sgd", learning_rate=RATE),
    )
    return build_plan(
        task=TEXT,
        backbone=backbone,
        tuning=build_tuning(kind, rank=2, head_rounds=first),
        privacy=privacy,
        client=client,
        num_rounds=4,
    )


def update_of(
    plan: TrainingPlan, server_round: int, schedule: LocalSchedule = SCHEDULE, *, b_at: float = 0.1
) -> tuple[Trainer, Tensors, Tensors]:
    """Return the trainer, what a round starts from and its update."""
    workload = build_workload(plan.task, plan.backbone, plan.tuning, compute=Compute(), seed=0)
    generator = torch.Generator().manual_seed(1)
    start = {
        name: it + b_at * torch.randn(it.shape, generator=generator) if "lora_B" in name else it
        for name, it in trainable_tensors(workload.model).items()
    }
    trainer, records = make_trainer(workload, plan), workload.prepare(RECORDS)
    result = local_round(
        trainer,
        RoundInputs(params=start, server_round=server_round),
        InstitutionData(train=records, validation=records, test=records),
        LocalWork(
            plan=plan,
            schedule=replace(schedule, noise_multiplier=1.0 if plan.private else 0.0),
            secret=bytes(32),
        ),
    )
    return trainer, start, result.update


@BOTH
def test_the_head_alone_moves_first_and_adapters_from_then_on(
    backbone: TransformerConfig, privacy: PrivacyConfig
) -> None:
    plan = plan_of(backbone, privacy)
    for server_round in (1, 2, 3, 4):
        _, start, update = update_of(plan, server_round)
        assert update.keys() == start.keys()
        moved = {name for name, it in update.items() if it.any()}
        assert moved == (HEAD if server_round <= 2 else set(start))


def test_a_step_of_the_head_is_the_gradient_of_a_linear_model(backbone: TransformerConfig) -> None:
    """W moves by -rate times the mean of (p - y) h^T, b by that of p - y."""
    once = replace(SCHEDULE, batch_size=COUNT, steps=1, sampling_rate=1.0)
    trainer, start, update = update_of(plan_of(backbone, NONE), 1, once)
    workload = trainer.workload
    batch = workload.prepare(RECORDS).take(torch.arange(COUNT))
    workload.model.load_state_dict(start, strict=False)
    workload.model.eval()
    with torch.no_grad():
        features = inputs_of_last(workload.model, lambda: workload.outputs(workload.model, batch))
        logits = features @ start["head.weight"].T + start["head.bias"]
        labels = functional.one_hot(batch["labels"], len(TEXT.labels))
        wrong = (logits.softmax(1) - labels) / COUNT
    assert torch.allclose(update["head.weight"], -RATE * wrong.T @ features, atol=1e-6)
    assert torch.allclose(update["head.bias"], -RATE * wrong.sum(0), atol=1e-6)


def test_first_rounds_are_clipped_and_noised_as_a_head_by_itself(
    backbone: TransformerConfig,
) -> None:
    """Bit for bit: adapters have no part in a record's norm, and none in the noise."""
    plan = plan_of(backbone, PRIVATE)
    trainer, start, update = update_of(plan, 1)
    workload = trainer.workload
    workload.model.load_state_dict(start, strict=False)
    for name, parameter in workload.model.named_parameters():
        parameter.requires_grad_(name in HEAD)
    alone = Trainer(workload, private=True).train(
        {name: start[name] for name in HEAD},
        workload.prepare(RECORDS),
        LocalWork(plan=plan, schedule=replace(SCHEDULE, noise_multiplier=1.0), secret=bytes(32)),
    )
    assert alone.keys() == HEAD
    assert all(torch.equal(update[name], alone[name]) for name in HEAD)


@BOTH
def test_no_first_rounds_are_plain_adapters_bit_for_bit(
    backbone: TransformerConfig, privacy: PrivacyConfig
) -> None:
    _, start, update = update_of(plan_of(backbone, privacy, first=0), 1)
    _, plain_start, plain = update_of(plan_of(backbone, privacy, kind="lora"), 1)
    assert all(torch.equal(start[name], plain_start[name]) for name in plain_start)
    assert all(torch.equal(update[name], plain[name]) for name in plain)


def test_first_rounds_are_those_of_a_head_on_cached_features(backbone: TransformerConfig) -> None:
    """Adapters start as nothing, so that a round gives what tuning=head gives."""
    _, start, update = update_of(plan_of(backbone, NONE), 1, b_at=0.0)
    _, head_start, head = update_of(plan_of(backbone, NONE, kind="head"), 1)
    assert head.keys() == HEAD
    assert all(torch.equal(start[name], head_start[name]) for name in HEAD)
    assert all(torch.allclose(update[name], head[name], atol=1e-6) for name in HEAD)


@pytest.mark.parametrize("server_round", [1, 3])
def test_each_turn_passes_the_checks_with_its_own_tensors(
    backbone: TransformerConfig, server_round: int
) -> None:
    trainer, start, _ = update_of(plan_of(backbone, PRIVATE), server_round)
    private = trainer_of_round(trainer, server_round)._private
    assert private is not None
    assert set(private.dp_sgd.names) == (HEAD if server_round == 1 else set(start))


def test_noise_and_epsilon_are_those_of_plain_adapters(backbone: TransformerConfig) -> None:
    schedules = [
        make_schedule(plan_of(backbone, PRIVATE, kind=kind), num_examples=COUNT)
        for kind in ("lora", "lora_after_head")
    ]
    assert schedules[0] == schedules[1]
    spent = [it.epsilon_after(4, delta=1e-5, accountant="prv") for it in schedules]
    assert 0 < spent[0] == spent[1]


def test_a_plan_says_how_long(
    backbone: TransformerConfig,
) -> None:
    plan = plan_of(backbone, PRIVATE)
    assert '"head_rounds":2' in plan.to_json()
    assert TrainingPlan.from_json(plan.to_json()) == plan


GAUSSIAN = (
    "strategy/selection=poisson strategy.selection.probability=0.5 strategy/mechanism=gaussian"
    " strategy.mechanism.noise_multiplier=1"
    " strategy.aggregator.weighting=uniform"
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "tuning.head_rounds=6 server.num_rounds=6",
            r"server\.num_rounds=6: in all of them tuning",
        ),
        ("tuning.head_rounds=-1", r"tuning\.head_rounds=-1: expected >= 0"),
        ("strategy=scaffold", r"objective\.kind=scaffold keeps something of each round"),
        ("strategy=fedrep", r"objective\.kind=fedrep keeps something of each round"),
        (GAUSSIAN, r"tuning\.kind=lora_after_head holds tensors still .*kind=gaussian goes into"),
        ("experiment=digits", r"tuning\.kind=lora_after_head needs a pretrained backbone"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(words: str, said: str) -> None:
    given = ["experiment=tweets", "tuning=lora_after_head", *words.split()]
    with pytest.raises(ConfigError, match=said):
        compose(given[1:] if "experiment" in words else given)


@pytest.mark.parametrize("codec", ["int8", "top_k", "low_rank"])
def test_codecs_go_with_it_since_nothing_that_moved_is_held_still_again(codec: str) -> None:
    words = ["experiment=tweets", "tuning=lora_after_head", f"strategy/upload={codec}"]
    assert compose([*words, "strategy=fedavg"]).strategy.upload.kind == codec
