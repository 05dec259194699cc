"""Texts as tokens that a decoder writes: what it reads, what is learnt, what was written.

What a decoder reads is the text to be written, one place later and the model's own start before it:
made here, since a model that makes it itself does so from labels, which a private step hands to no
model. What stands behind a text's end in a decoder's row is read by nothing that is learnt.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from confide.config.outcomes.text import TextConfig
from confide.config.tasks.task import TaskConfig
from confide.errors import DataError, ModelError
from confide.metrics.outcomes.texts import bleu_counts, chrf_counts
from confide.metrics.outcomes.transcripts import edit_counts
from confide.tasks.outcomes.answer import NOTHING
from confide.tasks.outcomes.text import Text, written_tokens
from confide.tasks.task import LABELS, Batch

log = logging.getLogger(__name__)

DECODER = "decoder_input_ids"
"""What a decoder reads, shape [n, K]: its start, then the text to be written but its last token."""


class WrittenTexts:
    """What a decoder writes.

    Args:
        config: whose outcome says where texts are cut.
        tokenizer: a Hugging Face tokenizer; some, such as Marian's, have other words for the texts
            to be written.
        settings: of transformers, what ``config.json`` says of the model.

    Raises:
        ModelError: if these do not say where a text begins and ends.
    """

    def __init__(self, config: TaskConfig, *, tokenizer: Any, settings: Any) -> None:
        assert isinstance(config.outcome, TextConfig)
        self._tokenizer, self._most = tokenizer, config.outcome.max_tokens
        self._column = config.outcome.column
        self._texts = Text(config.outcome, config.labelling)
        start: Any = getattr(settings, "decoder_start_token_id", None)
        self._start, self.end = start, tokenizer.eos_token_id
        if not isinstance(start, int):
            raise ModelError(
                "The backbone's config.json has no decoder_start_token_id, so that nothing says"
                " what a decoder begins with; choose a sequence-to-sequence model, or add it."
            )
        ends = getattr(settings, "eos_token_id", None)
        if self.end is None or self.end not in (ends if isinstance(ends, list) else [ends]):
            raise ModelError(
                f"The backbone's tokenizer ends a text with token {self.end}, its config.json says"
                f" eos_token_id={ends}; bring the tokenizer that belongs to the model."
            )

    def columns(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokenise texts to be written.

        Returns:
            ``decoder_input_ids`` and ``labels``, the tokens to be written, of shape [n, K].
        """
        targets = self._targets(texts)
        cut = sum(len(row) > self._most for row in targets)
        if cut:
            log.info("%d of %d texts to be written are cut.", cut, len(targets))
        (places,) = self._texts.target_shape
        labels = torch.full((len(targets), places), NOTHING)
        # The start is a token of every model; some have none to pad with
        inputs = torch.full((len(targets), places), self._start)
        for place, target in enumerate(row[: self._most] for row in targets):
            labels[place, : len(target)] = torch.tensor(target)
            inputs[place, 1 : len(target)] = torch.tensor(target[:-1], dtype=torch.int64)
        return {DECODER: inputs, LABELS: labels}

    def _targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts to be written, the one that ends each among them."""
        if not texts:
            return []
        rows: list[list[int]] = self._tokenizer(text_target=list(texts), padding=False)["input_ids"]
        # Whisper's tokenizer writes the start itself, where others leave it to the model
        rows = [row[1:] if row[:1] == [self._start] else row for row in rows]
        return [row if row[-1:] == [self.end] else [*row, self.end] for row in rows]

    def refuse_marks(self, *columns: Sequence[str]) -> None:
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

    def notes(self, texts: Sequence[str]) -> list[str]:
        """Tell how many texts to be written are cut, and what of them the tokenizer lacks."""
        rows = self._targets(texts)
        cut, total = sum(len(row) > self._most for row in rows), sum(map(len, rows))
        nothing = self._tokenizer.unk_token_id
        unknown = 0 if nothing is None else sum(row.count(nothing) for row in rows)
        notes = []
        if cut:
            lost = sum(max(0, len(row) - self._most) for row in rows) / total
            notes.append(
                f"Column {self._column}: {cut} of {len(rows)} texts to be written are cut at"
                f" task.outcome.max_tokens={self._most}, which loses {lost:.0%} of their tokens;"
                " neither learnt nor scored is what comes later: raise it if that matters."
            )
        if unknown:
            notes.append(
                f"Column {self._column}: the tokenizer knows no word for {unknown / total:.1%} of"
                " the tokens to be written, which count as wrong whatever is written there; choose"
                " a backbone of this language if these are many."
            )
        return notes

    # --- what a model makes of them

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return what each record adds, shape [b, w]: by its tokens, and by what was written."""
        by_tokens = self._texts.tally(outputs, batch[LABELS])
        counts = [
            [
                *bleu_counts(written, wanted),
                *chrf_counts(written, wanted),
                *edit_counts(written, wanted),
            ]
            for written, wanted in zip(self.written(outputs), self._wanted(batch), strict=True)
        ]
        by_text = torch.tensor(counts, dtype=torch.float64, device=by_tokens.device)
        return torch.cat([by_tokens, by_text], dim=1)

    def written(self, outputs: Tensor) -> list[str]:
        """Return the texts that the model wrote by itself."""
        return [self._text(ids) for ids in written_tokens(outputs)]

    @functools.cached_property
    def _words(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_vocab().values())

    def _text(self, ids: Sequence[int]) -> str:
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


__all__ = ["DECODER", "WrittenTexts"]
