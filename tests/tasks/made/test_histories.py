"""Interactions become histories: in the order of time, capped, with all that is left out told."""

import json

import pandas
import pytest
from datasets import Dataset

from confide.config.outcomes.next_item import NextItemConfig
from confide.config.tasks.recommendation import RecommendationConfig
from confide.tasks.made import histories as module
from confide.tasks.made.histories import make_histories, make_histories_to_predict
from confide.tasks.made.making import read_times

ROWS = [
    ("ann", "b", "2"),
    ("ann", "a", "1"),
    ("bob", "c", "1"),
    ("ann", "c", "3"),
    ("ann", "a", "4"),
]


def task(**settings: object) -> RecommendationConfig:
    return RecommendationConfig(outcome=NextItemConfig(), **settings)


def rows(table: list[tuple[object, ...]], *more: str) -> Dataset:
    names = ["user", "item", "time", *more]
    return Dataset.from_dict({name: [row[i] for row in table] for i, name in enumerate(names)})


def made(table: list[tuple[object, ...]], **settings: object) -> list[tuple[str, list[str], str]]:
    records = make_histories(rows(table), task(**settings)).records
    return [(one["user"], json.loads(one["history"]), one["next_item"]) for one in records]


def test_a_record_is_what_came_before_and_what_came_next() -> None:
    assert made(ROWS) == [("ann", ["a"], "b"), ("ann", ["a", "b"], "c")]


def test_an_item_may_be_next_again_where_items_repeat() -> None:
    assert made(ROWS, repeats=True)[-1] == ("ann", ["a", "b", "c"], "a")


def test_users_give_no_more_records_than_the_cap_and_always_their_last() -> None:
    table = [("ann", f"i{time}", str(time)) for time in range(100)]
    found = made(table, records_per_user=5)
    assert [after for *_, after in found] == ["i1", "i26", "i50", "i74", "i99"]
    assert all(len(history) == int(after[1:]) for _, history, after in found)
    assert [len(history) for _, history, _ in made(table, records_per_user=2, known=7)] == [1, 7]


def test_the_order_of_rows_and_the_numbers_of_items_decide_nothing() -> None:
    tied = [("ann", f"i{number}", "1") for number in range(20)]
    assert made(tied) == made(tied[::-1])
    items = made(tied)[-1][1]
    assert items != sorted(items, key=lambda name: int(name[1:]))


def test_times_are_numbers_or_dates_and_nobody_mixes_them() -> None:
    dates = [("ann", "a", "2026-11-29"), ("ann", "b", "2026-11-28T23:00:00+01:00")]
    assert made(dates) == [("ann", ["b"], "a")]
    _, problem = read_times("time", ["1", "2026-11-29"])
    assert problem is not None
    assert "write all of them as numbers, or all as dates" in problem.text
    for values in (["1", "2", "3", "x"], ["2026-11-29", "2026-11-28", "x"]):
        _, problem = read_times("time", values)
        assert problem is not None
        assert problem.text.startswith(f"Column time: 1 of {len(values)} values are not times")
    values, problem = read_times("time", ["-1.5", "1e3"])
    assert (values.tolist(), problem) == ([-1.5, 1000.0], None)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ([("ann", None, "1")], "Column item: 1 of 1 values are null"),
        ([(" ", "a", "1")], "Column user: 1 of 1 values are null"),
        ([("ann", "a", "soon")], "Column time: 1 of 1 values are not times"),
        ([("ann", "a", "1"), ("bob", "b", "1")], "no user has two items"),
    ],
)
def test_rows_that_do_not_fit_are_named(table: list[tuple[object, ...]], told: str) -> None:
    result = make_histories(rows(table), task())
    assert told in " ".join(problem.text for problem in result.problems)
    assert not len(result.records)


def test_what_is_left_out_is_told() -> None:
    notes = " ".join(make_histories(rows(ROWS), task()).notes)
    assert "2 records were made of 5 rows of 2 users" in notes
    assert "1 users have one item alone" in notes
    assert "1 of 5 rows repeat an item of their user" in notes
    tied = [(user, item, "1") for user in ("ann", "bob") for item in "abc"]
    assert "6 of 6 rows have the time of another" in " ".join(
        make_histories(rows(tied), task()).notes
    )


def test_a_user_at_two_shops_has_a_history_at_each() -> None:
    table = [("ann", "a", "1", "x"), ("ann", "b", "2", "y"), ("ann", "c", "3", "x")]
    records = make_histories(rows(table, "shop"), task(), ["shop"]).records
    assert records.to_dict()["shop"] == ["x"]
    assert records.to_dict()["history"] == ['["a"]']


def test_of_whoever_is_predicted_for_all_is_history() -> None:
    records = make_histories_to_predict(rows(ROWS), task()).records.to_pandas()
    expected = pandas.DataFrame({"user": ["ann", "bob"], "history": ['["a", "b", "c"]', '["c"]']})
    pandas.testing.assert_frame_equal(records.astype(object), expected.astype(object))


def test_more_values_than_memory_may_be_asked_for_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = [("ann", f"i{time}", str(time)) for time in range(4)]
    monkeypatch.setattr(module, "MOST_VALUES", 9)  # 1 + 1, 2 + 1, 3 + 1
    assert not make_histories(rows(table), task()).problems
    monkeypatch.setattr(module, "MOST_VALUES", 8)
    (problem,) = make_histories(rows(table), task()).problems
    assert "lower task.known or task.records_per_user" in problem.text
    assert len(make_histories(rows(table), task(known=1)).records) == 3
