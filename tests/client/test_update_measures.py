"""Many updates are measured as each of them alone."""

import math

import pytest
import torch

from confide.client.update_measures import measure, measure_rows


@pytest.mark.parametrize(("count", "values"), [(1, 5), (3, 42), (200, 738), (10, 7850)])
def test_rows_are_measured_bit_for_bit_as_updates_are(count: int, values: int) -> None:
    rows = torch.randn(count, values, generator=torch.Generator().manual_seed(0))
    alone = [measure({"a": row[:2].clone(), "b": row[2:].clone()}) for row in rows]
    assert measure_rows(rows) == alone


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows_in_its_row_alone(value: float) -> None:
    rows = torch.ones(3, 4)
    rows[1, 2] = value
    assert [found.is_finite for found in measure_rows(rows)] == [True, False, True]


def test_every_dtype_is_told() -> None:
    found = measure({"a": torch.ones(2), "b": torch.ones(2, dtype=torch.float64)})
    assert found.dtypes == ["float32", "float64"]
    assert measure_rows(torch.ones(1, 2, dtype=torch.float16))[0].dtypes == ["float16"]
