"""Vectors of texts by a frozen encoder: texts of like meaning point in like directions."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from confide.config.models.backbone import Weights
from confide.config.models.transformer import TransformerConfig
from confide.models.backbones import find_backbone, load_tokenizer
from confide.models.encoders.features import features_of
from confide.models.encoders.frozen import FrozenEncoder
from confide.tasks.task import LABELS, Examples, padded_length


class TextVectors:
    """Mean token vectors of texts, of norm 1.

    Args:
        encoder: a local folder, ``pkg://PACKAGE/FOLDER`` or a hub name that is there already.
        longest: tokens of a text that are looked at.

    Raises:
        ModelError: if the encoder cannot be used.
    """

    def __init__(self, encoder: str, *, longest: int = 64) -> None:
        folder = find_backbone(Weights(encoder))
        frozen = FrozenEncoder(
            TransformerConfig(name=encoder), folder, num_outputs=1, longest=longest
        )
        self._tokenizer, self._longest = load_tokenizer(folder), longest
        self._width, self._model = frozen.width, frozen.load().eval()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return vectors, float32 of shape [n, d]; a text's own, whatever others there are."""
        rows = self._tokenizer(list(texts), truncation=True, max_length=self._longest)["input_ids"]
        rows = [row or [0] for row in rows]
        lengths = torch.tensor([len(row) for row in rows])
        width = padded_length(int(lengths.max()))
        mask = (torch.arange(width) < lengths[:, None]).long()
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        columns = {"input_ids": ids, "attention_mask": mask, LABELS: torch.zeros(len(rows))}
        found = features_of(
            Examples(columns, lengths, {"input_ids": 0, "attention_mask": 0}),
            lambda batch: self._model.pooled(**batch),
            shape=(self._width,),
            device=torch.device("cpu"),
            autocast=None,
            cache=None,
        )
        return functional.normalize(found, dim=1)


__all__ = ["TextVectors"]
