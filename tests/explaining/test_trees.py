"""Boosted trees have no gradient: Shapley values of their columns add up all the same."""

from pathlib import Path

import pytest
import torch
from builders import workload_of
from datasets import Dataset
from small_trees import tree_plan

from confide.explaining.attribution import attribute, method_for
from confide.explaining.kinds.columns import Columns
from confide.explaining.network import Network
from confide.explaining.target import target_fn
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import Compute
from confide.models.networks import trainable_tensors
from confide.models.saved import save_model

ROW = Dataset.from_dict({"column-0": ["1.5"], "column-1": ["0.5"], "label": ["class-1"]})


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    """Two trees of depth 2 on two columns: each asks one column, then the other."""
    plan = tree_plan(num_trees=2, depth=2)
    workload = workload_of(plan)
    tensors = trainable_tensors(workload.model)
    tensors["split_input"] = torch.tensor([[[0.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]]])
    tensors["split_cell"] = torch.full((2, 1, 3), 2.0)
    tensors["leaf"] = torch.tensor([[[-1.0, 0.5, 0.25, 2.0]], [[0.75, -0.25, 1.5, -2.5]]])
    save_model(tmp_path / "model", workload, tensors, plan)
    return load_predictor(tmp_path, compute=Compute())


def test_shapley_values_of_trees_are_the_mean_of_both_orders(predictor: Predictor) -> None:
    case = Columns(predictor, Network(predictor), "missing").case(ROW)
    assert not case.has_gradient
    assert method_for(case, None) == "shapley"
    outputs = case.outputs_fn(case.inputs)
    target = target_fn(predictor)(predictor, outputs, case.batch, "class-1")
    found = attribute(case, target.score_fn, "shapley")
    assert found.total == pytest.approx(found.difference, abs=1e-6)
    on = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
    none, first, second, both = target.score_fn(case.mixed_fn(on)).tolist()
    assert len({none, first, second, both}) == 4
    # Of two columns the Shapley value is known; orders that are drawn come near to it
    exact = ((first - none) + (both - second)) / 2
    spread = abs((first - none) - (both - second))
    assert float(found.values[0]) == pytest.approx(exact, abs=0.3 * spread)
