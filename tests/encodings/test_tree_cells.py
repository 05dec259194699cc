"""Cells of trees: what xgboost tells apart in float32, and what a missing value is."""

import numpy
import pandas
import pytest
from datasets import Dataset

from confide.config.tasks.columns import ColumnConfig
from confide.config.tasks.tabular import TabularConfig
from confide.encodings.cells import CELLS as PUBLIC_CELLS
from confide.encodings.encoding import Scale
from confide.encodings.tree_cells import TREE_ENCODINGS, thresholds
from confide.tasks.tabular import FEATURES, Tabular


def scale(minimum: float, maximum: float, *inner: float) -> Scale:
    return Scale(
        minimum=minimum, maximum=maximum, edges=(minimum, *inner, maximum), bins=len(inner) + 1
    )


@pytest.mark.parametrize("cells", ["grid", "edges"])
@pytest.mark.parametrize("bounds", [(0.0, 530.0), (-3.0, 7.0), (1e6, 1e6 + 1), (0.0, 1e-9)])
def test_a_number_is_in_the_cell_that_float32_puts_it_in(
    cells: str, bounds: tuple[float, float]
) -> None:
    low, high = bounds
    public = scale(low, high, low + (high - low) * 0.1, low + (high - low) / 3)
    edges = thresholds(cells, public)
    drawn = numpy.random.default_rng(0).uniform(low, high, 500)
    values = numpy.concatenate([drawn, edges, numpy.nextafter(edges, -numpy.inf), [low, high]])
    values = values.clip(low, high)
    found = TREE_ENCODINGS[cells].encode_fn(values, public)[:, 0]
    numbers = values.astype(numpy.float32)
    expected = [1 + sum(number >= numpy.float32(edge) for edge in edges) for number in numbers]
    assert found.tolist() == expected
    assert found.max() <= TREE_ENCODINGS[cells].bound_fn(public)


def test_the_grid_has_the_cells_of_a_release_where_float32_tells_them_apart() -> None:
    assert len(thresholds("grid", scale(0.0, 530.0))) == PUBLIC_CELLS - 1
    few = thresholds("grid", scale(1e7, 1e7 + 4))
    assert 1 <= len(few) < 10
    assert (numpy.diff(few) > 0).all()


def table(**columns: object) -> Dataset:
    return Dataset.from_pandas(pandas.DataFrame({"label": ["no"] * 4, **columns}, dtype=object))


@pytest.mark.parametrize(
    ("encoding", "number", "yes", "no"), [("edges", 2.0, 2.0, 1.0), ("raw", 0.7, 1.0, 0.0)]
)
def test_missing_is_no_cell_and_no_category(
    encoding: str, number: float, yes: float, no: float
) -> None:
    task = TabularConfig(
        labels=["no", "yes"],
        columns={
            "a": ColumnConfig(minimum=0, maximum=1, edges=[0.5], indicator=True),
            "b": ColumnConfig(
                kind="categorical", categories=["x", "y"], unseen="other", indicator=True
            ),
        },
    ).for_trees(encoding)
    rows = table(a=["0.7", "", "0.7", "0.7"], b=["x", "x", "", "z"])
    features = Tabular(task).encode(rows).columns[FEATURES]
    missing = 0.0 if encoding == "edges" else float("nan")
    expected = [
        [number, yes, no, no],
        [missing, yes, no, no],
        [number, missing, missing, missing],
        [number, no, no, yes],
    ]
    numpy.testing.assert_allclose(features.numpy(), expected, rtol=1e-6)
    assert Tabular(task).num_inputs == 4


def test_a_task_in_cells_counts_them_and_no_other_task_has_any() -> None:
    task = TabularConfig(
        labels=["no", "yes"],
        columns={
            "a": ColumnConfig(minimum=0, maximum=1, edges=[0.2, 0.5]),
            "b": ColumnConfig(kind="categorical", categories=["x", "y"]),
        },
    )
    assert task.for_trees("edges").tree_cells == [3, 2, 2]
    assert task.columns["a"].tree_encoding is None
