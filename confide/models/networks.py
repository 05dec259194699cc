"""Models: a backbone, a head, and which of their tensors are trained."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from confide.config.custom import implementation
from confide.config.tunings.table import TUNINGS
from confide.config.tunings.tuning import TuningConfig
from confide.errors import ModelError
from confide.models.encoders.encoder_inputs import settle_inputs
from confide.protocol.tensors import Tensors

# A shorter row is scaled as if it had this norm, so that zeros are not divided by zero.
_SHORTEST = 1e-6


def scaled_rows(rows: Tensor, norm: float | None) -> Tensor:
    """Scale rows [b, d] to an L2 norm; rows of zeros stay, and all do where it is None."""
    if norm is None:
        return rows
    lengths = rows.square().sum(dim=-1, keepdim=True).sqrt()
    return rows * (norm / lengths.clamp_min(_SHORTEST))


Span = tuple[int, int, int, int]
"""Two columns' places in an encoded row: the first one's start and end, and the other's."""


def with_products(rows: Tensor, pairs: Sequence[Span]) -> Tensor:
    """Append the products of pairs of columns to rows [b, d].

    Each is scaled to the geometric mean of both columns' norms: as long as one of them, however
    rows are scaled.
    """
    blocks = [rows]
    for start, end, other, last in pairs:
        one, two = rows[:, start:end], rows[:, other:last]
        norms = one.square().sum(dim=-1) * two.square().sum(dim=-1)
        products = (one[:, :, None] * two[:, None, :]).flatten(start_dim=1)
        # norms is the square of the product's norm: its fourth root is what is wanted
        blocks.append(products * norms.clamp_min(_SHORTEST**4).pow(-0.25)[:, None])
    return torch.cat(blocks, dim=1) if pairs else rows


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Have a model in evaluation for the moment, and as it was afterwards."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


class Stacked(nn.Module):
    """A model of linear layers with ReLU between, on rows that no tensor of it changes."""

    def rows(self, features: Tensor) -> Tensor:
        """Map features [b, d] to what goes into the first layer, each row by itself."""
        raise NotImplementedError

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers, in order; ReLU stands between them and not after the last one."""
        raise NotImplementedError


class Mlp(Stacked):
    """A perceptron on encoded columns; without hidden layers, logistic regression.

    Args:
        widths: inputs, products of pairs among them, hidden layers, classes.
        row_norm: norm that rows are scaled to; None leaves them as they are.
        pairs: pairs of columns whose products are inputs too.
    """

    def __init__(
        self, widths: Sequence[int], *, row_norm: float | None = None, pairs: Sequence[Span] = ()
    ) -> None:
        super().__init__()
        self._row_norm, self.pairs = row_norm, tuple(pairs)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])  # no ReLU after the last one

    def rows(self, features: Tensor) -> Tensor:
        """Append products, and scale."""
        return scaled_rows(with_products(features, self.pairs), self._row_norm)

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, features: Tensor) -> Tensor:
        """Map features [b, d] to logits [b, c]."""
        outputs: Tensor = self.layers(self.rows(features))
        return outputs


class Head(Stacked):
    """A linear head on pooled features, started at zero: the first prediction favours no class.

    Args:
        width: d.
        num_classes: c.
        row_norm: norm that features are scaled to; None leaves them as they are.
    """

    def __init__(self, width: int, num_classes: int, *, row_norm: float | None = None) -> None:
        super().__init__()
        self._row_norm = row_norm
        self.head = nn.Linear(width, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def rows(self, features: Tensor) -> Tensor:
        """Scale features."""
        return scaled_rows(features, self._row_norm)

    @property
    def linears(self) -> list[nn.Linear]:
        """The one layer."""
        return [self.head]

    def forward(self, features: Tensor) -> Tensor:
        """Map features [b, d] to logits [b, c]."""
        logits: Tensor = self.head(self.rows(features))
        return logits


class OnEncoder(nn.Module):
    """A model on a pretrained encoder, which may be replaced by one with adapters."""

    encoder: Any


class TextClassifier(OnEncoder):
    """An encoder, pooled, and a linear head.

    Args:
        encoder: a Hugging Face encoder, on the CPU.
        num_classes: c.
        pooling: mean over tokens, or the first token (cls).
        longest: most tokens of a text; None: any number that the encoder takes.
        row_norm: norm that pooled features are scaled to; None leaves them as they are.

    Raises:
        ModelError: if the encoder cannot be used, or takes no texts of that length.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        num_classes: int,
        pooling: str,
        longest: int | None = None,
        row_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        # The layer alone: its tensors are named as in a head that was trained on features.
        self.head = Head(encoder.config.hidden_size, num_classes).head
        self._pooling, self._row_norm = pooling, row_norm
        # Now, while it is as it was pretrained, without adapters.
        self._inputs = settle_inputs(encoder, longest=longest)

    @property
    def numbers(self) -> int:
        """What its layers hand on of the longest text."""
        return self._inputs.numbers

    @property
    def positions(self) -> str | None:
        """How positions are counted, as it tells the encoder; None: it leaves them to it."""
        return self._inputs.positions

    @property
    def takes_pairs(self) -> bool:
        """Whether the encoder tells the two texts of a pair apart by token types."""
        return self._inputs.types and self._inputs.pair_types

    def pooled(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        pooled_tokens: Tensor | None = None,
    ) -> Tensor:
        """Map tokens [b, t], of pairs with token types [b, t], to text vectors [b, d].

        Args:
            input_ids: tokens.
            attention_mask: 1 for a token, 0 for padding.
            token_type_ids: which text of a pair each is of.
            pooled_tokens: 1 for the tokens whose vectors' mean a text's is, such as a span's; None:
                as the backbone is pooled.
        """
        inputs = self._inputs.of(input_ids, attention_mask, token_type_ids)
        hidden: Tensor = self.encoder(**inputs).last_hidden_state
        if self._pooling == "cls" and pooled_tokens is None:
            return hidden[:, 0]
        counted = attention_mask if pooled_tokens is None else attention_mask * pooled_tokens
        # Filled, not multiplied: 0 * inf is NaN.
        summed = hidden.masked_fill(counted[:, :, None] == 0, 0.0).sum(dim=1)
        return summed / counted.sum(dim=1, keepdim=True).clamp(min=1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        pooled_tokens: Tensor | None = None,
    ) -> Tensor:
        """Map tokens [b, t], as :meth:`pooled` takes them, to logits [b, c]."""
        features = self.pooled(input_ids, attention_mask, token_type_ids, pooled_tokens)
        logits: Tensor = self.head(scaled_rows(features, self._row_norm))
        return logits


TuneFn = Callable[[Any, Any], Any]
"""Encoder as it was pretrained, settings of the kind -> encoder whose trained tensors alone ask for
gradients; what is added starts so that its outputs are the same, or close (a prefix)."""


M = TypeVar("M", bound=OnEncoder)


def apply_tuning(model: M, tuning: TuningConfig) -> M:
    """Freeze what is not trained, and add what is.

    Raises:
        ModelError: if the encoder has nothing that this kind trains, or adapts.
    """
    tune: TuneFn = implementation(TUNINGS[tuning.kind].tune)
    model.encoder = tune(model.encoder, tuning)
    return model


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def trainable_tensors(model: nn.Module) -> Tensors:
    """Copy the trainable tensors to the CPU."""
    return {name: parameter.detach().cpu().clone() for name, parameter in trainable(model).items()}


def inputs_of_last(model: nn.Module, run_fn: Callable[[], object]) -> Tensor:
    """Return what goes into a model's last layer while it runs, float32 of shape [b, d].

    Args:
        model: stacked, or with a layer ``head``.
        run_fn: runs it once.

    Raises:
        ModelError: if it has no such layer, or this sees something else of each record.
    """
    layer = model.linears[-1] if isinstance(model, Stacked) else getattr(model, "head", None)
    seen: list[Tensor] = []
    if isinstance(layer, nn.Linear):
        hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            run_fn()
        finally:
            hook.remove()
    if len(seen) != 1 or seen[0].dim() != 2:
        raise ModelError(f"{type(model).__name__} has no representation of a record as one vector.")
    return seen[0].float()


def refuse_batch_norm(model: nn.Module) -> None:
    """Refuse layers that mix the records of a batch or keep running statistics, frozen ones too.

    Raises:
        ModelError: naming the layer.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or getattr(
            module, "track_running_stats", False
        ):
            raise ModelError(
                f"{name} is {type(module).__name__}: it mixes the records of a batch and its"
                " statistics would not travel; use GroupNorm or LayerNorm."
            )


def refuse_dropout(model: nn.Module) -> None:
    """Refuse dropout that acts: what a record adds would depend on its place in a batch.

    Raises:
        ModelError: naming the layer.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ModelError(
                f"{name} is {type(module).__name__} with p={module.p:g}: under privacy a record's"
                " gradient must not depend on where in a batch it stands; set p=0."
            )


__all__ = [
    "Head",
    "Mlp",
    "OnEncoder",
    "Span",
    "Stacked",
    "TextClassifier",
    "TuneFn",
    "apply_tuning",
    "evaluating",
    "inputs_of_last",
    "refuse_batch_norm",
    "refuse_dropout",
    "scaled_rows",
    "trainable",
    "trainable_tensors",
    "with_products",
]
