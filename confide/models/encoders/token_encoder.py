"""Backbones of a pretrained encoder that give one row of numbers a token."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn

from confide.config.models.transformer import TransformerConfig
from confide.errors import DataError
from confide.models.backbones import (
    find_backbone,
    load_encoder,
    load_settings,
    loading,
)
from confide.models.encoders.assets import folder_assets
from confide.models.encoders.encoder_inputs import settle_inputs
from confide.models.encoders.features import features_of
from confide.models.encoders.frozen import feature_cache
from confide.models.encoders.workloads import tuned_encoder
from confide.models.memory import in_parts
from confide.models.networks import Head, OnEncoder
from confide.models.workload import Order, Workload
from confide.tasks.tabular import FEATURES
from confide.tasks.task import LABELS, Examples, Task

log = logging.getLogger(__name__)

_LARGE, _LARGEST = 1 << 30, 16 << 30
"""Bytes of features from which on their number is told, and beyond which they are refused: a plan
says how long records are."""
_FLATTEST = 1e-3
"""Scale of a norm's output below which dividing by it would be rounding alone."""


class Standardised(nn.Module):
    """Token vectors as the encoder's last norm makes them, before its scale and shift.

    These are public and fixed, of the backbone as it was pretrained. Undone, each token's vector
    has mean 0 and norm sqrt(d), whichever token it is, so that no clipped gradient is short on
    account of its features; being an affine map it is part of the head once a model is exported.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, norm: nn.Module | None, *, row_norm: float | None) -> None:
        super().__init__()
        weight, bias = torch.ones(width), torch.zeros(width)
        if norm is not None:
            scale = norm.weight.detach().float()  # type: ignore[operator]
            weight = 1 / torch.where(scale.abs() < _FLATTEST, torch.ones(width), scale)
            shift = getattr(norm, "bias", None)
            if shift is not None:
                bias = -shift.detach().float() * weight
        factor = 1.0 if row_norm is None else row_norm / width**0.5
        # No parameters: they are neither trained nor saved.
        self.register_buffer("weight", weight * factor, persistent=False)
        self.register_buffer("bias", bias * factor, persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map token vectors [b, t, d] to [b, t, d]."""
        return hidden * self.weight + self.bias


class TokenClassifier(OnEncoder):
    """An encoder, and a linear head on each token.

    Args:
        encoder: a Hugging Face encoder, on the CPU.
        num_outputs: c.
        longest: most tokens of a text.
        row_norm: norm that each token's vector is scaled to; None: sqrt(d).

    Raises:
        ModelError: if the encoder cannot be used, or takes no texts of that length.
    """

    def __init__(
        self, encoder: Any, *, num_outputs: int, longest: int | None, row_norm: float | None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        width = int(encoder.config.hidden_size)
        self.head: nn.Linear = Head(width, num_outputs).head
        # Now, while it is as it was pretrained, without adapters.
        self._inputs = settle_inputs(encoder, longest=longest)
        self.standardised = Standardised(width, last_norm(encoder), row_norm=row_norm)

    @property
    def numbers(self) -> int:
        """What its layers hand on of the longest text."""
        return self._inputs.numbers

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map tokens [b, t] to vectors [b, t, d]."""
        inputs = self._inputs.of(input_ids, attention_mask)
        hidden: Tensor = self.encoder(**inputs).last_hidden_state
        return self.standardised(hidden)  # type: ignore[no-any-return]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map tokens [b, t] to logits [b, t, c]."""
        logits: Tensor = self.head(self.features(input_ids, attention_mask))
        return logits


def last_norm(encoder: nn.Module) -> nn.Module | None:
    """Return the norm whose output an encoder's token vectors are; None where there is none."""
    # Outputs are held, so that none of a later layer gets the memory of an earlier one's.
    found: list[tuple[Tensor, nn.Module]] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            found.append((output, module))

    norms = [
        module
        for module in encoder.modules()
        if isinstance(getattr(module, "weight", None), Tensor) and module.weight.dim() == 1  # type: ignore[operator]
    ]
    hooks = [module.register_forward_hook(keep) for module in norms]
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            ids = torch.ones((1, 2), dtype=torch.int64)
            hidden = encoder(input_ids=ids, attention_mask=ids).last_hidden_state
    finally:
        encoder.train(was_training)
        for hook in hooks:
            hook.remove()
    same = [module for output, module in found if output.data_ptr() == hidden.data_ptr()]
    return same[-1] if same else None


def load_token_classifier(
    config: TransformerConfig, *, num_outputs: int, longest: int | None
) -> TokenClassifier:
    """Load a pretrained encoder under a fresh head.

    Raises:
        ModelError: if the backbone cannot be used.
    """
    return TokenClassifier(
        load_encoder(find_backbone(config), config),
        num_outputs=num_outputs,
        longest=longest,
        row_norm=config.row_norm,
    )


def build_token_encoder(config: TransformerConfig, order: Order) -> Workload:
    """Build a model that tells something of each token of a text.

    Args:
        config: the encoder.
        order: with ``tuning.kind=head``, the model is a head and records become features.
    """
    # The task first: one that is not allowed is refused before weights are read.
    task = order.task_fn(folder_assets(find_backbone(config)))
    longest = max(order.task.text_limits.values(), default=None)
    load = functools.partial(
        load_token_classifier, config, num_outputs=order.task.num_outputs, longest=longest
    )
    if order.tuning.kind == "head":
        return _head_on_features(task, config, load, order)
    loaded = load()
    return tuned_encoder(task, loaded, order, numbers=loaded.numbers, longest=longest)


def _head_on_features(
    task: Task, config: TransformerConfig, load: Callable[[], TokenClassifier], order: Order
) -> Workload:
    """Build a head on the vectors that the frozen encoder computes of each token, once a record."""
    compute, folder = order.compute, find_backbone(config)
    cache = feature_cache(config, folder, compute, of=f"tokens of norm {config.row_norm}")
    settings = load_settings(folder)
    with loading(folder):
        width = int(settings.hidden_size)

    @functools.cache
    def encoder() -> TokenClassifier:
        # Loaded only when a record's features are not in the cache.
        return load().to(compute.device).eval()

    def prepare(records: Dataset) -> Examples:
        examples = task.encode(records)
        tokens = examples.columns["input_ids"].shape[1]
        _check_size(len(examples), tokens, width)
        features = features_of(
            examples,
            lambda batch: in_parts(
                lambda part: encoder().features(**part), batch, encoder().numbers
            ),
            shape=(tokens, width),
            device=compute.device,
            autocast=compute.autocast,
            cache=cache,
        )
        return _of_features(features, examples)

    def synthetic(count: int, generator: torch.Generator) -> Examples:
        examples = task.synthetic(count, generator)
        shape = (*examples.columns["input_ids"].shape, width)
        return _of_features(torch.randn(shape, generator=generator), examples)

    head = TokenHead(width, order.task.num_outputs).to(compute.device)
    longest = max(order.task.text_limits.values(), default=None)
    return Workload(task, head, prepare, synthetic, compute, longest=longest)


def _of_features(features: Tensor, examples: Examples) -> Examples:
    """Return records as the head takes them."""
    ragged = {FEATURES: 0, LABELS: examples.ragged[LABELS]}
    return Examples({FEATURES: features, LABELS: examples.labels}, examples.lengths, ragged)


def _check_size(records: int, tokens: int, width: int) -> None:
    """Tell of features that fill much of a machine's memory.

    Raises:
        DataError: if they are more than any should.
    """
    size = records * tokens * width * 4
    told = (
        f"Features of {records:,} records, {width} numbers for each of {tokens} tokens, take"
        f" {size / 2**30:.1f} GiB of memory"
    )
    fix = "lower task.max_tokens, or choose tuning=lora, which keeps none."
    if size > _LARGEST:
        raise DataError(f"{told}, more than {_LARGEST >> 30} GiB; {fix}")
    if size >= _LARGE:
        log.warning("%s; %s", told, fix)


class TokenHead(nn.Module):
    """The head alone, on vectors that are kept.

    Args:
        width: d.
        num_outputs: c.
    """

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__()
        # Started at zero: the first prediction favours no tag.
        self.head = Head(width, num_outputs).head

    def forward(self, features: Tensor) -> Tensor:
        """Map vectors [b, t, d] to logits [b, t, c]."""
        logits: Tensor = self.head(features)
        return logits


__all__ = [
    "Standardised",
    "TokenClassifier",
    "TokenHead",
    "build_token_encoder",
    "last_norm",
    "load_token_classifier",
]
