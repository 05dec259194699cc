"""Trees: the way of a row, and what a model tells of itself."""

import pytest
import torch
from builders import workload_of
from small_trees import drawn, grow_trees, table, tree_plan

from confide.config.tasks.columns import ColumnConfig
from confide.errors import ConfigError
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.trees import (
    digest_of,
    gains_by_column,
    logits_of,
    margins_of,
    part_of,
    routed,
    starts_of,
)
from confide.models.workload import build_workload, shapes_without_weights
from confide.protocol.tensors import Tensors


def two_levels() -> Tensors:
    """One tree: column 0 up to cell 2, then left column 1 up to cell 1, missing left."""
    trees = trainable_tensors(workload_of(tree_plan(depth=2)).model)
    trees["split_input"][0, 0] = torch.tensor([0.0, 1.0, -1.0])
    trees["split_cell"][0, 0] = torch.tensor([2.0, 1.0, 0.0])
    trees["missing_left"][0, 0] = torch.tensor([0.0, 1.0, 0.0])
    trees["leaf"][0, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    return trees


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ((1, 1), 1.0),
        ((2, 1), 1.0),
        ((2, 2), 2.0),
        ((2, 0), 1.0),
        ((3, 1), 3.0),
        ((0, 4), 3.0),
        ((4, 0), 3.0),
    ],
)
def test_a_row_goes_where_its_cells_send_it(row: tuple[float, float], value: float) -> None:
    assert float(margins_of(two_levels(), torch.tensor([row], dtype=torch.float32))) == value


def test_nodes_of_a_level_are_numbered_from_the_left() -> None:
    cells = torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    assert routed(two_levels(), cells, 0).reshape(-1).tolist() == [0, 0]
    assert routed(two_levels(), cells, 1).reshape(-1).tolist() == [0, 1]
    assert routed(two_levels(), cells, 2).reshape(-1).tolist() == [0, 2]


def test_margins_of_a_row_depend_on_no_other_and_on_no_earlier_pass() -> None:
    plan = tree_plan(num_trees=9, depth=3, learning_rate=0.3)
    records = drawn(plan, 101)
    trees, cells = grow_trees(plan, records, [range(101)]), records.columns["features"]
    whole = margins_of(trees, cells)
    alone = torch.cat([margins_of(trees, cells[n : n + 1]) for n in range(101)])
    onward = margins_of(part_of(trees, 4, 9), cells, margins_of(part_of(trees, 0, 4), cells))
    assert torch.equal(whole, alone)
    assert torch.equal(whole, onward)


def test_two_classes_have_one_margin() -> None:
    assert logits_of(torch.tensor([[0.5]])).tolist() == [[0.0, 0.5]]
    assert logits_of(torch.tensor([[0.5, 0.2, 0.1]])).shape == (1, 3)


def test_digest_tells_trees_apart_by_all_that_decides_margins() -> None:
    trees = two_levels()
    for name in ("split_input", "split_cell", "missing_left", "leaf"):
        assert digest_of({**trees, name: trees[name] + 1}) != digest_of(trees), name
    assert digest_of({**trees, "gain": trees["gain"] + 1}) == digest_of(trees)


def test_layout_says_where_the_places_of_an_input_begin() -> None:
    assert starts_of(two_levels()["layout"]) == [0, 5, 10]


def test_gain_is_told_by_column_categories_together() -> None:
    task = table(columns=1)
    task.columns["sex"] = ColumnConfig(kind="categorical", categories=["f", "m"])
    trees = {
        "split_input": torch.tensor([[[0.0, 2.0, 1.0, -1.0]]]),
        "gain": torch.tensor([[[3.0, 5.0, 2.0, 9.0]]]),
    }
    found = gains_by_column(trees, task.for_trees("edges"))
    assert found == {"sex": pytest.approx(0.7), "column-0": pytest.approx(0.3)}
    assert list(found) == ["sex", "column-0"]
    none = {**trees, "split_input": torch.full((1, 1, 4), -1.0)}
    assert gains_by_column(none, task.for_trees("edges")) == {}


def test_shapes_need_no_memory_and_are_those_of_the_model() -> None:
    plan = tree_plan(num_trees=5000, depth=10)
    shapes = shapes_without_weights(plan.encoded_task, plan.backbone)
    assert shapes["leaf"] == (5000, 1, 1024)
    small = tree_plan(num_trees=2, depth=3)
    made = trainable_tensors(workload_of(small).model)
    expected = {name: tuple(value.shape) for name, value in made.items()}
    assert shapes_without_weights(small.encoded_task, small.backbone) == expected


def test_a_task_that_encodes_by_itself_is_refused() -> None:
    plan = tree_plan()
    task = plan.encoded_task
    task._target_ = "somewhere.Task"
    with pytest.raises(ConfigError, match="reads columns by the schema"):
        build_workload(task, plan.backbone, plan.tuning, compute=Compute(), seed=0)
