"""Counter-examples are nearest, by brute force; they keep to ranges and to what may change."""

import itertools
from pathlib import Path

import pytest
import torch
from explained_models import LOANS, rows_of, save_loans
from torch import Tensor

from confide.explaining.counterexamples import Search, nearest_counterexample, whole_columns
from confide.explaining.rows import Rows

WHOLE = frozenset({"income", "debt", "shoe"})
Row = dict[str, str | None]


def loan(income: str, debt: str, house: str) -> Row:
    return {"income": income, "debt": debt, "house": house, "shoe": "40", "state": "refused"}


def approved(outputs: Tensor) -> Tensor:
    return outputs[:, 1] > outputs[:, 0]


def search(rows: Rows, *columns: str) -> Search:
    return Search(
        rows=rows,
        columns=columns or tuple(LOANS.columns),
        whole=WHOLE,
        reached_fn=approved,
        near_fn=lambda outputs: outputs[:, 1] - outputs[:, 0],
    )


def brute_force(rows: Rows, row: Row) -> tuple[int, float]:
    """Try every row of whole numbers: fewest columns changed, then least distance."""
    tried = list(itertools.product(range(101), range(51), ["none", "rents", "owns"]))
    columns = {
        "income": [str(one[0]) for one in tried],
        "debt": [str(one[1]) for one in tried],
        "house": [one[2] for one in tried],
    }
    outputs = rows.outputs(
        {**{name: [value] * len(tried) for name, value in row.items()}, **columns}
    )
    best = (9, 9.0)
    for (income, debt, house), it in zip(tried, approved(outputs).tolist(), strict=True):
        if it:
            changes = [
                abs(income - int(str(row["income"]))) / 100,
                abs(debt - int(str(row["debt"]))) / 50,
                float(house != row["house"]),
            ]
            best = min(best, (sum(one > 0 for one in changes), sum(changes)))
    return best


@pytest.mark.parametrize(
    "row",
    [
        loan("40", "30", "rents"),
        loan("10", "45", "none"),
        loan("0", "50", "none"),
        loan("49", "28", "none"),
        loan("3", "26", "owns"),
    ],
)
def test_what_is_found_is_as_near_as_anything(tmp_path: Path, row: Row) -> None:
    rows = rows_of(save_loans(tmp_path))
    found = nearest_counterexample(search(rows), row)
    count, distance = brute_force(rows, row)
    assert len(found.changes) == count
    assert found.distance == pytest.approx(distance, abs=1e-9)
    assert found.outputs is not None
    assert bool(approved(found.outputs)[0])
    # And what is told is that row
    told = {**row, **{it.column: it.after for it in found.changes}}
    again = rows.outputs({name: [value] for name, value in told.items()})
    assert torch.equal(again, found.outputs)


def test_columns_that_may_not_change_stay_and_values_are_whole(tmp_path: Path) -> None:
    rows = rows_of(save_loans(tmp_path))
    found = nearest_counterexample(search(rows, "income"), loan("40", "30", "rents"))
    assert [(it.column, it.before) for it in found.changes] == [("income", "40")]
    assert float(found.changes[0].after).is_integer()
    house = nearest_counterexample(search(rows, "house"), loan("50", "26", "rents"))
    assert [it[:3] for it in house.changes] == [("house", "rents", "owns")]


def test_none_is_told_where_the_ranges_hold_none(tmp_path: Path) -> None:
    rows = rows_of(save_loans(tmp_path))
    found = nearest_counterexample(search(rows, "shoe", "house"), loan("0", "50", "none"))
    assert found.changes == ()
    assert found.outputs is None
    assert found.tried > 20


def test_a_missing_number_may_get_any_value(tmp_path: Path) -> None:
    rows = rows_of(save_loans(tmp_path))
    found = nearest_counterexample(search(rows, "income"), loan("", "30", "rents"))
    (change,) = found.changes
    assert change.before == "missing"
    assert found.distance == 1


def test_numbers_are_whole_if_all_of_them_are(tmp_path: Path) -> None:
    rows = rows_of(save_loans(tmp_path))
    columns = {"income": ["1", ""], "debt": ["2", "2.5"], "house": ["owns"] * 2, "shoe": ["40"] * 2}
    assert whole_columns(rows, columns) == {"income", "shoe"}
