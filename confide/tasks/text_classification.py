"""Texts, as tokens of a pretrained encoder."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.text_classification import TextClassificationConfig
from confide.tasks.labelled import Labelled
from confide.tasks.task import LABELS, Examples, padded_length
from confide.tasks.tokens import TokenCounts, count_tokens

_RAGGED = {"input_ids": 0, "attention_mask": 0}


class TextClassification(Labelled):
    """Tokens in, the outcome's outputs out.

    Args:
        config: columns, labels, length.
        tokenizer: a Hugging Face tokenizer.
    """

    def __init__(self, config: TextClassificationConfig, *, tokenizer: Any) -> None:
        super().__init__(config)
        self._config = config
        self._tokenizer = tokenizer

    def encode(self, records: Dataset) -> Examples:
        """Tokenise: ``input_ids`` and ``attention_mask`` of shape [n, t].

        t is the longest text's number of tokens, rounded up to a multiple of 8.

        Raises:
            DataError: naming every problem: a missing column, texts or labels that are null, labels
                that are unknown.
        """
        _, labels = self.read(records)
        texts = [str(text) for text in records[self._config.text_column][:]]
        if not texts:
            # There is no longest text to take a width from.
            empty = torch.empty((0, 1), dtype=torch.int64)
            return _examples(empty, empty, labels)
        # Padded here, on the right, whatever the folder's tokenizer would do: on the left a text
        # would move by the longest beside it, and some have no token to pad with. What stands in
        # the padding is masked, so 0 does as well.
        padding_id = self._tokenizer.pad_token_id or 0
        tokens = self._tokenizer(
            texts, truncation=True, max_length=self._config.max_tokens, padding=False
        )["input_ids"]
        # A text without tokens gets one: attention to nothing is NaN.
        rows = [row or [padding_id] for row in tokens]
        lengths = torch.tensor([len(row) for row in rows])
        width = padded_length(int(lengths.max()))
        mask = (torch.arange(width) < lengths[:, None]).long()
        ids = torch.full_like(mask, padding_id)
        ids[mask == 1] = torch.tensor(list(itertools.chain.from_iterable(rows)))
        return _examples(ids, mask, labels)

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts, at least one, before they are cut."""
        return count_tokens(self._tokenizer, texts)


def _examples(ids: Tensor, mask: Tensor, labels: Tensor) -> Examples:
    columns = {"input_ids": ids, "attention_mask": mask, LABELS: labels}
    return Examples(columns, mask.sum(dim=1), _RAGGED)


__all__ = ["TextClassification"]
