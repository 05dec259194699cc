"""A model of texts trained with confide: a Hugging Face encoder, pooled, and a linear head.

This file stands alone, so that a folder exported by ``confide export`` predicts with transformers
and nothing else::

    AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)

Logits are those of classes, or what ``confide_outcome`` in config.json has: of several labels, or
of being above each of labels in order, one logit each; of a number, its range mapped to [-2, 2],
or to [-2 / delta, 2 / delta] under Huber loss, on its scale.
"""

import functools
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, DynamicCache, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class Adapter(nn.Module):
    """A bottleneck adapter of what a layer gives: h + up(GELU(down(h)))."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map vectors [..., d] to vectors [..., d]."""
        added: Tensor = self.up(nn.functional.gelu(self.down(hidden)))
        return hidden + added


def _adapt(adapter: Adapter, layer: nn.Module, inputs: Any, output: Tensor) -> Any:
    return adapter(output)


class ConfideForSequenceClassification(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped
    """An encoder under its family's own name, which ``AutoModel`` loads too, and a head on top.

    Args:
        config: the encoder's, with ``confide_pooling``: mean over tokens, or the first token (cls),
            ``confide_row_norm``: norm that pooled features are scaled to, None for as they are, and
            ``confide_adapters``: layers that an adapter of width ``confide_bottleneck`` follows.
            ``confide_prefix`` is the shape of keys and values that attention sees before a text,
            [layers, 2, heads, places, d]; ``confide_positions`` how tokens behind them are counted.
            With ``confide_pairs`` it tells two texts apart by token types, as its tokenizer does.
            Texts have to be put into ``confide_template``, if there is one, before they are tokens.
    """

    _keys_to_ignore_on_load_unexpected = (r"\.pooler\.",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        encoder = AutoModel.from_config(config)
        # Never used; the folder holds its weights for AutoModel. Some families cannot go without.
        if "add_pooling_layer" in inspect.signature(type(encoder)).parameters:
            encoder.pooler = None
        self.base_model_prefix = encoder.base_model_prefix
        setattr(self, self.base_model_prefix, encoder)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.adapters = nn.ModuleList()
        for name in getattr(config, "confide_adapters", ()):
            layer = encoder.get_submodule(name)
            # Of GPT-2's matrices, which are transposed, the second size
            width = getattr(layer, "out_features", layer.weight.shape[1])
            adapter = Adapter(width, config.confide_bottleneck)
            self.adapters.append(adapter)
            layer.register_forward_hook(functools.partial(_adapt, adapter))
        shape = getattr(config, "confide_prefix", None)
        self.keys_and_values = None if shape is None else nn.Parameter(torch.zeros(shape))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        pooled_tokens: Tensor | None = None,
        **ignored: Any,
    ) -> SequenceClassifierOutput:
        """Map tokens [b, t] to logits [b, c], and labels [b] of classes to a loss.

        ``pooled_tokens`` [b, t] is 1 for the tokens whose vectors are averaged, such as a span's,
        where the model was trained so.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        if token_type_ids is not None and getattr(self.config, "confide_pairs", False):
            inputs["token_type_ids"] = token_type_ids
        if self.keys_and_values is not None:
            inputs |= self._behind(self.keys_and_values, input_ids, mask)
        hidden = self.base_model(**inputs).last_hidden_state
        if self.config.confide_pooling == "cls" and pooled_tokens is None:
            pooled = hidden[:, 0]
        else:
            counted = mask if pooled_tokens is None else mask * pooled_tokens
            summed = hidden.masked_fill(counted[:, :, None] == 0, 0.0).sum(dim=1)
            pooled = summed / counted.sum(dim=1, keepdim=True).clamp(min=1)
        if (row_norm := getattr(self.config, "confide_row_norm", None)) is not None:
            lengths = pooled.square().sum(dim=-1, keepdim=True).sqrt()
            pooled = pooled * (row_norm / lengths.clamp_min(1e-6))
        logits = self.classifier(pooled)
        loss = None
        if labels is not None and self.config.problem_type == "single_label_classification":
            loss = nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _behind(self, prefix: Tensor, input_ids: Tensor, mask: Tensor) -> dict[str, Any]:
        count, places = len(input_ids), prefix.shape[3]
        cache = DynamicCache()
        for layer, both in enumerate(prefix):
            keys, values = both[:, None].expand(2, count, *both.shape[1:])
            cache.update(keys, values, layer)
        seen = torch.cat([mask.new_ones((count, places)), mask], dim=1)
        inputs = {"attention_mask": seen, "past_key_values": cache}
        # Else the encoder would count the places of the prefix too
        if self.config.confide_positions == "from zero":
            numbers = torch.arange(input_ids.shape[1], device=input_ids.device)
            inputs["position_ids"] = numbers.expand_as(input_ids)
        elif self.config.confide_positions == "from the padding id":
            padding_id = self.config.pad_token_id
            counted = mask * (input_ids != padding_id)
            inputs["position_ids"] = counted.cumsum(dim=1) * counted + padding_id
        return inputs


__all__ = ["ConfideForSequenceClassification"]
