"""Text classification: one label for one text."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional

from confide.config.task import TextClassificationConfig
from confide.tasks.single_label import SingleLabel
from confide.tasks.task import LABELS, LENGTH_STEP, Examples, padded_length
from confide.tasks.tokens import TokenCounts, count_tokens

_TOKEN_COLUMNS = frozenset({"input_ids", "attention_mask"})


class TextClassification(SingleLabel):
    """Tokens in, logits out.

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
        tokens = self._tokenizer(
            texts,
            truncation=True,
            max_length=self._config.max_tokens,
            padding=True,
            # Whatever the folder says: padding on the left would move a text by the longest beside
            # it, and batches, which are cut on the right, would lose its end.
            padding_side="right",
            return_tensors="pt",
        )
        width = tokens["input_ids"].shape[1]
        right = (0, padded_length(width) - width)
        # Whatever stands in the padding is masked: a tokenizer without a pad token gets 0.
        ids = functional.pad(tokens["input_ids"], right, value=self._tokenizer.pad_token_id or 0)
        mask = functional.pad(tokens["attention_mask"], right)
        return _examples(ids, mask, labels)

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts, at least one, before they are cut."""
        return count_tokens(self._tokenizer, texts)

    def synthetic(self, count: int, generator: torch.Generator) -> Examples:
        """Invent token sequences of unlike lengths."""
        # Unlike lengths, so that the preflight sees padding.
        longest = LENGTH_STEP
        lengths = torch.randint(2, longest + 1, (count,), generator=generator)
        ids = torch.randint(0, len(self._tokenizer), (count, longest), generator=generator)
        mask = (torch.arange(longest) < lengths[:, None]).long()
        labels = torch.randint(0, len(self.labels), (count,), generator=generator)
        return _examples(ids * mask, mask, labels)


def _examples(ids: Tensor, mask: Tensor, labels: Tensor) -> Examples:
    columns = {"input_ids": ids, "attention_mask": mask, LABELS: labels}
    return Examples(columns, mask.sum(dim=1), _TOKEN_COLUMNS)


__all__ = ["TextClassification"]
