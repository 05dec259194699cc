"""Book-keeping within DP-SGD: noise, empty samples, groups, preflight, and room for rounding."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy import stats
from small_books import (
    KEY,
    MINILM,
    SIGMA,
    STEP,
    TABLE,
    TEXTS,
    all_of,
    loss_of,
    make_table,
    make_text,
    make_texts,
    single_gradients,
    squares,
)
from torch import Tensor, nn
from torch.nn import functional

from confide.client.schedule import LocalSchedule
from confide.client.training.private.book_keeping import BookKeeping
from confide.client.training.private.clipping import ClippingRule
from confide.client.training.private.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
from confide.client.training.private.layer_gradients import rounding_margin
from confide.client.training.private.preflight import preflight
from confide.client.training.trainer import Trainer
from confide.config.models.perceptrons import MlpConfig
from confide.config.tunings.lora import LoraConfig
from confide.config.tunings.tuning import TuningConfig
from confide.errors import PrivacyError
from confide.models.compute import Compute
from confide.models.networks import Mlp
from confide.models.workload import Workload, build_workload
from confide.privacy.randomness import KeyedGenerator
from confide.tasks.task import LABELS, Batch, Examples

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

# --- within DP-SGD


def private_gradient(
    dp_sgd: DpSgd, model: nn.Module, examples: Examples, step: DpSgdStep = STEP
) -> Tensor:
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = dp_sgd.optimizer(torch.optim.SGD(params, lr=1.0), step, KeyedGenerator(KEY))
    with expect_hook_warning():
        dp_sgd.private_gradient(optimizer, examples, torch.arange(len(examples)))
    return torch.cat([p.grad.flatten() for p in params if p.grad is not None]).clone()


@pytest.mark.parametrize("physical_batch_size", [3, 9])
@pytest.mark.parametrize("sigma", [0.0, SIGMA])
def test_noisy_gradient_equals_that_of_opacus(sigma: float, physical_batch_size: int) -> None:
    gradients, step = [], replace(STEP, noise_multiplier=sigma, expected_batch_size=3.0)
    for book_keeping in (True, False):
        workload = make_text()
        size = physical_batch_size
        dp_sgd = DpSgd(
            workload.model, loss_of(workload), physical_batch_size=size, book_keeping=book_keeping
        )
        gradients.append(private_gradient(dp_sgd, workload.model, make_texts(), step))
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


@pytest.mark.parametrize(
    "make", [make_table, make_text, lambda: make_text("lora"), lambda: make_text("head")]
)
def test_it_is_used_wherever_a_model_allows_it(make: Callable[[], Workload]) -> None:
    trainer = Trainer(make(), private=True)
    assert trainer._private is not None
    assert trainer._private.dp_sgd.book_keeping


@pytest.mark.parametrize(("hidden", "books"), [(5, False), (4096, True)])
def test_groups_of_larger_models_go_through_it_too(hidden: int, books: bool) -> None:
    model = MlpConfig(hidden=[hidden])
    table = build_workload(TABLE, model, TuningConfig(kind="full"), compute=Compute(), seed=1)
    trainer = Trainer(table, private=True, group_size=16)
    assert trainer._private is not None
    assert trainer._private.dp_sgd.book_keeping == books
    assert trainer._private.dp_sgd.places == ((1, 2, 4, 8, 16) if books else ())


def test_margin_of_groups_covers_the_rounding_of_all_their_records() -> None:
    """So many products are added up in one pass, and so many passes to each other."""
    book = BookKeeping(nn.Linear(3, 2), squares, most_tokens=24)
    expected = rounding_margin(expected=100.0, tokens=16 * 24, products=256 * 24)
    assert book.margin(100.0, group_size=16, rows=256) == expected
    assert expected > book.margin(1.0)
    with pytest.raises(PrivacyError, match=r"q\*n=1e\+07 groups of up to 384 tokens"):
        book.margin(1e7, group_size=16, rows=256)


class Convolution(nn.Module):
    """Has a layer that book-keeping does not know, before one that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.filter, self.out = nn.Conv1d(1, 4, 2), nn.Linear(4, 2)

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.filter(features[:, None])[:, :, 0].tanh())
        return outputs


class Grouped(nn.Module):
    """Normalises groups of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.GroupNorm(1, 2), nn.Linear(2, 2)

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.norm(features))
        return outputs


@pytest.mark.parametrize("model", [Convolution, Grouped])
def test_models_it_does_not_cover_go_to_opacus(model: Callable[[], nn.Module]) -> None:
    table, made = make_table(), model()
    trainer = Trainer(replace(table, model=made), private=True)  # which runs the preflight
    assert trainer._private is not None
    assert not trainer._private.dp_sgd.book_keeping
    examples = table.synthetic(4, torch.Generator().manual_seed(3))

    def losses(m: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(m(batch["features"]), batch[LABELS], reduction="none")

    with expect_hook_warning():
        rows = single_gradients(made, losses, examples)
    expected = (rows / rows.norm(dim=1, keepdim=True).clamp_min(1.0)).sum(dim=0)
    found = private_gradient(trainer._private.dp_sgd, made, examples)
    assert torch.allclose(found, expected, atol=1e-5)


def test_preflight_passes_under_bf16() -> None:
    workload = make_text()

    def losses(model: nn.Module, batch: Batch) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(batch["input_ids"], batch["attention_mask"])
        return workload.task.loss(outputs, batch)

    dp_sgd = DpSgd(workload.model, losses, physical_batch_size=9)
    exact = loss_of(workload)
    preflight(dp_sgd, make_texts(), autocast=torch.bfloat16, exact_loss_fn=exact)
    assert dp_sgd.book_keeping
    assert private_gradient(dp_sgd, workload.model, make_texts(masked=False)).dtype == torch.float32


class SlightlyCentred(nn.Module):
    """Mixes the records of a batch by less than half precision rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(2, 2)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.out(features)
        return logits - 0.02 * logits.mean(dim=0)


def test_half_precision_hides_no_mixing() -> None:
    table = replace(make_table(), model=SlightlyCentred(), compute=Compute(autocast=torch.bfloat16))
    with pytest.raises(PrivacyError, match=r"relative error 0\.0[0-5]\d*, most of it in out\."):
        Trainer(table, private=True)


def test_half_precision_hides_no_loss_that_reads_others(monkeypatch: pytest.MonkeyPatch) -> None:
    table = replace(make_table(), compute=Compute(autocast=torch.bfloat16))
    task = type(table.task)
    loss = task.loss

    def mixing(self: object, outputs: Tensor, batch: Batch) -> Tensor:
        found: Tensor = loss(self, outputs, batch)  # type: ignore[arg-type]
        return found + 0.02 * found.detach().mean()  # which no gradient tells

    monkeypatch.setattr(task, "loss", mixing)
    with pytest.raises(PrivacyError, match="the loss of a synthetic record in a batch of 4 is not"):
        Trainer(table, private=True)


class Functional(nn.Module):
    """Uses a layer's weight a second time without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = functional.linear(self.layer(features), self.layer.weight)
        return logits


def test_preflight_finds_a_parameter_used_without_its_layer() -> None:
    table = make_table()
    dp_sgd = DpSgd(Functional(), loss_of(table), physical_batch_size=9, book_keeping=True)
    with pytest.raises(PrivacyError, match="Preflight"):
        preflight(dp_sgd, table.synthetic(4, torch.Generator().manual_seed(3)), autocast=None)


class Twice(nn.Module):
    """Calls a layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layer(self.layer(x).tanh())
        return outputs


def test_preflight_goes_back_to_opacus_where_a_layer_is_called_twice() -> None:
    table, model = make_table(), Twice()

    def losses(m: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(m(batch["features"]), batch[LABELS], reduction="none")

    dp_sgd = DpSgd(model, losses, physical_batch_size=9)
    assert dp_sgd.book_keeping
    preflight(dp_sgd, table.synthetic(4, torch.Generator().manual_seed(3)), autocast=None)
    assert not dp_sgd.book_keeping


def test_failure_between_forward_and_backward_leaves_the_next_step_whole() -> None:
    model, calls = Mlp([2, 2]).train(), []

    def losses(m: nn.Module, batch: Batch) -> Tensor:
        outputs = m(batch["features"])
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return functional.cross_entropy(outputs, batch[LABELS], reduction="none")

    dp_sgd = DpSgd(model, losses, physical_batch_size=9, book_keeping=True)
    examples = Examples({"features": torch.eye(2), LABELS: torch.tensor([0, 1])})
    with pytest.raises(RuntimeError, match="out of memory"):
        private_gradient(dp_sgd, model, examples)
    assert not any(layer._forward_hooks for layer in model.modules())
    again = private_gradient(dp_sgd, model, examples)
    assert again.equal(
        private_gradient(
            DpSgd(model, losses, physical_batch_size=9, book_keeping=True), model, examples
        )
    )


def test_evaluation_between_steps_changes_nothing() -> None:
    workload = make_table()
    examples = workload.synthetic(4, torch.Generator().manual_seed(3))
    dp_sgd = DpSgd(workload.model, loss_of(workload), physical_batch_size=9, book_keeping=True)
    before = private_gradient(dp_sgd, workload.model, examples)
    with torch.no_grad():
        workload.model.eval()(examples.take(torch.arange(2))["features"])
    assert private_gradient(dp_sgd, workload.model.train(), examples).equal(before)


def test_empty_sample_after_a_full_one_is_noise_alone() -> None:
    workload = make_table()
    params = list(workload.model.parameters())
    dp_sgd = DpSgd(workload.model, loss_of(workload), physical_batch_size=9, book_keeping=True)
    optimizer = dp_sgd.optimizer(torch.optim.SGD(params, lr=1.0), STEP, KeyedGenerator(KEY))
    for count in (4, 0):
        examples = workload.synthetic(4, torch.Generator().manual_seed(3))
        dp_sgd.private_gradient(optimizer, examples, torch.arange(count))
        assert any(p.grad is not None and p.grad.any() for p in params) == bool(count)


def test_using_a_clipped_sum_twice_is_refused() -> None:
    workload = make_table()
    examples = workload.synthetic(3, torch.Generator().manual_seed(3))
    dp_sgd = DpSgd(workload.model, loss_of(workload), physical_batch_size=9, book_keeping=True)
    optimizer = dp_sgd.optimizer(
        torch.optim.SGD(workload.model.parameters()), STEP, KeyedGenerator(KEY)
    )
    dp_sgd.private_gradient(optimizer, examples, torch.arange(3))
    with pytest.raises(PrivacyError, match=r"zero_grad\(\) is missing"):
        optimizer.add_noise()
    with pytest.raises(PrivacyError, match=r"zero_grad\(\) is missing"):
        BookKeeping(workload.model, loss_of(workload)).accumulate(
            all_of(examples), ClippingRule(1.0)
        )


def test_noise_of_a_step_is_sigma_times_clipping_norm_over_expected_batch() -> None:
    step = replace(STEP, noise_multiplier=SIGMA, clipping_norm=0.05, expected_batch_size=4.0)
    workload = build_workload(
        TABLE, MlpConfig(hidden=[200, 200]), TuningConfig(kind="full"), compute=Compute(), seed=1
    )
    examples = workload.synthetic(10, torch.Generator().manual_seed(3))
    dp_sgd = DpSgd(workload.model, loss_of(workload), physical_batch_size=9, book_keeping=True)
    silent = private_gradient(dp_sgd, workload.model, examples, replace(step, noise_multiplier=0.0))
    noise = (private_gradient(dp_sgd, workload.model, examples, step) - silent).double()
    std = SIGMA * 0.05 / 4.0
    assert len(noise) >= 38_000
    low, high = stats.chi2.interval(1 - 1e-6, len(noise))
    assert low < float((noise / std).square().sum()) < high
    assert abs(float(noise.mean())) < 5 * std / len(noise) ** 0.5


# --- room for rounding


def test_features_leave_room_for_one_token_and_texts_for_the_longest() -> None:
    step = replace(STEP, expected_batch_size=1e4)
    margins = {}
    for name, workload in (("table", make_table()), ("head", make_text("head"))):
        gradients = Trainer(workload, private=True)._private
        assert gradients is not None
        margins[name] = gradients.dp_sgd.margin(step)
    assert margins["table"] == margins["head"] == rounding_margin(expected=1e4, tokens=1) < 2e-6
    gradients = Trainer(make_text("lora"), private=True)._private
    assert gradients is not None
    assert gradients.dp_sgd.margin(step) == rounding_margin(expected=1e4, tokens=TEXTS.max_tokens)


def test_texts_leave_room_for_the_padded_length_of_the_longest() -> None:
    texts = replace(TEXTS, max_tokens=20)  # padded to 24
    workload = build_workload(texts, MINILM, LoraConfig(rank=2), compute=Compute(), seed=1)
    gradients = Trainer(workload, private=True)._private  # looks at rows of every length
    assert gradients is not None
    assert gradients.dp_sgd.margin(STEP) == rounding_margin(expected=1.0, tokens=24)


def test_more_tokens_than_were_settled_are_refused() -> None:
    book = BookKeeping(nn.Linear(3, 2), squares)
    book.settle({"x": torch.ones(2, 4, 3)}, one_shape=True)
    book.norms({"x": torch.ones(2, 4, 3)})
    with pytest.raises(PrivacyError, match="takes 5 tokens of a record"):
        book.norms({"x": torch.ones(2, 5, 3)})


def test_steps_of_too_many_records_for_the_room_are_refused_before_a_round() -> None:
    trainer = Trainer(make_text("lora"), private=True)
    start = {name: torch.zeros(shape) for name, shape in trainer.shapes.items()}
    schedule = LocalSchedule(
        num_examples=10**6,
        batch_size=1,
        steps=1,
        sampling_rate=0.5,
        noise_multiplier=1.0,
        max_rounds=1,
    )
    with pytest.raises(PrivacyError, match=r"q\*n=500000 records of up to 16 tokens"):
        trainer.check_rows(start, schedule)
    trainer.check_rows(start, replace(schedule, sampling_rate=0.001))


@pytest.mark.parametrize("tokens", [1, 2])
def test_a_record_among_thousands_moves_the_sum_by_at_most_the_clipping_norm(tokens: int) -> None:
    """Every record has the same direction, so that sums are as long, and round as much, as can
    be.
    """
    model = nn.Linear(3, 2)
    book = BookKeeping(model, squares, most_tokens=tokens)
    generator = torch.Generator().manual_seed(0)
    x = 50 + torch.rand(3000, tokens, 3, generator=generator)
    params, sums = list(model.parameters()), []
    rule = ClippingRule(1.0, margin=book.margin(1500.0), units=3000)
    for count in (3000, 2999):
        for p in params:
            p.summed_grad = None  # type: ignore[attr-defined]
        book.accumulate({"x": x[:count]}, rule)
        sums.append(torch.cat([p.summed_grad.flatten() for p in params]).clone())  # type: ignore[attr-defined]
    assert 1 - 1e-4 < float((sums[0] - sums[1]).norm()) <= 1.0
