"""In which group a record is follows from its own value, and everybody is in one."""

import pytest
from datasets import Dataset

from confide.client.records.subgroups import codes_of
from confide.errors import DataError
from confide.metrics.subgroups.groups import Subgroups

AGE = Subgroups(column="age", edges=(40.0, 60.0), missing_values=("0",))
SEX = Subgroups(column="sex", categories=("Female", "Male"))
PUMP = Subgroups(column="pump", categories=("0", "1"))


def groups(told: Subgroups, values: list[str | None]) -> list[str]:
    codes = codes_of(Dataset.from_dict({told.column: values}), [told])
    return [told.names[code] for code in codes[:, 0]]


def test_bands_begin_at_their_lower_edge() -> None:
    assert groups(AGE, ["39.9", "40", "59", "60", "1e3", "-5"]) == [
        "under 40",
        "40 to under 60",
        "40 to under 60",
        "60 and over",
        "60 and over",
        "under 40",
    ]


@pytest.mark.parametrize("value", [None, "", " ", "unknown", "nan", "inf", "0", "4_0"])
def test_who_states_no_number_is_in_a_group_too(value: str | None) -> None:
    assert groups(AGE, ["50", value]) == ["40 to under 60", "not stated"]


def test_categories_are_the_same_however_they_are_written() -> None:
    assert groups(SEX, ["Male", " Female", "male", "X", None]) == [
        "Male",
        "Female",
        "not stated",
        "not stated",
        "not stated",
    ]
    assert groups(PUMP, ["1.0", "TRUE", "false", "2"]) == ["1", "1", "0", "not stated"]


def test_column_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="lack column sex"):
        codes_of(Dataset.from_dict({"age": ["1"]}), [AGE, SEX])


def test_two_edges_have_two_names() -> None:
    told = Subgroups(column="platelets", edges=(150000.01, 150000.02))
    assert len(set(told.names)) == len(told.names)
    assert told.names[1] == "150000.01 to under 150000.02"
