"""Words with a tag each, as tokens of a pretrained encoder.

Words are split one by one, so that a word's tokens do not depend on its neighbours, and the first
of them carries the word's tag. A word beyond ``max_tokens`` has no token, nor has one of which the
tokenizer makes nothing; spans with such a word count as missed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy
import torch
from datasets import Dataset
from torch import Tensor

from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.errors import DataError
from confide.tasks.labelled import Labelled
from confide.tasks.made.making import MOST_VALUES
from confide.tasks.outcomes.spans import END, MISSED, NO_LABEL, PREDICTION, TAG, TAGS, WORD, Spans
from confide.tasks.schema import read
from confide.tasks.spans.tagging import OUTSIDE, spans_of
from confide.tasks.spans.words import list_text, words_of
from confide.tasks.task import LABELS, Batch, Examples, padded_length
from confide.tasks.tokens import TokenCounts

RAGGED = {"input_ids": 0, "attention_mask": 0, LABELS: NO_LABEL}
_GOLDEN = 2_654_435_761
"""2^32 over the golden ratio: code points that are neighbours come to lie far apart."""


class _Row(NamedTuple):
    """A record's tokens, and for each the word that it is the first token of, else -1."""

    ids: list[int]
    words: list[int]


class TokenClassification(Labelled):
    """Tokens in, one tag a word out.

    Args:
        config: columns, types, scheme, length.
        tokenizer: a Hugging Face tokenizer.
    """

    def __init__(self, config: TokenClassificationConfig, *, tokenizer: Any) -> None:
        super().__init__(config)
        self._config, self._tokenizer = config, tokenizer
        self._spans = Spans(config.outcome, config.labelling)  # type: ignore[arg-type]
        self._names = config.outcome.output_names(config.labelling)
        self._before, self._after = _special_ids(tokenizer)
        self._blank = " " if _needs_blank(tokenizer) else ""
        self._known: dict[str, list[int]] = {}
        special = set(tokenizer.all_special_ids)
        self._hashed = sorted(set(tokenizer.get_vocab().values()) - special)

    @property
    def tokenizer(self) -> Any:
        """What makes tokens of texts, and names them."""
        return self._tokenizer

    def encode(self, records: Dataset) -> Examples:
        """Tokenise: ``input_ids``, ``attention_mask`` [n, t] and ``labels`` [n, t, 3 + K].

        Raises:
            DataError: naming every problem.
        """
        found = self.check(records)
        if found:
            raise DataError(found)
        tags = read(records, self._config).targets.values
        texts = [words_of(text, self._config) for text in records[self._config.words_column][:]]
        self._learn(texts)
        rows = [self._row(words) for words in texts]
        return self._examples(rows, tags)

    def _examples(self, rows: Sequence[_Row], tags: Any) -> Examples:
        lengths = torch.tensor([len(row.ids) for row in rows], dtype=torch.int64)
        width = padded_length(int(lengths.max())) if rows else 1
        _, numbers = self._spans.target_shape
        if len(rows) * width * numbers > MOST_VALUES:
            raise DataError(
                f"{len(rows):,} records of up to {width} tokens, with {numbers - MISSED} types in"
                f" task.outcome.types, hold more than {MOST_VALUES:,} values; lower"
                " task.max_tokens, or name fewer types."
            )
        padding = self._tokenizer.pad_token_id or 0
        ids = torch.full((len(rows), width), padding, dtype=torch.int64)
        labels = numpy.full((len(rows), width, numbers), NO_LABEL, dtype=numpy.int32)
        for record, (row, own) in enumerate(zip(rows, tags, strict=True)):
            ids[record, : len(row.ids)] = torch.tensor(row.ids)
            self._write_target(labels[record], row, own)
        mask = (torch.arange(width) < lengths[:, None]).long()
        columns = {"input_ids": ids, "attention_mask": mask, LABELS: torch.from_numpy(labels)}
        return Examples(columns, lengths, RAGGED)

    def _write_target(self, target: Any, row: _Row, tags: Sequence[int]) -> None:
        place = {word: at for at, word in enumerate(row.words) if word >= 0}
        target[: len(row.ids), MISSED:] = 0
        for word, at in place.items():
            target[at, :MISSED] = (tags[word] if word < len(tags) else OUTSIDE, word, -1)
        for span in spans_of(tags):
            if all(word in place for word in range(span.start, span.end)):
                target[place[span.start], END] = span.end
            else:
                target[0, MISSED + span.type] += 1

    def _row(self, words: Sequence[str]) -> _Row:
        room = self._config.max_tokens - len(self._before) - len(self._after)
        ids: list[int] = []
        firsts: list[int] = []
        for number, word in enumerate(words):
            tokens = self._known[word][: room - len(ids)]
            ids += tokens
            firsts += [number if at == 0 else -1 for at in range(len(tokens))]
        none = [-1] * len(self._before), [-1] * len(self._after)
        row = _Row([*self._before, *ids, *self._after], [*none[0], *firsts, *none[1]])
        # A record without tokens gets one: attention to nothing is NaN.
        return row if row.ids else _Row([self._tokenizer.pad_token_id or 0], [-1])

    def _learn(self, texts: Sequence[Sequence[str]]) -> None:
        """Look up the tokens of words that were not seen before."""
        new = sorted({word for words in texts for word in words if word not in self._known})
        if not new:
            return
        found = self._tokenizer(
            [self._blank + word for word in new], add_special_tokens=False, verbose=False
        )["input_ids"]
        self._known.update(zip(new, found, strict=True))
        unknown = self._tokenizer.unk_token_id
        if self._config.unknown == "hashed" and unknown is not None:
            for word, ids in zip(new, found, strict=True):
                if unknown in ids:
                    self._known[word] = [self._hash(sign, unknown) for sign in word]

    def _hash(self, sign: str, unknown: int) -> int:
        """Return the token of a character, one that its code point chooses where there is none."""
        token = self._tokenizer.convert_tokens_to_ids(sign)
        if token is not None and token != unknown:
            return int(token)
        chosen: int = self._hashed[ord(sign) * _GOLDEN % 2**32 % len(self._hashed)]
        return chosen

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count the tokens of records, before they are cut."""
        rows = [words_of(text, self._config) for text in texts]
        self._learn(rows)
        around, unknown = len(self._before) + len(self._after), self._tokenizer.unk_token_id
        tokens = [[token for word in row for token in self._known[word]] for row in rows]
        return TokenCounts(
            [len(row) + around for row in tokens],
            0 if unknown is None else sum(row.count(unknown) for row in tokens),
        )

    def tally(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return what each record adds, shape [b, w], float64."""
        return self._spans.tally(outputs, batch[LABELS])

    def predictions(self, outputs: Tensor, batch: Batch) -> Mapping[str, Sequence[object]]:
        """Return the tags of each record's words that have a token, by the words' places."""
        found = []
        for tags, target in zip(outputs.argmax(dim=-1).numpy(), batch[LABELS].numpy(), strict=True):
            there = target[:, TAG] != NO_LABEL
            places, own = target[there, WORD].tolist(), tags[there].tolist()
            found.append(dict(zip(places, own, strict=True)))
        return {TAGS: found}

    def completed(
        self, columns: Mapping[str, Sequence[Any]], records: Dataset
    ) -> dict[str, list[str]]:
        """Return predictions with what records alone hold: the words, and those without a token.

        Args:
            columns: of :meth:`predictions`.
            records: the same.

        Returns:
            ``prediction``: the spans as JSON, with type, first word, the word after the last, from
            0, and text; ``predicted_tags``: one a word.
        """
        spans, tags = [], []
        for text, known in zip(records[self._config.words_column][:], columns[TAGS], strict=True):
            words = words_of(text, self._config)
            own = [known.get(word, OUTSIDE) for word in range(len(words))]
            between = "" if self._config.words == "characters" else " "
            found = list(spans_of(own))
            spans.append(_spans_text(found, words, self._config.outcome, between))
            # As spans are read, whatever was predicted: what goes on where nothing began begins.
            names = ["O"] * len(words)
            for span in found:
                first, later = self._names[1 + 2 * span.type], self._names[2 + 2 * span.type]
                names[span.start : span.end] = [first] + [later] * (span.end - span.start - 1)
            tags.append(list_text(names))
        return {PREDICTION: spans, TAGS: tags}


def _spans_text(found: Sequence[Any], words: Sequence[str], outcome: Any, between: str) -> str:
    return json.dumps(
        [
            {
                "type": outcome.types[span.type],
                "start": span.start,
                "end": span.end,
                "text": between.join(words[span.start : span.end]),
            }
            for span in found
        ],
        ensure_ascii=False,
    )


def _special_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer puts before and behind a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def _needs_blank(tokenizer: Any) -> bool:
    """Tell whether a word has other tokens with a blank before it, which most words have."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    spaced = tokenizer(" a", add_special_tokens=False)["input_ids"]
    # In a sentence the second word is what counts.
    second = tokenizer("a a", add_special_tokens=False)["input_ids"][-len(spaced) :]
    return bool(spaced != bare and second == spaced)


__all__ = ["RAGGED", "TokenClassification"]
