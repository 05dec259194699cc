"""Texts, or pairs of them, as tokens of a pretrained encoder."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.text_classification import TextClassificationConfig
from confide.tasks.labelled import Labelled
from confide.tasks.task import LABELS, Examples, padded_length
from confide.tasks.tokens import Template, TokenCounts, count_tokens

_TYPES = "token_type_ids"
_RAGGED = {"input_ids": 0, "attention_mask": 0, _TYPES: 0}


class TextClassification(Labelled):
    """Tokens in, the outcome's outputs out.

    Args:
        config: columns, labels, length.
        tokenizer: a Hugging Face tokenizer.

    Raises:
        ConfigError: if there is a template, and no room or no way to fill it.
    """

    def __init__(self, config: TextClassificationConfig, *, tokenizer: Any) -> None:
        super().__init__(config)
        self._config = config
        self._tokenizer = tokenizer
        self._template = None
        if config.template is not None:
            self._template = Template(
                config.template, tokenizer=tokenizer, max_tokens=config.max_tokens
            )

    @property
    def tokenizer(self) -> Any:
        """What makes tokens of texts, and names them."""
        return self._tokenizer

    def encode(self, records: Dataset) -> Examples:
        """Tokenise: ``input_ids`` and ``attention_mask`` of shape [n, t].

        t is the longest text's number of tokens, rounded up to a multiple of 8. Pairs are joined as
        the tokenizer joins them, with ``token_type_ids`` of shape [n, t] where it tells texts apart
        by these; in a template they are one text.

        Raises:
            DataError: naming every problem: a missing column, texts or labels that are null, labels
                that are unknown.
        """
        _, labels = self.read(records)
        texts = [[str(text) for text in records[name][:]] for name in self.content_columns()]
        if not len(records):
            # There is no longest text to take a width from.
            empty = torch.empty((0, 1), dtype=torch.int64)
            return _examples(empty, empty, labels, types=empty if self._has_types else None)
        # Padded here, on the right, whatever the folder's tokenizer would do: on the left a text
        # would move by the longest beside it, and some have no token to pad with. What stands in
        # the padding is masked, so 0 does as well.
        padding_id = self._tokenizer.pad_token_id or 0
        encoded = self._encoded(texts)
        # A text without tokens gets one: attention to nothing is NaN.
        rows = [row or [padding_id] for row in encoded["input_ids"]]
        lengths = torch.tensor([len(row) for row in rows])
        width = padded_length(int(lengths.max()))
        mask = (torch.arange(width) < lengths[:, None]).long()
        ids = _filled(mask, rows, padding_id)
        types = None
        if self._has_types:
            types = _filled(mask, [row or [0] for row in encoded[_TYPES]], 0)
        return _examples(ids, mask, labels, types=types)

    def _encoded(self, texts: Sequence[Sequence[str]]) -> Mapping[str, Sequence[Sequence[int]]]:
        if self._template is not None:
            return {"input_ids": self._template.encode(*texts)}
        encoded: Mapping[str, Sequence[Sequence[int]]] = self._tokenizer(
            *map(list, texts), truncation=True, max_length=self._config.max_tokens, padding=False
        )
        return encoded

    @functools.cached_property
    def _has_types(self) -> bool:
        """Whether the tokenizer says of each token which text of a pair it is of."""
        return self._config.is_paired and _TYPES in self._tokenizer("a", "b")

    def count_tokens(self, *columns: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts, or of pairs, at least one, before they are cut."""
        if self._template is not None:
            columns = (self._template.filled(*columns),)
        return count_tokens(self._tokenizer, *columns)


def _filled(mask: Tensor, rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Lay rows out under a mask [n, t] of their lengths."""
    laid = torch.full_like(mask, fill)
    laid[mask == 1] = torch.tensor(list(itertools.chain.from_iterable(rows)))
    return laid


def _examples(ids: Tensor, mask: Tensor, labels: Tensor, *, types: Tensor | None) -> Examples:
    inputs = {"input_ids": ids, "attention_mask": mask}
    if types is not None:
        inputs[_TYPES] = types
    ragged = {name: _RAGGED[name] for name in inputs}
    return Examples({**inputs, LABELS: labels}, mask.sum(dim=1), ragged)


__all__ = ["TextClassification"]
