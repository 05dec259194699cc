"""Rows by hand: public ranges in, numbers in [-2, 2] out, and every misfit named."""

import re

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.config.fields import range_problems
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.errors import DataError
from confide.tasks.tabular import FEATURES, Tabular

LINEAR = NumericConfig(encoding="linear")
AGE = ColumnConfig(minimum=20.0, maximum=90.0)
CHOL = ColumnConfig(minimum=100.0, maximum=500.0, missing_values=["0", "?"], indicator=True)
CP = ColumnConfig(kind="categorical", categories=["none", "some", "much"])
FBS = ColumnConfig(
    kind="categorical", categories=["TRUE", "FALSE"], missing_values=["-"], indicator=True
)


def make(**columns: ColumnConfig) -> Tabular:
    return Tabular(
        TabularConfig(
            labels=["absent", "present"], label_column="num", columns=columns, numeric=LINEAR
        )
    )


def encode(column: ColumnConfig, values: list[str | None] | list[float]) -> list[list[float]]:
    records = Dataset.from_dict({"x": values, "num": ["absent"] * len(values)})
    rows: list[list[float]] = make(x=column).encode(records).columns[FEATURES].tolist()
    return rows


def label(config: TabularConfig, values: list[str | None] | list[int]) -> list[int]:
    records = Dataset.from_dict({"x": ["1"] * len(values), "num": values})
    codes: list[int] = Tabular(config).encode(records).labels.tolist()
    return codes


# --- numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [("20", -2), ("90", 2), ("55", 0), ("37.5", -1), (" 55 ", 0), ("5.5e1", 0)],
)
def test_range_is_encoded_from_minus_2_to_2(value: str, expected: float) -> None:
    assert encode(AGE, [value]) == [[expected]]


@pytest.mark.parametrize(
    ("value", "expected"), [("19", -2), ("-1000", -2), ("91", 2), ("1e300", 2)]
)
def test_values_outside_the_range_are_clipped(value: str, expected: float) -> None:
    assert encode(AGE, [value]) == [[expected]]


@pytest.mark.parametrize("missing", [None, "", "  ", "0", " 0 ", "0.0", "0.00", "-0", "?"])
def test_missing_number_is_the_middle_with_its_indicator_on(missing: str | None) -> None:
    assert encode(CHOL, [missing, "400"]) == [[0, 1], [1, 0]]


def test_zero_is_a_number_where_the_schema_does_not_call_it_missing() -> None:
    assert encode(AGE, ["0"]) == [[-2]]


def test_missing_number_without_indicator_is_the_middle() -> None:
    assert encode(AGE, [None, "90"]) == [[0], [2]]


def test_numbers_may_come_as_numbers() -> None:
    assert encode(CHOL, [0.0, 500.0]) == [[0, 1], [2, 0]]


@pytest.mark.parametrize("wrong", ["abc", "12,5", "nan", "1 2"])
def test_text_where_a_number_belongs_is_counted(wrong: str) -> None:
    with pytest.raises(
        DataError, match="Column x: 1 of 3 values are not numbers; correct them or list them"
    ):
        encode(AGE, ["30", wrong, None])


# --- categories


def test_categories_are_one_hot_in_the_order_of_the_schema() -> None:
    assert encode(CP, ["much", "none", " some "]) == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_missing_category_is_zero_with_its_indicator_on() -> None:
    assert encode(FBS, [None, "-", "", "FALSE"]) == [[0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 1, 0]]
    assert encode(CP, [None]) == [[0, 0, 0]]


def test_unknown_category_is_refused() -> None:
    with pytest.raises(
        DataError,
        match=(
            "Column x: 2 unknown categories in 3 of 4 values, such as 'heaps'; the schema knows"
            " none, some"
        ),
    ):
        encode(CP, ["some", "lots", "heaps", "lots"])


def test_category_must_match_its_case() -> None:
    with pytest.raises(DataError, match="1 unknown category in 1 of 1 values, such as 'Some'"):
        encode(CP, ["Some"])


@pytest.mark.parametrize("true", ["TRUE", "True", "true"])
def test_truth_values_match_whatever_their_case(true: str) -> None:
    assert encode(FBS, [true]) == [[1, 0, 0]]


# --- rows


def test_columns_stand_in_the_order_of_the_schema() -> None:
    task = make(age=AGE, chol=CHOL, cp=CP)
    records = Dataset.from_dict(
        {"cp": ["some"], "num": ["present"], "chol": ["300"], "age": ["90"], "other": ["?"]}
    )
    examples = task.encode(records)
    assert examples.columns[FEATURES].tolist() == [[2, 0, 0, 0, 1, 0]]
    assert examples.columns[FEATURES].dtype == torch.float32
    assert examples.labels.tolist() == [1]
    assert task.num_inputs == 6


def test_no_records_are_encoded_as_no_rows() -> None:
    records = Dataset.from_dict({"age": ["30"], "cp": ["some"], "num": ["absent"]}).select([])
    assert make(age=AGE, cp=CP).encode(records).columns[FEATURES].shape == (0, 4)


_ROW = st.tuples(
    st.one_of(st.none(), st.sampled_from(["0", "0.0", "100", "250", "7000"])),
    st.sampled_from(["TRUE", "FALSE", "-"]),
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(rows=st.lists(_ROW, min_size=1, max_size=5))
def test_encoding_of_a_record_depends_on_no_other_record(
    rows: list[tuple[str | None, str]],
) -> None:
    columns = {
        "chol": [r[0] for r in rows],
        "fbs": [r[1] for r in rows],
        "num": ["absent"] * len(rows),
    }
    task, records = make(chol=CHOL, fbs=FBS), Dataset.from_dict(columns)
    alone = [task.encode(records.select([i])).columns[FEATURES] for i in range(len(rows))]
    assert task.encode(records).columns[FEATURES].equal(torch.cat(alone))


def test_every_missing_column_is_named() -> None:
    with pytest.raises(
        DataError, match=re.escape("lack column age, cp; they have chol, num. Rename a column")
    ):
        make(age=AGE, chol=CHOL, cp=CP).encode(
            Dataset.from_dict({"chol": ["1"], "num": ["absent"]})
        )


def test_every_wrong_column_is_named_at_once() -> None:
    records = Dataset.from_dict({"age": ["old"], "cp": ["lots"], "num": ["maybe"]})
    with pytest.raises(
        DataError,
        match=r"(?s)3 problems.*Column age: 1 of 1 .*Column cp: 1 unknown.*Column num: unknown",
    ) as caught:
        make(age=AGE, cp=CP).encode(records)
    assert caught.value.problems == make(age=AGE, cp=CP).check(records)


# --- labels

PLAIN = TabularConfig(labels=["absent", "present"], label_column="num", columns={"x": AGE})
MAPPED = TabularConfig(
    labels=["absent", "present"],
    label_column="num",
    label_values={"0": "absent", "1": "present", "2": "present"},
    columns={"x": AGE},
)


def test_labels_are_indices_of_class_names() -> None:
    assert label(PLAIN, ["present", "absent", "present"]) == [1, 0, 1]


def test_raw_labels_are_mapped_to_class_names() -> None:
    assert label(MAPPED, ["2", "0", "1"]) == label(MAPPED, [2, 0, 1]) == [1, 0, 1]


@pytest.mark.parametrize("null", [None, ""])
def test_null_label_is_refused(null: str | None) -> None:
    with pytest.raises(DataError, match="Column num: 1 of 2 labels are null; label or remove"):
        label(PLAIN, ["absent", null])


def test_labels_that_are_truth_values_match_whatever_their_case() -> None:
    config = TabularConfig(
        labels=["no", "yes"],
        label_column="num",
        label_values={"FALSE": "no", "TRUE": "yes"},
        columns={"x": AGE},
    )
    assert label(config, ["True", "false"]) == [1, 0]


@pytest.mark.parametrize(("config", "known"), [(PLAIN, "absent, present"), (MAPPED, "0, 1, 2")])
def test_unknown_label_is_refused(config: TabularConfig, known: str) -> None:
    with pytest.raises(
        DataError, match=rf"unknown label '7' \(2 records\).*the plan knows {known}\. Correct"
    ):
        label(config, ["7", "7"])


def test_missing_label_column_is_refused() -> None:
    with pytest.raises(DataError, match="lack column num; they have x"):
        Tabular(PLAIN).encode(Dataset.from_dict({"x": ["30"]}))


# --- synthetic


def test_synthetic_rows_look_like_encoded_ones() -> None:
    task = make(age=AGE, chol=CHOL)
    examples = task.synthetic(50, torch.Generator().manual_seed(0))
    features = examples.columns[FEATURES]
    assert features.shape == (50, task.num_inputs)
    assert features.abs().max() <= 2
    assert set(examples.labels.tolist()) == {0, 1}


# --- encodings of the schema, and the length of rows

LAB = ColumnConfig(minimum=0.0, maximum=530.0, indicator=True)


def tabular(numeric: NumericConfig, **columns: ColumnConfig) -> Tabular:
    return Tabular(TabularConfig(labels=["absent", "present"], columns=columns, numeric=numeric))


def rows_of(task: Tabular, **columns: list[str | None]) -> torch.Tensor:
    count = len(next(iter(columns.values())))
    records = Dataset.from_dict({**columns, "label": ["absent"] * count})
    return task.encode(records).columns[FEATURES]


def test_numbers_are_piecewise_linear_by_default() -> None:
    task = tabular(NumericConfig(bins=2), x=ColumnConfig(minimum=0.0, maximum=4.0))
    assert task.num_inputs == 2
    rows = rows_of(task, x=["0", "1", "2", "3", "4"]).tolist()
    assert rows == [[-1, -1], [0, -1], [1, -1], [1, 0], [1, 1]]


def test_a_column_may_say_otherwise_than_its_task() -> None:
    task = tabular(
        NumericConfig(bins=4),
        plain=ColumnConfig(minimum=0.0, maximum=1.0, encoding="linear"),
        by_interval=ColumnConfig(minimum=0.0, maximum=18.0, edges=[0.5, 1.2, 2.7, 5.0]),
        cells=LAB,
    )
    assert task.num_inputs == 1 + 5 + 4 + 1
    (row,) = rows_of(task, plain=["1"], by_interval=["1.2"], cells=[None]).tolist()
    assert row == [2, 1, 1, -1, -1, -1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("encoding", ["piecewise", "one_hot", "periodic", "log", "asinh", "linear"])
@pytest.mark.parametrize("scaling", ["column", "row"])
def test_scaled_rows_are_no_longer_than_1(encoding: str, scaling: str) -> None:
    columns = {name: LAB for name in "abcdef"} | {"cp": CP, "fbs": FBS}
    task = tabular(NumericConfig(encoding=encoding, scaling=scaling), **columns)
    numbers = ["0", "0.1", "1.4", "77", "530", None]
    texts = {"cp": ["none", None, "much"] * 2, "fbs": ["TRUE", "-", "FALSE"] * 2}
    rows = rows_of(task, **{name: numbers for name in "abcdef"}, **texts).double()
    if scaling == "row":
        assert torch.linalg.vector_norm(rows, dim=1).tolist() == pytest.approx([1] * 6, abs=2e-6)
        assert torch.linalg.vector_norm(rows, dim=1).max() <= 1
    first = rows[:, : task.num_inputs // 6 - 1]
    assert torch.linalg.vector_norm(first, dim=1).max() <= 1 + 1e-6


@pytest.mark.parametrize("encoding", ["piecewise", "one_hot", "periodic", "log", "asinh"])
def test_scaled_records_depend_on_no_other_record(encoding: str) -> None:
    numeric = NumericConfig(encoding=encoding, scaling="row")
    task = tabular(numeric, a=LAB, b=LAB, cp=CP)
    values = {
        "a": [str(0.37 * i**2) for i in range(17)],
        "b": [None if i % 5 == 0 else str(1 / (i + 1)) for i in range(17)],
        "cp": ["some"] * 17,
    }
    together = rows_of(task, **values)
    alone = [rows_of(task, **{k: v[i : i + 1] for k, v in values.items()}) for i in range(17)]
    assert together.equal(torch.cat(alone))


def test_a_row_without_a_value_stays_empty() -> None:
    numeric = NumericConfig(scaling="row")
    task = tabular(numeric, x=ColumnConfig(minimum=0.0, maximum=1.0))
    assert rows_of(task, x=[None, "0.3"])[0].abs().sum() == 0


# --- categories that nobody named

OTHER = ColumnConfig(kind="categorical", categories=["a", "b"], unseen="other", indicator=True)
MISSING = ColumnConfig(kind="categorical", categories=["a", "b"], unseen="missing", indicator=True)


def test_unnamed_categories_may_be_one_of_their_own() -> None:
    assert encode(OTHER, ["b", "rare", None, "new"]) == [
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
    ]


def test_unnamed_categories_may_be_missing() -> None:
    assert encode(MISSING, ["b", "rare", None]) == [[0, 1, 0], [0, 0, 1], [0, 0, 1]]


# --- schemas that contradict themselves


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ({"edges": [5.0, 2.0]}, "ascending"),
        ({"edges": [5.0, 5.0]}, "ascending"),
        ({"edges": [0.0, 5.0]}, "between minimum=0.0 and maximum=10.0"),
        ({"edges": [5.0, 10.0]}, "between"),
        ({"edges": [5.0], "encoding": "linear"}, "has no cells"),
        ({"encoding": "standardised", "mean": 1.0}, "deviation: encoding=standardised needs it"),
        ({"mean": 1.0}, "mean: encoding=piecewise does not use it"),
        ({"unseen": "other"}, "unseen=other is a setting of categorical columns"),
        ({"encoding": "fourier"}, "encoding=fourier: expected one of piecewise"),
        (
            {"encoding": "standardised", "mean": 1.0, "deviation": 0.0},
            "deviation=0.0: expected > 0",
        ),
    ],
)
def test_an_encoding_that_cannot_be_is_told(column: dict[str, object], problem: str) -> None:
    config = TabularConfig(
        labels=["no", "yes"],
        columns={"x": ColumnConfig(**{"minimum": 0.0, "maximum": 10.0, **column})},  # type: ignore[arg-type]
    )
    assert problem in " ".join(range_problems(config))


def test_edges_are_no_setting_of_categories() -> None:
    column = ColumnConfig(kind="categorical", categories=["a"], edges=[1.0])
    config = TabularConfig(labels=["no", "yes"], columns={"x": column})
    assert "columns.x.edges=[1.0] is a setting of numeric columns" in " ".join(
        range_problems(config)
    )
