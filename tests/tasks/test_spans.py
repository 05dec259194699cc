"""Tags of every scheme become the same spans, and lists of words are read however they come."""

import numpy
import pytest
from seqeval.metrics.sequence_labeling import get_entities

from confide.config.tasks.token_classification import TokenClassificationConfig
from confide.tasks.spans.tagging import read_tags, scheme_of, spans_of
from confide.tasks.spans.words import items_of, list_text, words_of

TYPES = ["PER", "LOC", "geo-loc"]
NAMES = ["O", *(f"{sign}-{name}" for name in TYPES for sign in "BI")]


def spans(raw: str, scheme: str) -> list[tuple[str, int, int]]:
    read = read_tags(raw.split(), scheme, TYPES)
    return [(TYPES[one.type], one.start, one.end) for one in spans_of(read.tags)]


@pytest.mark.parametrize(
    ("scheme", "raw"),
    [
        ("bio", "B-PER I-PER B-PER O B-geo-loc"),
        ("bmes", "B-PER E-PER S-PER O S-geo-loc"),
        ("bioes", "B-PER E-PER S-PER O S-geo-loc"),
    ],
)
def test_schemes_write_the_same_spans(scheme: str, raw: str) -> None:
    assert spans(raw, scheme) == [("PER", 0, 2), ("PER", 2, 3), ("geo-loc", 4, 5)]
    assert read_tags(raw.split(), scheme, TYPES).mended == 0


@pytest.mark.parametrize(
    ("scheme", "raw", "mended"),
    [
        ("bio", "O I-PER I-PER", 1),
        ("bio", "B-PER I-LOC I-LOC", 1),
        ("bmes", "S-PER M-PER E-PER", 1),
        ("bmes", "B-PER E-PER E-PER", 1),
        ("bioes", "E-PER O I-LOC", 2),
    ],
)
def test_word_that_goes_on_where_nothing_began_begins_a_span(
    scheme: str, raw: str, mended: int
) -> None:
    read = read_tags(raw.split(), scheme, TYPES)
    assert read.mended == mended
    assert not read.unknown
    at = [number for number, tag in enumerate(read.tags) if tag]
    assert read.tags[at[0]] % 2 == 1


@pytest.mark.parametrize("raw", ["M-PER", "PER", "B-", "X-PER", "B-ORG", "-PER", "B-per", ""])
def test_unknown_tag_is_named(raw: str) -> None:
    assert read_tags([raw, "O"], "bio", TYPES).unknown == [raw]


def test_signs_may_be_in_lower_case() -> None:
    assert read_tags(["b-PER", "i-PER", "o", "B-LOC"], "bio", TYPES) == ((1, 2, 0, 3), [], 0)
    assert spans("b-PER e-PER s-LOC", "bioes") == spans("B-PER E-PER S-LOC", "bioes")


@pytest.mark.parametrize(
    ("raw", "scheme"),
    [("E-PER S-LOC", "bioes"), ("M-PER", "bmes"), ("B-PER O", "bio"), ("E-PER X-PER", None)],
)
def test_scheme_follows_from_tags(raw: str, scheme: str | None) -> None:
    assert scheme_of(raw.split(), TYPES) == scheme


def test_spans_are_those_of_seqeval() -> None:
    rng = numpy.random.default_rng(0)
    for _ in range(300):
        names = rng.choice(NAMES, rng.integers(1, 12)).tolist()
        own = [
            (TYPES[one.type], one.start, one.end - 1)
            for one in spans_of(read_tags(names, "bio", TYPES).tags)
        ]
        assert own == get_entities(names)


def test_word_without_a_tag_parts_a_span() -> None:
    assert [(one.start, one.end) for one in spans_of([1, 2, 2], words=[0, 1, 3])] == [
        (0, 2),
        (3, 4),
    ]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('["New","York"]', ["New", "York"]),
        ("New  York\t!", ["New", "York", "!"]),
        ("[1] New", ["[1]", "New"]),
        ("[1]", ["[1]"]),
        ("[]", []),
        ("", []),
        ('["a b",null,""]', ["a b", "", ""]),
        ("[broken", ["[broken"]),
    ],
)
def test_list_is_read_however_it_is_written(text: str, items: list[str]) -> None:
    assert items_of(text) == items
    assert items_of(list_text(items)) == items


def test_characters_are_words() -> None:
    config = TokenClassificationConfig(words="characters")
    assert words_of("海 钓。", config) == words_of('["海钓","。"]', config) == ["海", "钓", "。"]
