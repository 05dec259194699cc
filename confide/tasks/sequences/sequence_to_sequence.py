"""Texts as tokens of an encoder, and those written from them as tokens of a decoder.

What a decoder reads is the text to be written, one place later and the model's own start before it:
made here, since a model that makes it itself does so from labels, which a private step hands to no
model. A row holds one record; padding is told by lengths and not by an id, and what stands behind a
text's end in a decoder's row is read by nothing that is learnt.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from confide.config.outcomes.text import TextConfig
from confide.config.tasks.sequence_to_sequence import SequenceToSequenceConfig
from confide.errors import DataError, ModelError
from confide.metrics.outcomes.texts import bleu_counts, chrf_counts
from confide.tasks.labelled import Labelled
from confide.tasks.outcomes.answer import NOTHING
from confide.tasks.outcomes.classes import PREDICTION
from confide.tasks.outcomes.text import Text, written_tokens
from confide.tasks.task import LABELS, LENGTH_STEP, Batch, Examples, padded_length
from confide.tasks.tokens import TokenCounts, count_tokens

log = logging.getLogger(__name__)

DECODER = "decoder_input_ids"
"""What a decoder reads, shape [n, K]: its start, then the text to be written but its last token."""
_RAGGED = {"input_ids": 0, "attention_mask": 0}


class SequenceToSequence(Labelled):
    """Texts in, the tokens of other texts out.

    Args:
        config: columns and lengths.
        tokenizer: a Hugging Face tokenizer; some, such as Marian's, have other words for the texts
            to be written.
        settings: of transformers, what ``config.json`` says of the model.

    Raises:
        ModelError: if these do not say where a text begins and ends.
    """

    def __init__(self, config: SequenceToSequenceConfig, *, tokenizer: Any, settings: Any) -> None:
        super().__init__(config)
        assert isinstance(config.outcome, TextConfig)
        self._config, self._tokenizer = config, tokenizer
        self._most = config.outcome.max_tokens
        self._texts = Text(config.outcome, config.labelling)
        start: Any = getattr(settings, "decoder_start_token_id", None)
        self._start, self._end = start, tokenizer.eos_token_id
        if not isinstance(start, int):
            raise ModelError(
                "The backbone's config.json has no decoder_start_token_id, so that nothing says"
                " what a decoder begins with; choose a sequence-to-sequence model, or add it."
            )
        ends = getattr(settings, "eos_token_id", None)
        if self._end is None or self._end not in (ends if isinstance(ends, list) else [ends]):
            raise ModelError(
                f"The backbone's tokenizer ends a text with token {self._end}, its config.json says"
                f" eos_token_id={ends}; bring the tokenizer that belongs to the model."
            )

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
        self._refuse_marks(texts, wanted)
        sources, targets = self._sources(texts), self._targets(wanted)
        cut = sum(len(row) > self._most for row in targets)
        if cut:
            log.info("%d of %d texts to be written are cut.", cut, len(targets))
        return self._examples(sources, [row[: self._most] for row in targets])

    def _examples(self, sources: list[list[int]], targets: list[list[int]]) -> Examples:
        lengths = torch.tensor([len(row) for row in sources], dtype=torch.int64)
        width = padded_length(int(lengths.max())) if sources else LENGTH_STEP
        (places,) = self._texts.target_shape
        ids = torch.zeros((len(sources), width), dtype=torch.int64)
        labels = torch.full((len(sources), places), NOTHING)
        # The start is a token of every model; some have none to pad with
        inputs = torch.full((len(sources), places), self._start)
        for place, (source, target) in enumerate(zip(sources, targets, strict=True)):
            ids[place, : len(source)] = torch.tensor(source)
            labels[place, : len(target)] = torch.tensor(target)
            inputs[place, 1 : len(target)] = torch.tensor(target[:-1], dtype=torch.int64)
        mask = (torch.arange(width) < lengths[:, None]).long()
        columns = {"input_ids": ids, "attention_mask": mask, DECODER: inputs, LABELS: labels}
        return Examples(columns, lengths, _RAGGED)

    def _sources(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        rows: list[list[int]] = self._tokenizer(
            list(texts), truncation=True, max_length=self._config.max_tokens, padding=False
        )["input_ids"]
        # A text without tokens gets one: attention to nothing is NaN.
        return [row or [self._end] for row in rows]

    def _targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts to be written, the one that ends each among them."""
        if not texts:
            return []
        rows: list[list[int]] = self._tokenizer(text_target=list(texts), padding=False)["input_ids"]
        return [row if row[-1:] == [self._end] else [*row, self._end] for row in rows]

    def _refuse_marks(self, *columns: Sequence[str]) -> None:
        """Refuse text that would be read as the end of a text, or as padding.

        Raises:
            DataError: naming each such record.
        """
        problems = []
        for number, texts in enumerate(zip(*columns, strict=True), start=1):
            found = next(
                (m for m in self._tokenizer.all_special_tokens if any(m in one for one in texts)),
                None,
            )
            if found is not None:
                problems.append(
                    f"Record {number}: its text holds {found!r}, by which the backbone tells where"
                    " texts begin and end; take it out."
                )
        if problems:
            raise DataError(problems)

    # --- what records hold

    def count_tokens(self, *columns: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts to write from, before they are cut."""
        return count_tokens(self._tokenizer, columns[0])

    def record_notes(self, records: Dataset) -> list[str]:
        """Tell how many texts to be written are cut, and what of them the tokenizer lacks."""
        (column,) = self._config.target_columns
        rows = self._targets([str(text) for text in records[column][:] if text is not None])
        cut, total = sum(len(row) > self._most for row in rows), sum(map(len, rows))
        nothing = self._tokenizer.unk_token_id
        unknown = 0 if nothing is None else sum(row.count(nothing) for row in rows)
        notes = []
        if cut:
            lost = sum(max(0, len(row) - self._most) for row in rows) / total
            notes.append(
                f"Column {column}: {cut} of {len(rows)} texts to be written are cut at"
                f" task.outcome.max_tokens={self._most}, which loses {lost:.0%} of their tokens;"
                " neither learnt nor scored is what comes later: raise it if that matters."
            )
        if unknown:
            notes.append(
                f"Column {column}: the tokenizer knows no word for {unknown / total:.1%} of the"
                " tokens to be written, which count as wrong whatever is written there; choose a"
                " backbone of this language if these are many."
            )
        return notes

    # --- what a model makes of them

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return what each record adds, shape [b, w]: by its tokens, and by what was written."""
        by_tokens = self._texts.tally(outputs, batch[LABELS])
        counts = [
            [*bleu_counts(written, wanted), *chrf_counts(written, wanted)]
            for written, wanted in zip(
                map(self._written, written_tokens(outputs)), self._wanted(batch), strict=True
            )
        ]
        by_text = torch.tensor(counts, dtype=torch.float64, device=by_tokens.device)
        return torch.cat([by_tokens, by_text], dim=1)

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return the texts that the model wrote by itself."""
        return {PREDICTION: [self._written(ids) for ids in written_tokens(outputs)]}

    @functools.cached_property
    def _words(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_vocab().values())

    def _written(self, ids: Sequence[int]) -> str:
        # A model may have more outputs than there are words, and some tokenizers raise at those: a
        # refusal that follows from a record would leave without noise.
        known = [token for token in ids if token in self._words]
        return str(self._tokenizer.decode(known, skip_special_tokens=True)).strip()

    def _wanted(self, batch: Batch) -> list[str]:
        """Return the texts to be written, as the tokenizer knows them and as far as they are cut.

        A word that it does not know stays as its mark, so that it counts as one that is missed.
        """
        nothing, marks = self._tokenizer.unk_token_id, set(self._tokenizer.all_special_ids)
        texts = []
        for row in batch[LABELS].tolist():
            kept = [
                token for token in row if token >= 0 and (token == nothing or token not in marks)
            ]
            texts.append(str(self._tokenizer.decode(kept, skip_special_tokens=False)).strip())
        return texts


__all__ = ["DECODER", "SequenceToSequence"]
