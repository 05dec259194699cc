"""Prefix tuning: trained keys and values that every layer's attention sees before a text.

Li and Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", ACL 2021, arXiv
2101.00190, without the perceptron that makes a prefix there: it would be shared by all records of a
batch before any of them came. They are handed over as a cache of what went before, as families that
can go on writing take one. A prefix starts as the keys and values of words drawn at random (section
7.4 of the paper), so that a model starts close to its backbone, and not as it.

The rows of one embedding are looked up for each record anew: gradients by record, and clipped sums
of them, follow as those of words do.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from confide.config.tunings.prefix import PrefixConfig
from confide.errors import ModelError, words_of
from confide.models.networks import evaluating

_TOLERANCE = 1e-6


class Prefixed(nn.Module):
    """An encoder whose attention sees a prefix.

    Args:
        base: the encoder, frozen.
        start: keys and values to start from, shape [layers, 2, heads, places, d].
    """

    def __init__(self, base: Any, start: Tensor) -> None:
        super().__init__()
        self.base, self.config = base, base.config
        layers, both, heads, places, width = start.shape
        self._split = (layers, both, heads, width)
        rows = start.permute(3, 0, 1, 2, 4).reshape(places, -1)
        self.places = nn.Embedding(places, rows.shape[1], _weight=rows.clone())
        self.train(base.training)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Tensor) -> Any:
        """Map tokens [b, t] to what the encoder makes of them, [b, t, d], behind the prefix."""
        count, places = len(input_ids), self.places.num_embeddings
        numbers = torch.arange(places, device=input_ids.device).repeat(count, 1)
        rows = self.places(numbers).view(count, places, *self._split)
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(rows.permute(2, 3, 0, 4, 1, 5)):
            cache.update(keys, values, layer)
        mask = torch.cat([attention_mask.new_ones((count, places)), attention_mask], dim=1)
        return self.base(input_ids=input_ids, attention_mask=mask, past_key_values=cache, **others)

    def keys_and_values(self) -> Tensor:
        """Return what attention sees, shape [layers, 2, heads, places, d]."""
        rows = self.places.weight.detach()
        return rows.view(len(rows), *self._split).permute(1, 2, 3, 0, 4)


def add_prefix(encoder: nn.Module, tuning: PrefixConfig) -> nn.Module:
    """Freeze an encoder, and put a prefix before every text, which is trained.

    Raises:
        ModelError: if its attention takes no keys and values from a cache.
    """
    encoder.requires_grad_(False)
    if getattr(encoder.config, "is_encoder_decoder", False):
        raise _refusal(encoder, "it has an encoder and a decoder, and a cache of the latter alone")
    prefixed = Prefixed(encoder, _of_words(encoder, tuning))
    if not _is_seen(prefixed):
        raise _refusal(encoder, "what is put there changes nothing")
    return prefixed


def take_prefix_out(encoder: Any) -> tuple[Any, Tensor | None]:
    """Return an encoder alone, and the keys and values that its attention saw; None for none."""
    if isinstance(encoder, Prefixed):
        return encoder.base, encoder.keys_and_values()
    return encoder, None


def _of_words(encoder: Any, tuning: PrefixConfig) -> Tensor:
    """Return keys and values of words drawn from torch's generator, one for each place."""
    ids = torch.randint(0, int(encoder.config.vocab_size), (1, tuning.length))
    cache = DynamicCache()
    try:
        with torch.no_grad(), evaluating(encoder):
            encoder(input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache)
        if not cache.layers:
            raise ValueError("it keeps none of a text")
        found = [torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers]
        return torch.stack(found)
    except Exception as error:  # a family's code may raise anything, or leave the cache empty
        reason = words_of(error)
        raise _refusal(encoder, reason) from None


def _is_seen(prefixed: Prefixed) -> bool:
    """Say whether other keys and values in a layer, whichever it is, give other vectors."""
    ids, mask = torch.zeros((2, 3), dtype=torch.int64), torch.tensor([[1, 1, 1], [1, 1, 0]])
    with torch.no_grad(), evaluating(prefixed):

        def vectors() -> Tensor:
            hidden: Tensor = prefixed(ids, mask).last_hidden_state
            return hidden

        own, weight = vectors(), prefixed.places.weight
        by_layer = weight.view(len(weight), prefixed._split[0], -1)
        for layer in range(by_layer.shape[1]):
            kept = by_layer[:, layer].clone()
            by_layer[:, layer].neg_()
            other = vectors()
            by_layer[:, layer] = kept
            if other.shape != own.shape or torch.allclose(other, own, atol=_TOLERANCE):
                return False
    return True


def _refusal(encoder: Any, reason: str) -> ModelError:
    family = getattr(encoder.config, "model_type", None)
    return ModelError(
        f"tuning.kind=prefix: this backbone (model_type={family}) takes no cache of keys and values"
        f" ({reason}); choose tuning=bottleneck or lora."
    )


__all__ = ["Prefixed", "add_prefix", "take_prefix_out"]
