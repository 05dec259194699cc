"""Spans of words as one tag a word.

Tags are numbers here: 0 for no span, 1 + 2k where a span of type k begins, 2 + 2k where it goes on.
Whatever scheme records have becomes this one. A word that goes on where nothing began, or something
of another type did, begins a span, as it does to CoNLL's own evaluation and to seqeval.

Needs no torch.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

OUTSIDE = 0
ALL_OUTSIDE = "*"
"""Text in place of a list of tags: no word is in a span, however many there are."""
_SIGNS = {"bio": "BI", "bioes": "BIES", "bmes": "BMES"}
_BEGINS, _ENDS = "BS", "ES"


class Span(NamedTuple):
    """A span: its type, its first word, and the word after its last one."""

    type: int
    start: int
    end: int


class Tagged(NamedTuple):
    """The tags of a record, read.

    Attributes:
        tags: one a word; 0 for those that are unknown.
        unknown: raw tags that say nothing, or name no type of the schema.
        mended: words that go on where nothing of their type began, and so begin a span.
    """

    tags: tuple[int, ...]
    unknown: Sequence[str]
    mended: int


def read_tags(raw: Sequence[str], scheme: str, types: Sequence[str]) -> Tagged:
    """Read the tags of a record.

    Args:
        raw: as they are written, one a word; signs may be in lower case, types as the schema has
            them.
        scheme: ``bio``, ``bmes`` or ``bioes``.
        types: of spans.

    >>> read_tags(["B-PER", "E-PER", "S-LOC", "O", "M-PER"], "bmes", ["PER", "LOC"])
    Tagged(tags=(1, 2, 3, 0, 1), unknown=[], mended=1)
    """
    place = {name: number for number, name in enumerate(types)}
    tags: list[int] = []
    unknown, mended, going = [], 0, -1
    for text in raw:
        sign, _, name = text.strip().partition("-")
        sign, kind = sign.upper(), place.get(name)
        if kind is None or sign not in _SIGNS[scheme] or not sign:
            if text.strip().upper() != "O":
                unknown.append(text)
            tags.append(OUTSIDE)
            going = -1
            continue
        begins = sign in _BEGINS or going != kind
        mended += begins and sign not in _BEGINS
        tags.append(1 + 2 * kind + (not begins))
        going = -1 if sign in _ENDS else kind
    return Tagged(tuple(tags), unknown, mended)


def scheme_of(raw: Sequence[str], types: Sequence[str]) -> str | None:
    """Return the first scheme in which all of some tags say something; None for no scheme.

    >>> scheme_of(["E-PER", "S-LOC"], ["PER", "LOC"]), scheme_of(["PER"], ["PER"])
    ('bioes', None)
    """
    return next((one for one in _SIGNS if not read_tags(raw, one, types).unknown), None)


def spans_of(tags: Sequence[int], words: Sequence[int] | None = None) -> Iterator[Span]:
    """Yield the spans of a record, in their order.

    Args:
        tags: one a word.
        words: position of each of these words, ascending; those between them are in no span. None
            for all words of a record.

    >>> list(spans_of([1, 2, 4, 0, 2]))
    [Span(type=0, start=0, end=2), Span(type=1, start=2, end=3), Span(type=0, start=4, end=5)]
    """
    start = kind = end = -1
    for at, tag in zip(range(len(tags)) if words is None else words, tags, strict=True):
        goes_on = tag and tag % 2 == 0 and (tag - 1) // 2 == kind and at == end
        if not goes_on:
            if start >= 0:
                yield Span(kind, start, end)
            start, kind = (at, (tag - 1) // 2) if tag else (-1, -1)
        if tag:
            end = at + 1
    if start >= 0:
        yield Span(kind, start, end)


__all__ = ["ALL_OUTSIDE", "OUTSIDE", "Span", "Tagged", "read_tags", "scheme_of", "spans_of"]
