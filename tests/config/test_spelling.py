"""Names: which spellings are one, and what is said of two that look alike."""

import pytest

from confide.config.spelling import (
    canonical_name,
    difference,
    name_index,
    nearest,
    repeats,
    written,
)
from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig


@pytest.mark.parametrize(
    "spellings",
    [
        ("1", "1.0", "1.", "+1", " 1 ", "1.00"),
        ("0", "-0", "-0.0", "0.0"),
        ("true", "TRUE", "True"),
        ("100000000000000000000", "1e+20", "1E+20", "100000000000000000000.0", "1.0E20"),
        ("2.5", "2.50"),
        ("9007199254740993", "9007199254740993.0"),
        ("0.1", "0.10000000000000001"),
    ],
)
def test_spellings_of_one_name_are_one(spellings: tuple[str, ...]) -> None:
    assert len({canonical_name(one) for one in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("9007199254740993", "9007199254740992"),
        ("007", "7"),
        ("1e5", "100000"),
        ("12e45", "12e46"),
        ("1_0", "10"),
        ("nan", ""),
        ("a", "a "),
        ("Yes", "yes"),
        ("1e+400", "1e+401"),
        ("\uff11", "1"),
    ],
)
def test_names_that_differ_stay_apart(one: str, other: str) -> None:
    assert canonical_name(one) != canonical_name(other)


def test_truth_values_stand_for_0_and_1_where_there_is_nothing_else() -> None:
    assert name_index(["FALSE", "TRUE"]) == {"false": 0, "true": 1, "0": 0, "1": 1}
    assert name_index(["0", "1", "2"]) == {"0": 0, "1": 1, "2": 2}
    assert name_index(["1.0"]) == {"1": 0, "true": 0}


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("sex", "\u200bsex", "an invisible character (U+200B ZERO WIDTH SPACE)"),
        ("sex", "\ufeffsex", "an invisible character (U+FEFF ZERO WIDTH NO-BREAK SPACE)"),
        ("sex", "se\u00adx", "an invisible character (U+00AD SOFT HYPHEN)"),
        ("sex", "sex ", "spaces"),
        ("a b", "a\u00a0b", "spaces"),
        ("sex", "SEX", "upper and lower case"),
        ("caf\u00e9", "cafe\u0301", "the Unicode form of its characters (composed or not)"),
        ("sex", "\uff53\uff45\uff58", "full-width or other forms of characters"),
        ("sex", "se\u0445", "letters of another alphabet that look alike"),
        ("sex", "six", None),
        ("sex", "sex", None),
    ],
)
def test_why_two_names_differ_is_told(one: str, other: str, why: str | None) -> None:
    assert difference(one, other) == why
    assert difference(other, one) == why


def test_what_cannot_be_seen_is_written_as_an_escape() -> None:
    assert nearest("sex", ["age", "\u200bsex"]) == (
        "'sex' differs from '\\u200bsex' only by an invisible character (U+200B ZERO WIDTH SPACE)"
    )
    assert written("\u5e74\u9f84 a") == "'\u5e74\u9f84 a'"


def test_a_schema_with_one_value_in_two_spellings_is_refused() -> None:
    assert repeats(["1", "1.0"])
    column = ColumnConfig(kind="categorical", categories=["1", "1.0"])
    assert any("expected distinct values" in problem for problem in column.problems())
    task = TabularConfig(labels=["a", "b"], label_values={"1": "a", "1.0": "b"})
    assert any("two of them are one value" in problem for problem in task.problems())
