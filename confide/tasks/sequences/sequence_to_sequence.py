"""Texts as tokens of an encoder, and those written from them as tokens of a decoder.

A row holds one record; padding is told by lengths and not by an id.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.sequence_to_sequence import SequenceToSequenceConfig
from confide.tasks.labelled import Labelled
from confide.tasks.outcomes.classes import PREDICTION
from confide.tasks.sequences.written import WrittenTexts
from confide.tasks.task import LENGTH_STEP, Batch, Examples, padded_length
from confide.tasks.tokens import TokenCounts, count_tokens

_RAGGED = {"input_ids": 0, "attention_mask": 0}


class SequenceToSequence(Labelled):
    """Texts in, the tokens of other texts out.

    Args:
        config: columns and lengths.
        tokenizer: a Hugging Face tokenizer.
        settings: of transformers, what ``config.json`` says of the model.

    Raises:
        ModelError: if these do not say where a text begins and ends.
    """

    def __init__(self, config: SequenceToSequenceConfig, *, tokenizer: Any, settings: Any) -> None:
        super().__init__(config)
        self._config, self._tokenizer = config, tokenizer
        self._written = WrittenTexts(config, tokenizer=tokenizer, settings=settings)

    def encode(self, records: Dataset) -> Examples:
        """Tokenise both texts.

        Returns:
            ``input_ids`` and ``attention_mask`` of shape [n, t]; ``decoder_input_ids`` and
            ``labels``, the tokens to be written, of shape [n, K].

        Raises:
            DataError: naming every problem: missing columns, texts without a word, texts that hold
                one of the tokenizer's own marks.
        """
        self.read(records)
        (column,) = self._config.target_columns
        texts = [str(text) for text in records[self._config.source_column][:]]
        wanted = [str(text) for text in records[column][:]]
        self._written.refuse_marks(texts, wanted)
        sources = self._sources(texts)
        lengths = torch.tensor([len(row) for row in sources], dtype=torch.int64)
        width = padded_length(int(lengths.max())) if sources else LENGTH_STEP
        ids = torch.zeros((len(sources), width), dtype=torch.int64)
        for place, source in enumerate(sources):
            ids[place, : len(source)] = torch.tensor(source)
        mask = (torch.arange(width) < lengths[:, None]).long()
        columns = {"input_ids": ids, "attention_mask": mask, **self._written.columns(wanted)}
        return Examples(columns, lengths, _RAGGED)

    def _sources(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        rows: list[list[int]] = self._tokenizer(
            list(texts), truncation=True, max_length=self._config.max_tokens, padding=False
        )["input_ids"]
        # A text without tokens gets one: attention to nothing is NaN.
        return [row or [self._written.end] for row in rows]

    @property
    def tokenizer(self) -> Any:
        """Makes tokens of texts, and names them."""
        return self._tokenizer

    # --- what records hold

    def count_tokens(self, *columns: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts to write from, before they are cut."""
        return count_tokens(self._tokenizer, columns[0])

    def record_notes(self, records: Dataset) -> list[str]:
        """Tell how many texts to be written are cut, and what of them the tokenizer lacks."""
        (column,) = self._config.target_columns
        return self._written.notes([str(text) for text in records[column][:] if text is not None])

    # --- what a model makes of them

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return what each record adds, shape [b, w]: by its tokens, and by what was written."""
        return self._written.tally(outputs, batch)

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return the texts that the model wrote by itself."""
        return {PREDICTION: self._written.written(outputs)}


__all__ = ["SequenceToSequence"]
