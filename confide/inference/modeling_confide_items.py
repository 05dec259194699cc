"""A recommender trained with confide: from a user's last items to all items of a catalogue.

This file stands alone, so that a folder exported by ``confide export`` predicts with transformers
and nothing else::

    AutoModel.from_pretrained(folder, trust_remote_code=True)

``history`` are places of items, from 1 in the order of ``ids`` in ``items.json``, the newest last;
0 where there is none. Logits are of the items in that order; those that the user has had are
-10,000, unless ``repeats``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class ConfideItemsConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Sizes of a recommender.

    Args:
        items: number of items.
        dimensions: numbers in an item's vector.
        width: numbers of a user.
        recent: last items that are looked at.
        repeats: whether items of a history may be recommended.
        scale: of a cosine, in a logit.
    """

    model_type = "confide_items"

    def __init__(
        self,
        items: int = 2,
        dimensions: int = 1,
        width: int = 1,
        recent: int = 10,
        repeats: bool = False,
        scale: float = 8.0,
        **kwargs: Any,
    ) -> None:
        self.items, self.dimensions, self.width = items, dimensions, width
        self.recent, self.repeats, self.scale = recent, repeats, scale
        super().__init__(**kwargs)


class ConfideForRecommendation(PreTrainedModel):  # type: ignore[misc]
    """A linear map of users into the space of items, and one output an item beside it."""

    config_class = ConfideItemsConfig

    def __init__(self, config: ConfideItemsConfig) -> None:
        super().__init__(config)
        self.register_buffer("vectors", torch.zeros(config.items + 1, config.dimensions))
        self.register_buffer("axes", torch.zeros(config.items, config.width))
        self.user = nn.Linear(2 * config.dimensions, config.width)
        self.item = nn.Linear(config.width, config.items)
        self.post_init()

    def forward(self, history: Tensor, **ignored: Any) -> SequenceClassifierOutput:
        """Map places [b, h] to logits [b, items]."""
        last = history[:, -self.config.recent :]
        found = self.vectors[last]
        count = (last > 0).sum(dim=1, keepdim=True).clamp(min=1)
        user = self.user(torch.cat([found.sum(dim=1) / count, found[:, -1]], dim=1))
        logits = self.config.scale * nn.functional.normalize(user, dim=1) @ self.axes.T
        logits = logits + self.item(user.tanh())
        if not self.config.repeats:
            logits = nn.functional.pad(logits, (1, 0)).scatter(1, history, -1e4)[:, 1:]
        return SequenceClassifierOutput(logits=logits)


__all__ = ["ConfideForRecommendation", "ConfideItemsConfig"]
