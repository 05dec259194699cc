"""Book-keeping.

Norms and clipped sums against a loop over records and against Opacus, and everything it refuses.
"""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_books import (
    assert_equals_a_loop,
    clipped_sum,
    loss_of,
    make_table,
    make_text,
    make_texts,
    records,
    shake,
    single_gradients,
    squares,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from confide.client.training.private.book_keeping import BookKeeping
from confide.client.training.private.clipping import ClippingRule
from confide.errors import PrivacyError
from confide.tasks.task import Batch

# peft asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

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
