"""Canonical text: one way to write a value, whatever it was kept in."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.client.records.sources.formats import open_file
from confide.tasks.values import UnsupportedValueError, canonical_array, canonical_text, comparable


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (math.nan, None),
        (Decimal("NaN"), None),
        (pandas.NaT, None),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (2**70, str(2**70)),
        (63.0, "63"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (1e20, "1e+20"),
        (math.inf, "inf"),
        (Decimal("2.50"), "2.5"),
        (Decimal("3.00"), "3"),
        (Decimal("1E-7"), "1e-07"),
        (Decimal("0.12345678901234567891"), "0.12345678901234567891"),
        (date(2024, 2, 29), "2024-02-29"),
        (datetime(2024, 2, 29, 8, 30), "2024-02-29 08:30:00"),
        (datetime(2024, 2, 29, tzinfo=UTC), "2024-02-29 00:00:00+00:00"),
        (" 007 ", " 007 "),
        (["New York", 1.0, None, "\u00e9"], '["New York","1",null,"\u00e9"]'),
        ([], "[]"),
        ([{"b": 1.0, "a": "x", "c": None}], '[{"a":"x","b":"1"}]'),
        ([{"a": [{"b": True}, None]}], '[{"a":[{"b":"true"},null]}]'),
    ],
)
def test_value_has_one_text(value: object, text: str | None) -> None:
    assert canonical_text(value) == text


@pytest.mark.parametrize("value", [b"x", [[1]], {"a": 1}, timedelta(1), {1}])
def test_structures_are_refused_by_type(value: object) -> None:
    with pytest.raises(UnsupportedValueError, match=type(value).__name__):
        canonical_text(value)


def test_float32_is_written_as_short_as_it_means() -> None:
    values = pyarrow.array(numpy.array([0.1, 63, 1e-7], dtype="float32"))
    assert canonical_array(values).to_pylist() == ["0.1", "63", "1e-07"]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pyarrow.array([1.0, None, 1.0]), ["1", None, "1"]),
        (pyarrow.array([True, None]), ["true", None]),
        (pyarrow.array([None, None]), [None, None]),
        (pyarrow.array(["a", None], pyarrow.large_string()), ["a", None]),
        (pyarrow.array([datetime(2024, 1, 2)], pyarrow.timestamp("ns")), ["2024-01-02 00:00:00"]),
        (pyarrow.array([Decimal("1.20")]), ["1.2"]),
        (pyarrow.array([["a", None], None, []]), ['["a",null]', None, "[]"]),
        (pyarrow.array([[{"b": 1}, {"a": "x"}]]), ['[{"b":"1"},{"a":"x"}]']),
        (pyarrow.array([[1], [2]], pyarrow.large_list(pyarrow.int8())), ['["1"]', '["2"]']),
    ],
)
def test_columns_of_any_type_become_text(values: pyarrow.Array, texts: list[str | None]) -> None:
    assert canonical_array(values).to_pylist() == texts


@pytest.mark.parametrize("value", [b"x", [[1]], [b"x"], {"a": 1}, timedelta(1)])
def test_columns_of_other_types_are_refused(value: object) -> None:
    with pytest.raises(UnsupportedValueError):
        canonical_array(pyarrow.array([value]))


_CELLS = {
    "integer": st.lists(st.none() | st.integers(-(2**53) + 1, 2**53 - 1), min_size=1, max_size=6),
    "float": st.lists(
        st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6
    ),
    "truth": st.lists(st.none() | st.booleans(), min_size=1, max_size=6),
}


@pytest.mark.parametrize("kind", _CELLS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_csv_and_parquet_hold_the_same_records(kind: str, data: st.DataObject) -> None:
    values = data.draw(_CELLS[kind])
    dtype = {"integer": "Int64", "float": "float64", "truth": "boolean"}[kind]
    frame = pandas.DataFrame({"x": pandas.array(values, dtype=dtype), "n": range(len(values))})
    read = []
    with TemporaryDirectory() as folder:
        frame.to_csv(f"{folder}/x.csv", index=False)
        frame.to_parquet(f"{folder}/x.parquet")
        for name in ("x.csv", "x.parquet"):
            batches = list(open_file(Path(folder) / name, ("x", "n")).batches)
            read.append(
                [comparable(text) for text in pyarrow.concat_tables(batches)["x"].to_pylist()]
            )
    assert read[0] == read[1]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("63", "63.0"),
        ("-0.0", "0"),
        ("TRUE", "true"),
        ("False", "false"),
        ("", None),
        ("1e3", "1000"),
    ],
)
def test_texts_that_mean_the_same_compare_equal(left: str, right: str | None) -> None:
    assert comparable(left) == comparable(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("1_0", "10"), ("nan", None), ("inf", "Infinity"), ("Yes", "yes"), ("a", "a ")],
)
def test_texts_that_differ_stay_apart(left: str, right: str | None) -> None:
    assert comparable(left) != comparable(right)
