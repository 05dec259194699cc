"""How many tokens texts have, and how many of these a tokenizer knows no word for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from datasets import Dataset


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


__all__ = ["CountsTokens", "NotesRecords", "TokenCounts", "count_tokens"]
