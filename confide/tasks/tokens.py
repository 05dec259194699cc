"""Texts as tokens: how many they have, and what stays of one that is put into a template."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from datasets import Dataset

from confide.config.tasks.text_classification import PLACE
from confide.errors import ConfigError


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of some texts.

    Attributes:
        lengths: number of tokens of each text, special ones included and nothing cut.
        unknown: number of tokens that the tokenizer has no word for.
    """

    lengths: Sequence[int]
    unknown: int


@runtime_checkable
class CountsTokens(Protocol):
    """A task that reads texts and can say how many tokens they have."""

    def count_tokens(self, *columns: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts, or of pairs, at least one, before they are cut.

        Args:
            columns: texts; of pairs also the texts beside them.
        """


@runtime_checkable
class NotesRecords(Protocol):
    """A task that sees in records what no schema does, such as items that a catalogue lacks."""

    def record_notes(self, records: Dataset) -> list[str]:
        """List sentences that the owner of records that fit should read."""


def count_tokens(tokenizer: Any, *columns: Sequence[str]) -> TokenCounts:
    """Count the tokens of texts, or of pairs, at least one.

    Args:
        tokenizer: a Hugging Face tokenizer.
        columns: texts; of pairs also the texts beside them.
    """
    rows = tokenizer(*map(list, columns), verbose=False)["input_ids"]
    nothing = tokenizer.unk_token_id
    unknown = 0 if nothing is None else sum(row.count(nothing) for row in rows)
    return TokenCounts([len(row) for row in rows], unknown)


class Template:
    """Public words around texts, of which nothing is cut.

    Args:
        template: with a place for each text.
        tokenizer: a Hugging Face tokenizer, which says where in a text a token stands.
        max_tokens: tokens of a filled template, special ones included.

    Raises:
        ConfigError: if the template leaves no room for a text, or the tokenizer does not say where
            tokens stand.
    """

    def __init__(self, template: str, *, tokenizer: Any, max_tokens: int) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(
                f"task.template={template}: the backbone's tokenizer does not say where in a text"
                " a token stands, so that the template might be cut; leave it out."
            )
        # Words and names of places in turn
        self._parts = PLACE.split(template)
        self._tokenizer, self._most = tokenizer, max_tokens
        names = self._parts[1::2]
        words = len(tokenizer("".join(self._parts[::2]))["input_ids"])
        if words + len(names) > max_tokens:
            raise ConfigError(
                f"task.template={template}: its words alone are {words} tokens of"
                f" task.max_tokens={max_tokens}, which leaves no room for a text; raise"
                " task.max_tokens, or shorten the template."
            )

    def filled(self, *columns: Sequence[str]) -> list[str]:
        """Return the template filled with each text, or pair of texts."""
        return ["".join(self._pieces(row)) for row in zip(*columns, strict=True)]

    def encode(self, *columns: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each, of which texts that are too long lose their end.

        Args:
            columns: n texts, n >= 1; of pairs also the texts beside them.
        """
        filled = self.filled(*columns)
        rows: list[list[int]] = self._tokenizer(filled, verbose=False)["input_ids"]
        for index, row in enumerate(rows):
            if len(row) > self._most:
                texts = tuple(column[index] for column in columns)
                kept = self._kept(filled[index], list(self._spans(texts)))
                # Words beside a text may be more tokens than they are by themselves
                rows[index] = [row[place] for place in kept][: self._most]
        return rows

    def _pieces(self, texts: Sequence[str]) -> list[str]:
        """Return words and texts in turn; what a text says of places is not read."""
        pieces = list(self._parts)
        for place in range(1, len(pieces), 2):
            pieces[place] = texts[0 if pieces[place] == "text" else 1]
        return pieces

    def _spans(self, texts: Sequence[str]) -> Iterator[range]:
        """Yield where each text stands, in characters."""
        end = 0
        for number, piece in enumerate(self._pieces(texts)):
            if number % 2:
                yield range(end, end + len(piece))
            end += len(piece)

    def _kept(self, filled: str, spans: Sequence[range]) -> list[int]:
        """Return places of tokens that stay; of two texts the longer one is cut first."""
        encoded = self._tokenizer(filled, return_offsets_mapping=True, verbose=False)
        inside: list[list[int]] = [[] for _ in spans]
        places = encoded["offset_mapping"]
        for place, (start, end) in enumerate(places):
            # A token with a character of a text is the text's; special ones stand nowhere
            for span, own in zip(spans, inside, strict=True):
                if max(start, span.start) < min(end, span.stop):
                    own.append(place)
                    break
        dropped: set[int] = set()
        while len(places) - len(dropped) > self._most and any(inside):
            dropped.add(max(inside, key=len).pop())
        return [place for place in range(len(places)) if place not in dropped]


__all__ = ["CountsTokens", "NotesRecords", "Template", "TokenCounts", "count_tokens"]
