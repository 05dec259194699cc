"""Records without a label: what they are trained on as, and what one of them can change."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import (
    POLICY,
    build_institution,
    build_plan,
    build_request,
    build_task,
    build_tuning,
    workload_of,
)
from pictures_made import build_pictures
from small_models import TEXT, make_backbone
from torch import Tensor

from confide.client.assembly import make_trainer
from confide.client.records.encoded import InstitutionData
from confide.client.schedule import LocalSchedule
from confide.client.training.local_round import RoundInputs, local_round
from confide.client.training.private.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
from confide.client.training.self_training import pseudo_labelled
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.cnn import CnnConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.outcomes.ordinal import OrdinalConfig
from confide.config.privacy import PrivacyConfig
from confide.models.networks import trainable_tensors
from confide.privacy.randomness import KeyedGenerator
from confide.protocol.messages import Reply
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors, decode
from confide.tasks.outcomes.outcome import UNLABELLED
from confide.tasks.task import Examples

KEY, COUNT, STEPS = bytes(32), 24, 2
LACKING = torch.arange(COUNT) % 3 != 0
GROUPS = torch.arange(COUNT) // 2
SGD = ClientConfig(
    optimizer=OptimizerConfig(kind="sgd", learning_rate=1.0), sampling_rate=1.0, local_steps=1
)
SCHEDULE = LocalSchedule(
    num_examples=COUNT,
    batch_size=COUNT,
    steps=STEPS,
    sampling_rate=1.0,
    noise_multiplier=0.0,
    max_rounds=1,
)


def plan_of(kind: str, folder: Path, unit: str = "record", clip: float = 0.5) -> TrainingPlan:
    common = {
        "client": SGD,
        "privacy": PrivacyConfig(unit=unit, clipping_norm=clip, max_records_per_group=2),
    }
    if kind == "text":
        task = replace(TEXT, self_training=0.6)
        return build_plan(
            task=task, backbone=make_backbone(folder), tuning=build_tuning("lora", rank=2), **common
        )
    if kind in ("picture", "views"):
        task = build_pictures(self_training=0.6, **({"views": 3} if kind == "views" else {}))
        return build_plan(task=task, backbone=CnnConfig(widths=[4]), **common)
    outcome = OrdinalConfig(labels=["low", "middle", "high"])
    fields = {"outcome": outcome, "labels": []} if kind == "ordinal" else {}
    task = build_task("a", "b", "c", self_training=0.6, **fields)
    return build_plan(task=task, backbone=MlpConfig(hidden=[6]), **common)


@functools.cache
def initial_of(trainer: Trainer) -> Tensors:
    """Tensors that a trainer began with, whatever other tests have loaded since."""
    return {name: it.clone() for name, it in trainable_tensors(trainer.workload.model).items()}


def start_of(trainer: Trainer, scale: float = 0.5) -> Tensors:
    """Tensors of a model that thinks otherwise of each record."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: tensor + scale * torch.randn(tensor.shape, generator=generator)
        for name, tensor in initial_of(trainer).items()
    }


def invented(trainer: Trainer, count: int = COUNT) -> Examples:
    return trainer.workload.synthetic(count, torch.Generator().manual_seed(5))


def holding(
    examples: Examples, confidence: float | None, groups: Tensor | None = None
) -> InstitutionData:
    scored = examples.select(torch.nonzero(examples.labels != UNLABELLED).flatten())
    return InstitutionData(
        train=examples, validation=scored, test=scored, groups=groups, confidence=confidence
    )


def lacking(examples: Examples, where: Tensor = LACKING) -> Examples:
    return examples.with_labels(torch.where(where, UNLABELLED, examples.labels))


def alone(trainer: Trainer, start: Tensors, examples: Examples) -> Tensor:
    """What the model makes of each record by itself: scores, [n, c]."""
    trainer._load(start)
    trainer.workload.model.eval()
    with torch.no_grad():
        return torch.cat(
            [
                trainer.workload.task.scores(
                    trainer.workload.outputs(
                        trainer.workload.model, examples.take(torch.tensor([index]))
                    )
                )
                for index in range(len(examples))
            ]
        )


def wanted(trainer: Trainer, start: Tensors, examples: Examples) -> tuple[Examples, float]:
    """Label by hand half of the records that lack a label, and say how sure a model then is."""
    likeliest = alone(trainer, start, examples).max(dim=1)
    confidence = float(likeliest.values[LACKING].median())
    sure = LACKING & (likeliest.values > confidence + 1e-6)
    assert 0 < int(sure.sum()) < int(LACKING.sum())
    labels = torch.where(LACKING, UNLABELLED, examples.labels)
    return examples.with_labels(torch.where(sure, likeliest.indices, labels)), confidence + 1e-6


def trained(trainer: Trainer, plan: TrainingPlan, data: InstitutionData, start: Tensors) -> Tensor:
    inputs = RoundInputs(params={name: tensor.clone() for name, tensor in start.items()})
    result = local_round(trainer, inputs, data, LocalWork(plan=plan, schedule=SCHEDULE, secret=KEY))
    return torch.cat([result.update[name].flatten() for name in start])


@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        *(("table", unit) for unit in ("none", "record", "group")),
        ("ordinal", "record"),
        ("text", "record"),
        ("picture", "none"),
        ("views", "record"),
        pytest.param("text", "group", marks=pytest.mark.slow),
        pytest.param("views", "group", marks=pytest.mark.slow),
    ],
)
def test_a_round_is_that_on_records_labelled_by_the_model_that_came(
    kind: str, unit: str, tmp_path: Path
) -> None:
    plan = plan_of(kind, tmp_path, unit)
    trainer = make_trainer(workload_of(plan), plan)
    start, examples = start_of(trainer), invented(trainer)
    by_hand, confidence = wanted(trainer, start, examples)
    groups = GROUPS if unit == "group" else None
    data = holding(lacking(examples), confidence, groups)
    assert pseudo_labelled(trainer, start, data).labels.equal(by_hand.labels)
    found = trained(trainer, plan, data, start)
    assert found.equal(trained(trainer, plan, holding(by_hand, None, groups), start))
    assert not found.equal(trained(trainer, plan, holding(lacking(examples), None, groups), start))


def test_labels_are_fixed_for_a_round_and_follow_from_its_tensors(tmp_path: Path) -> None:
    plan = plan_of("table", tmp_path)
    trainer = make_trainer(workload_of(plan), plan)
    examples = lacking(invented(trainer))
    start, other = start_of(trainer), start_of(trainer, scale=3.0)
    seen: list[Tensors] = []
    scores = Trainer.scores
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            Trainer, "scores", lambda self, *at: seen.append(at[0]) or scores(self, *at)
        )
        trained(trainer, plan, holding(examples, 0.6), start)
    assert len(seen) == 1
    assert seen[0].keys() == start.keys()
    assert all(seen[0][name].equal(start[name]) for name in start)
    one, two = (pseudo_labelled(trainer, t, holding(examples, 0.6)).labels for t in (start, other))
    assert not one.equal(two)


@pytest.mark.parametrize("kind", ["table", "picture", pytest.param("text", marks=pytest.mark.slow)])
def test_a_label_depends_on_its_record_alone(kind: str, tmp_path: Path) -> None:
    plan = plan_of(kind, tmp_path)
    trainer = make_trainer(workload_of(plan), plan)
    start, examples = start_of(trainer), invented(trainer)
    everywhere = torch.ones(COUNT, dtype=torch.bool)
    for confidence in (0.0, float(alone(trainer, start, examples).max(dim=1).values.median())):
        whole = pseudo_labelled(trainer, start, holding(lacking(examples, everywhere), confidence))
        for kept in (torch.tensor([3]), torch.arange(COUNT - 1), torch.arange(0, COUNT, 2)):
            part = lacking(examples, everywhere).select(kept)
            found = pseudo_labelled(trainer, start, holding(part, confidence)).labels
            assert found.equal(whole.labels[kept])
        # Nor on how many have a label, or which
        few = pseudo_labelled(trainer, start, holding(lacking(examples), confidence)).labels
        assert few[LACKING].equal(whole.labels[LACKING])
        assert few[~LACKING].equal(examples.labels[~LACKING])


@pytest.mark.parametrize("unit", ["record", "group"])
@pytest.mark.parametrize(
    ("kind", "book_keeping"),
    [
        ("table", True),
        ("table", False),
        pytest.param("text", True, marks=pytest.mark.slow),
        pytest.param("text", False, marks=pytest.mark.slow),
        ("picture", False),  # convolutions are Opacus's
    ],
)
def test_a_record_that_no_class_is_sure_of_adds_zero_and_keeps_its_place(
    kind: str, book_keeping: bool, unit: str, tmp_path: Path
) -> None:
    workload = workload_of(plan_of(kind, tmp_path))
    workload.model.train()
    dp_sgd = DpSgd(
        workload.model,
        workload.losses,
        physical_batch_size=16,
        book_keeping=book_keeping,
        group_size=2 if unit == "group" else None,
    )
    examples = lacking(workload.synthetic(COUNT, torch.Generator().manual_seed(5)))
    units: Sequence[Tensor] = torch.arange(COUNT).split(2 if unit == "group" else 1)
    with dp_sgd.plain() as losses_fn, expect_hook_warning():
        single = torch.stack(
            [mean_gradient(losses_fn, dp_sgd.params, examples, unit) for unit in units]
        )
    clip = float(single.norm(dim=1).median()) + 0.01
    scaled = single * (clip / single.norm(dim=1, keepdim=True).clamp_min(1e-9)).clamp_max(1.0)
    step = DpSgdStep(
        clipping_norm=clip, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=COUNT
    )
    optimizer = dp_sgd.optimizer(torch.optim.SGD(dp_sgd.params, lr=1.0), step, KeyedGenerator(KEY))
    with expect_hook_warning():
        if unit == "group":
            dp_sgd.private_group_gradient(optimizer, examples, units)
        else:
            dp_sgd.private_gradient(optimizer, examples, torch.arange(COUNT))
    found = torch.cat([p.grad.flatten() for p in dp_sgd.params if p.grad is not None])
    expected = scaled.sum(dim=0) / COUNT
    assert float(expected.norm()) > 0
    assert float((found - expected).norm() / expected.norm()) < 1e-3


def mean_gradient(
    losses_fn: Callable[[dict[str, Tensor]], Tensor],
    params: Sequence[torch.nn.Parameter],
    examples: Examples,
    unit: Tensor,
) -> Tensor:
    """A unit's gradient, by its labelled records alone, over all of its records."""
    total = torch.zeros(sum(p.numel() for p in params))
    for index in unit.tolist():
        if int(examples.labels[index]) != UNLABELLED:
            loss = losses_fn(examples.take(torch.tensor([index]))).sum()
            parts = torch.autograd.grad(loss, list(params), allow_unused=True)
            total += torch.cat(
                [
                    torch.zeros_like(p).flatten() if g is None else g.flatten()
                    for p, g in zip(params, parts, strict=True)
                ]
            )
    return total / len(unit)


# --- a hostile coordinator

MANY, CLIP = 258, 0.5
PLAN = build_plan(
    job="hostile",
    task=build_task("a", "b", "c", self_training=0.9),
    backbone=MlpConfig(hidden=[6]),
    client=SGD,
    privacy=PrivacyConfig(unit="record", epsilon=1.0, delta=1e-5, clipping_norm=CLIP),
)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(workload_of(PLAN), private=True)


def sure_of(trainer: Trainer, label: int, bias: float = 1e4) -> Tensors:
    """Tensors of a model that is sure of one class, whatever the record."""
    start = start_of(trainer)
    start["layers.2.bias"] = torch.full_like(start["layers.2.bias"], -bias)
    start["layers.2.bias"][label] = bias
    return start


def torn(trainer: Trainer, confidence: float) -> Tensors:
    """Tensors of a model for which every record lies at the threshold, but for the last bits."""
    start = start_of(trainer, scale=0.0)
    start["layers.2.weight"] = start["layers.2.weight"] * 1e-7
    gap = float(torch.tensor(confidence / (1 - confidence)).log())
    start["layers.2.bias"] = torch.tensor([0.0, gap])
    return start


HOSTILE: dict[str, Callable[[Trainer], Tensors]] = {
    "sure of one class": lambda trainer: sure_of(trainer, 1),
    "sure of some": lambda trainer: start_of(trainer, scale=3.0),
    "sure of anything": lambda trainer: start_of(trainer, scale=300.0),
    "at the threshold": lambda trainer: torn(trainer, 0.9),
    "no number": lambda trainer: sure_of(trainer, 0, bias=1e30),
}


def ask(
    trainer: Trainer, start: Tensors, examples: Examples, plan: TrainingPlan = PLAN
) -> tuple[Reply, Tensor]:
    policy = replace(POLICY, public_n=MANY, max_value=1e31)
    institution = build_institution(plan, holding(examples, None), trainer=trainer, policy=policy)
    reply = institution.handle("train", build_request(plan, tensors=start))
    if reply.arrays is None:
        return reply, torch.empty(0)
    update = decode(reply.arrays, trainer.shapes, max_value=1e31).tensors
    return reply, torch.cat([update[name].flatten().double() for name in trainer.shapes])


@pytest.mark.parametrize("name", HOSTILE)
def test_one_record_changes_its_own_row_whatever_a_model_is_sure_of(
    name: str, trainer: Trainer
) -> None:
    start = HOSTILE[name](trainer)
    examples = lacking(invented(trainer, MANY), torch.arange(MANY) >= 40)
    # The same noise on both, which cancels; a step divides by n = MANY
    whole, without = (
        ask(trainer, start, examples.select(torch.arange(count)))[1] for count in (MANY, MANY - 1)
    )
    assert whole.numel()
    assert float((whole - without).norm()) * MANY <= CLIP * (1 + 1e-4)


@pytest.mark.parametrize("label", [0, 1])
def test_labels_that_a_model_plants_are_those_of_records_with_labels(
    label: int, trainer: Trainer
) -> None:
    start = sure_of(trainer, label)
    examples = invented(trainer, MANY)
    where = torch.arange(MANY) >= 40
    labelled = examples.with_labels(torch.where(where, label, examples.labels))
    planted, given = ask(trainer, start, lacking(examples, where)), ask(trainer, start, labelled)
    assert planted[1].equal(given[1])
    # Number of units, noise, epsilon: all say the same of both
    assert planted[0].num_examples == given[0].num_examples == MANY
    assert planted[0].figures == given[0].figures


@pytest.mark.parametrize("task", [PLAN.task, replace(PLAN.task, self_training=None)])
def test_a_model_whose_scores_depend_on_company_is_refused(task: object) -> None:
    plan = replace(PLAN, task=task)
    trainer = Trainer(workload_of(plan), private=True)
    scores = trainer.workload.task.scores
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            trainer.workload.task, "scores", lambda out: scores(out) + 1e-6 * out.mean()
        )
        reply, _ = ask(trainer, start_of(trainer), invented(trainer, MANY), plan)
    assert reply.refusal == ("rows_differ" if task is PLAN.task else None)


# --- whose threshold


@pytest.mark.parametrize(("own", "expected"), [(0.0, 0.9), (0.5, 0.9), (0.95, 0.95), (1.0, 1.0)])
def test_an_institution_raises_the_threshold_and_no_plan_lowers_it(
    own: float, expected: float, trainer: Trainer
) -> None:
    policy = replace(POLICY, min_confidence=own)
    data = holding(lacking(invented(trainer)), None)
    made = build_institution(PLAN, data, trainer=trainer, policy=policy)
    assert made._data.confidence == expected
    sure = pseudo_labelled(trainer, sure_of(trainer, 1), made._data).labels
    assert bool((sure[LACKING] == (UNLABELLED if own == 1 else 1)).all())


def test_a_round_with_another_threshold_has_noise_of_its_own(trainer: Trainer) -> None:
    """Equal noise on sums of other labels would cancel."""
    data = holding(lacking(invented(trainer)), None)
    digests = [replace(data, confidence=confidence).digest for confidence in (None, 0.9, 0.95)]
    assert len(set(digests)) == 3
    assert data.digest == replace(data).digest
