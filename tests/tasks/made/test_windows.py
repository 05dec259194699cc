"""Readings become windows: in one block, a window behind its edge, with all that is lost told."""

import json

import pytest
from datasets import Dataset

from confide.config.outcomes.forecast import ForecastConfig
from confide.config.outcomes.outcome import OutcomeConfig
from confide.config.tasks.series import ReadingConfig, SeriesConfig
from confide.tasks.made import making
from confide.tasks.made import windows as module
from confide.tasks.made.making import Made
from confide.tasks.made.windows import make_windows, make_windows_to_predict

Row = tuple[str, object, object]


def task(**settings: object) -> SeriesConfig:
    fields: dict[str, object] = {
        "readings": {"value": ReadingConfig(minimum=0, maximum=100)},
        "lookback": 3,
        "outcome": ForecastConfig(minimum=0, maximum=100, steps=2),
    }
    return SeriesConfig(**{**fields, **settings})


def made(rows: list[Row], *, fault: list[str] | None = None, **settings: object) -> Made:
    table = {
        "series": [name for name, *_ in rows],
        "time": [str(time) for _, time, _ in rows],
        "value": [None if value is None else str(value) for *_, value in rows],
    }
    labels = {} if fault is None else {"fault": fault}
    return make_windows(Dataset.from_dict({**table, **labels}), task(**settings))


def rows(count: int, *, start: int = 0) -> list[Row]:
    return [("a", time, time) for time in range(start, start + count)]


def windows(result: Made) -> list[tuple[str, list[float], list[float]]]:
    return [
        (one["block"], [step[0] for step in json.loads(one["window"])], json.loads(one["ahead"]))
        for one in result.records
    ]


def test_a_record_is_a_window_and_what_follows_whatever_the_order_of_rows() -> None:
    expected = [("a", [0, 1, 2], [3, 4]), ("a", [1, 2, 3], [4, 5])]
    assert windows(made(rows(6))) == expected
    assert windows(made(rows(6)[::-1])) == expected
    assert windows(made(rows(6), stride=2)) == expected[:1]


def test_no_window_crosses_an_edge_of_blocks_or_follows_it_closely() -> None:
    result = made(rows(40), block=20)
    for block, before, after in windows(result):
        start = 20 * int(block.split()[1])
        # Five rows lie four steps apart: as far behind the edge they begin.
        assert start + 4 <= before[0]
        assert after[-1] < start + 20
    assert {block for block, *_ in windows(result)} == {"a 0", "a 1"}
    assert len(windows(result)) == 2 * (20 - 4 - 5 + 1)
    assert "windows cross or follow an edge of blocks" in " ".join(result.notes)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("step", [None, 1.0])
def test_rows_of_one_block_move_no_window_of_another(stride: int, step: float | None) -> None:
    settings = {"block": 20, "stride": stride, "step": step}
    whole = windows(made(rows(80), **settings))
    for gone in (0, 3, 19, 27):
        fewer = [row for row in rows(80) if row[1] != gone]
        of_others = f"a {gone // 20}"
        left = [one for one in windows(made(fewer, **settings)) if one[0] != of_others]
        assert left == [one for one in whole if one[0] != of_others]
    without = [row for row in rows(80) if row[1] // 20 != 1]  # type: ignore[operator]
    assert windows(made(without, **settings)) == [one for one in whole if one[0] != "a 1"]


def test_more_values_than_memory_may_be_asked_for_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(making, "MOST_VALUES", 49)
    monkeypatch.setattr(module, "MOST_VALUES", 49)
    assert not made(rows(13)).problems  # 9 windows of 3 values and 2 after them
    (problem,) = made(rows(14)).problems
    assert problem.text.endswith("more than 49 values; raise task.stride, or lower task.lookback.")


def test_windows_with_gaps_and_empty_readings_are_left_out_and_told() -> None:
    gap = rows(6) + rows(6, start=10)
    result = made(gap, step=1)
    assert [before for _, before, _ in windows(result)] == [
        [0, 1, 2],
        [1, 2, 3],
        [10, 11, 12],
        [11, 12, 13],
    ]
    assert "4 windows have rows that are not task.step=1" in " ".join(result.notes)
    holes = rows(8)
    holes[0] = ("a", 0, None)
    result = made(holes)
    assert windows(result)[0][1] == [1, 2, 3]
    assert "1 windows have an empty reading" in " ".join(result.notes)


def test_the_state_of_a_window_is_the_label_of_its_last_row() -> None:
    result = made(
        rows(4),
        fault=["no", "no", "yes", "no"],
        outcome=OutcomeConfig(),
        labels=["no", "yes"],
        label_column="fault",
    )
    assert result.records["fault"][:] == ["yes", "no"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ([("a", 0, "x")], "Column value: 1 of 1 values are not numbers"),
        ([("a", "soon", 1)], "Column time: 1 of 1 values are not times"),
        ([(" ", 0, 1)], "Column series: 1 of 1 values are null"),
        ([("a", 0, 1), ("a", 0, 2)], "1 of 2 rows have a series and a time that another row has"),
        (
            rows(4),
            "no series has 5 rows one after another that make a window. 1 series are shorter",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named(table: list[Row], told: str) -> None:
    assert told in " ".join(problem.text for problem in made(table).problems)


def test_values_in_another_unit_are_told() -> None:
    other = [("a", time, 1000 + time) for time in range(8)]
    assert "8 of 8 values lie outside its range, 0 to 100" in " ".join(made(other).notes)


def test_of_a_series_that_is_predicted_the_last_window_counts() -> None:
    table = rows(5) + [("b", time, 2 * time) for time in range(3)] + [("c", 0, 1)]
    data = Dataset.from_dict(
        {
            "series": [name for name, *_ in table],
            "time": [str(time) for _, time, _ in table],
            "value": [str(value) for *_, value in table],
        }
    )
    records = make_windows_to_predict(data, task()).records
    assert records["series"][:] == ["a", "b"]
    assert records["window"][:] == ["[[2.0],[3.0],[4.0]]", "[[0.0],[2.0],[4.0]]"]


def test_all_that_is_wrong_with_rows_is_told_at_once() -> None:
    result = made([("a", 0, 1), ("a", "", 2), ("a", 2, "much")])
    told = [problem.text for problem in result.problems]
    assert len(told) == 2
    assert "Column time: 1 of 3 values are null" in told[0]
    assert "Column value: 1 of 3 values are not numbers" in told[1]
