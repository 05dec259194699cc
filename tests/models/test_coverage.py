"""Layers that per-record gradients do not cover are refused by name, frozen ones are not."""

from collections.abc import Callable

import pytest
import torch
from opacus.layers import DPLSTM
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from confide.client.training.private.dp_sgd import DpSgd
from confide.client.training.private.preflight import preflight
from confide.errors import PrivacyError
from confide.models.prepared import contiguous_convolutions, prepare_model
from confide.tasks.task import LABELS, Batch, Examples

D, T = 8, 6


def records(*shape: int, words: bool = False) -> Examples:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, D, (4, *shape), generator=generator)
    if not words:
        x = torch.randn((4, *shape), generator=generator)
    return Examples({"x": x, LABELS: torch.tensor([0, 1, 2, 1])})


SEQUENCES, PICTURES, SOUNDS = records(T, D), records(3, 8, 8), records(3, 16)
WORDS = records(T, words=True)


class Above(nn.Module):
    """A head above a layer, which may have a trained layer below it.

    Args:
        layer: maps a record to a vector or to vectors.
        below: whether a trained layer lies below, so that gradients have to pass.
    """

    def __init__(self, layer: nn.Module, *, below: bool = False) -> None:
        super().__init__()
        self.below = nn.Linear(D, D) if below else nn.Identity()
        self.layer, self.head = layer, nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.layer(self.below(x))
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        logits: Tensor = self.head(outputs.flatten(1))
        return logits


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return functional.cross_entropy(model(batch["x"]), batch[LABELS], reduction="none")


def check(layer: nn.Module, examples: Examples, *, frozen: bool = False) -> None:
    torch.manual_seed(0)
    model = Above(layer, below=frozen).train()
    model(examples.columns["x"])  # gives the head its width
    if frozen:
        layer.requires_grad_(False)
    preflight(DpSgd(model, loss, physical_batch_size=9), examples, autocast=None)


class Attention(nn.MultiheadAttention):
    """Of a sequence to itself."""

    def __init__(self) -> None:
        super().__init__(D, 2, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        return super().forward(x, x, x)


class Squares(nn.Module):
    """Takes a layer of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Bilinear(D, D, D)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.inner(x, x)
        return outputs


class Queries(nn.Module):
    """Reads a table without calling it, as DETR does."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(T, D)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table.weight[None]


class Positions(nn.Module):
    """Looks positions up once for all records."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(T, D)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(torch.arange(T)[None])


class Keyword(nn.Module):
    """Hands a record over by keyword to a layer with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.PReLU(T)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.inner(input=x)
        return outputs


class Steps(nn.Module):
    """Steps through time with a cell that begins without a state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(D, D)

    def forward(self, x: Tensor) -> Tensor:
        state: Tensor | None = None
        for step in x.unbind(dim=1):
            state = self.cell(step, state)
        assert state is not None
        return state


NAMED: dict[str, tuple[Callable[[], nn.Module], Examples, str]] = {
    "attention": (Attention, SEQUENCES, "layer is Attention: it reads its weights without"),
    "torch's transformer": (
        lambda: nn.TransformerEncoderLayer(D, 2, D, dropout=0.0, batch_first=True),
        SEQUENCES,
        r"layer\.self_attn is MultiheadAttention: .* write its projections as nn\.Linear",
    ),
    "LSTM": (
        lambda: nn.LSTM(D, D, batch_first=True),
        SEQUENCES,
        r"layer is LSTM: .* take DPLSTM, DPGRU or DPRNN of opacus\.layers",
    ),
    "GRU": (lambda: nn.GRU(D, D, batch_first=True), SEQUENCES, "layer is GRU: it steps through"),
    "cell": (Steps, SEQUENCES, r"layer\.cell is GRUCell: it takes what is no tensor \(None"),
    "two inputs": (Squares, SEQUENCES, r"layer\.inner is Bilinear: it takes two inputs"),
    "bag": (lambda: nn.EmbeddingBag(D, D), WORDS, "layer is EmbeddingBag: .* a mean over tokens"),
    "queries": (Queries, SEQUENCES, r"layer\.table is Embedding: its weights are read without"),
    "positions": (
        Positions,
        SEQUENCES,
        r"layer\.table is Embedding: it takes inputs of shape \[1, 6\] in a batch of 4",
    ),
    "keyword": (Keyword, SEQUENCES, r"layer\.inner is PReLU: it is called with keywords alone"),
    "reflected padding": (
        lambda: nn.Conv2d(3, D, 3, padding=1, padding_mode="reflect"),
        PICTURES,
        "layer is Conv2d: it has padding_mode=reflect, where Opacus takes zeros",
    ),
    "old weight norm": (
        lambda: nn.utils.weight_norm(nn.Linear(D, D)),
        SEQUENCES,
        r"layer is Linear: .* take weight_norm of torch\.nn\.utils\.parametrizations",
    ),
    "buffers": (
        lambda: parametrizations.orthogonal(nn.Linear(D, D)),
        SEQUENCES,
        "layer is ParametrizedLinear: it holds parametrizations",
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", NAMED)
def test_layer_that_is_not_covered_is_refused_by_name(name: str) -> None:
    make, examples, message = NAMED[name]
    with pytest.raises(PrivacyError, match=rf"{message}.* or freeze it \(tuning=lora or tuning="):
        check(make(), examples)


@pytest.mark.parametrize("name", ["attention", "LSTM", "GRU", "two inputs", "queries", "positions"])
def test_gradients_pass_through_such_a_layer_once_it_is_frozen(name: str) -> None:
    make, examples, _ = NAMED[name]
    check(make(), examples, frozen=True)


COVERED: dict[str, tuple[Callable[[], nn.Module], Examples]] = {
    "weight norm": (lambda: parametrizations.weight_norm(nn.Conv1d(3, D, 3)), SOUNDS),
    "LSTM of Opacus": (lambda: DPLSTM(D, D, batch_first=True), SEQUENCES),
    "padding": (lambda: nn.Conv2d(3, D, 3, padding="same"), PICTURES),
    "groups": (lambda: nn.Conv2d(3, 2 * 3, 3, groups=3), PICTURES),
    "transposed": (lambda: nn.ConvTranspose2d(3, D, 2, stride=2), PICTURES),
    "norms": (
        lambda: nn.Sequential(nn.Conv2d(3, D, 3), nn.GroupNorm(2, D), nn.InstanceNorm2d(D)),
        PICTURES,
    ),
}


@pytest.mark.parametrize("name", COVERED)
def test_layer_that_is_covered_passes(name: str) -> None:
    make, examples = COVERED[name]
    check(make(), examples)


# --- what every pass changes, or draws


MOVING: dict[str, tuple[Callable[[], nn.Module], Examples]] = {
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(D, D)), SEQUENCES),
    "old spectral norm": (lambda: nn.utils.spectral_norm(nn.Linear(D, D)), SEQUENCES),
    "RReLU": (nn.RReLU, SEQUENCES),
}


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", MOVING)
def test_what_every_pass_changes_is_refused_unless_it_was_prepared(name: str, frozen: bool) -> None:
    make, examples = MOVING[name]
    with pytest.raises(PrivacyError, match="must not depend on other passes"):
        check(make(), examples, frozen=frozen)
    torch.manual_seed(0)
    layer = make()
    expected = layer.eval()(examples.columns["x"])
    assert prepare_model(layer)(examples.columns["x"]).allclose(expected, atol=1e-6)
    check(layer, examples, frozen=frozen)


def test_pooling_that_draws_its_regions_is_refused() -> None:
    with pytest.raises(PrivacyError, match="fractional pooling"):
        check(nn.FractionalMaxPool2d(3, output_size=2), PICTURES)


# --- convolutions


class Permuted(nn.Module):
    """Hands a convolution channels that lie last in memory, as ConvNeXt does."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.convolution(x.movedim(-1, 1))
        return outputs


CONVOLUTIONS = {
    "1d": (nn.Conv1d(3, D, 3), records(16, 3)),
    "2d": (nn.Conv2d(3, D, 3, padding=1), records(8, 8, 3)),
    "3d": (nn.Conv3d(3, D, 3), records(5, 5, 5, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_of_a_permuted_input_has_right_gradients(name: str) -> None:
    convolution, examples = CONVOLUTIONS[name]
    check(Permuted(convolution), examples)


def test_without_contiguous_inputs_opacus_is_wrong_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing is mended any more, and the hooks may go."""
    monkeypatch.setattr(
        "confide.client.training.private.sample_gradients.contiguous_convolutions",
        lambda model: None,
    )
    with pytest.raises(PrivacyError, match=r"error \d[.\d]*, most of it in layer\.convolution"):
        check(Permuted(nn.Conv2d(3, D, 3, padding=1)), records(8, 8, 3))


def test_contiguous_inputs_change_no_output() -> None:
    torch.manual_seed(0)
    model, x = Permuted(nn.Conv2d(3, D, 3)), torch.randn(2, 8, 8, 3)
    expected = model(x)
    contiguous_convolutions(model)
    assert model(x).allclose(expected, atol=1e-6)
