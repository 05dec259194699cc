"""Records that are words with a tag each, recognised by what their columns hold."""

import re
from collections import Counter
from typing import NamedTuple

from datasets import Dataset

from confide.client.records.drafting.drafted import Draft, Named
from confide.client.records.drafting.values import TOKEN_SIZES
from confide.config.outcomes.spans import SpansConfig
from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.tasks.spans.words import items_of

_TAG = re.compile(r"O|(?P<sign>[BIESM])-(?P<type>.+)")
_SHOWN = 2000
"""Records that are looked at for what a column is."""


class Tagged(NamedTuple):
    """Two columns of lists, word by word.

    Attributes:
        words: column of words.
        tags: column of their tags.
        types: types of spans, in the order of the alphabet.
        scheme: how tags write spans.
        longest: words of the longest record.
    """

    words: str
    tags: str
    types: list[str]
    scheme: str
    longest: int

    def task(self) -> TokenClassificationConfig:
        """Return the schema, with room for two tokens a word."""
        fits = (size for size in TOKEN_SIZES[1:] if size >= 2 * self.longest)
        return TokenClassificationConfig(
            words_column=self.words,
            outcome=SpansConfig(types=self.types, column=self.tags, scheme=self.scheme),
            max_tokens=next(fits, TOKEN_SIZES[-1]),
        )

    def choice(self) -> str:
        """Say what was chosen."""
        return (
            f"Spans of words in column {self.words}, by tags in column {self.tags}, written as"
            f" {self.scheme}; types are those that occur: name all that are possible"
        )


def find_tagged(records: Dataset, label: str | None) -> Tagged | None:
    """Find columns of words and of their tags; None where there are none.

    Args:
        records: all columns, as text.
        label: column of the tags, where a person names it.
    """
    lists = {
        name: [items_of(text or "") for text in records[name][:]]
        for name in records.column_names
        if _is_list(records[name][:_SHOWN])
    }
    for tags, rows in lists.items():
        signs: Counter[str] = Counter()
        types: set[str] = set()
        found = [_TAG.fullmatch(tag) for row in rows for tag in row]
        if not found or None in found or (label is not None and tags != label):
            continue
        for match in found:
            if match is not None and match["sign"]:
                signs[match["sign"]] += 1
                types.add(match["type"])
        lengths = list(map(len, rows))
        words = next(
            (name for name in lists if name != tags and list(map(len, lists[name])) == lengths),
            None,
        )
        if words is not None and types:
            scheme = "bmes" if "M" in signs else "bioes" if signs.keys() & {"E", "S"} else "bio"
            # Not by how often: a draft may travel.
            return Tagged(words, tags, sorted(types), scheme, max(lengths))
    return None


def draft_spans(records: Dataset, tagged: Tagged, named: Named) -> Draft:
    """Draft a task of words with a tag each."""
    documents = set(records["document"][:]) if "document" in records.column_names else set()
    return Draft(
        task=tagged.task(),
        records=len(records),
        choices=[tagged.choice()],
        id_column=named.identifier,
        group_column="document" if len(documents) > 1 else None,
        owners=len(documents),
    )


def _is_list(values: list[str | None]) -> bool:
    return bool(values) and all(value is not None and value[:1] == "[" for value in values)


__all__ = ["Tagged", "draft_spans", "find_tagged"]
