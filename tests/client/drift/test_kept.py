"""What is kept of a variable."""

import numpy
import pytest

from confide.client.drift.kept import (
    MISSING,
    MOST_VALUES,
    UNSEEN,
    Categories,
    Numbers,
    cells_kept,
    column_kept,
    numbers_of,
    unusable_rows,
)
from confide.config.tasks.columns import ColumnConfig
from confide.held import FILE, Held
from confide.tasks.schema import read_column

RNG = numpy.random.default_rng(0)
AGE = ColumnConfig(minimum=0.0, maximum=100.0, missing_values=["-1"])
PAIN = ColumnConfig(kind="categorical", categories=["none", "some"])


def test_a_column_of_numbers_keeps_what_is_missing_and_what_is_no_number() -> None:
    read = read_column("age", AGE, ["30", "", "-1", "old", "200"])
    kept = column_kept(AGE, read, RNG)
    assert isinstance(kept, Numbers)
    assert kept.values.tolist() == [30.0, 200.0]
    assert (kept.records, kept.missing, kept.odd, kept.present) == (5, 2, 1, 2)
    assert unusable_rows(AGE, read).tolist() == [False, False, False, True, False]


def test_a_category_that_the_schema_refuses_is_counted_as_unseen() -> None:
    read = read_column("pain", PAIN, ["some", "much", "", "none"])
    kept = column_kept(PAIN, read, RNG)
    assert isinstance(kept, Categories)
    assert kept.counts == {"none": 1, "some": 1, MISSING: 1, UNSEEN: 1}
    assert unusable_rows(PAIN, read).tolist() == [False, True, False, False]


def test_of_many_numbers_a_sorted_sample_is_kept() -> None:
    kept = numbers_of(RNG.normal(size=3 * MOST_VALUES), RNG, missing=7)
    assert len(kept.values) == MOST_VALUES
    assert (numpy.diff(kept.values) >= 0).all()
    assert kept.present == 3 * MOST_VALUES


def test_cells_decide_their_form() -> None:
    numbers = cells_kept([str(n / 2) for n in range(20)], RNG)
    codes = cells_kept(["1", "2.0", "1", None], RNG)
    texts = cells_kept([f"text {'x' * n}" for n in range(40)], RNG)
    assert isinstance(numbers, Numbers)
    assert not numbers.measures_length
    assert isinstance(codes, Categories)
    assert codes.counts == {"1": 2, "2": 1, MISSING: 1}
    assert isinstance(texts, Numbers)
    assert texts.measures_length
    assert texts.values[0] == len("text ")


def test_a_word_among_codes_leaves_the_codes_as_they_are() -> None:
    kept = cells_kept(["1", "1.0", "x", float("nan"), ""], RNG, like=Categories({"1": 2}))
    assert isinstance(kept, Categories)
    assert kept.counts == {"1": 2, "x": 1, MISSING: 2}


@pytest.mark.parametrize("cells", [["a", "b"], [1.5, 2.5], ["a long text", None]])
def test_cells_take_the_form_of_the_reference(cells: list[object]) -> None:
    for like in (numbers_of(numpy.ones(3), RNG), Categories({"a": 1})):
        assert type(cells_kept(cells, RNG, like=like)) is type(like)


def test_files_are_not_kept() -> None:
    held = Held(sha256="ab", findings=(), kind=FILE, place="/a.png").text
    assert cells_kept([held], RNG) is None
