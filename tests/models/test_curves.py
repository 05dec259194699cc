"""The curves of a linear model of a table, and surfaces of pairs."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from confide.config.composing.compose import compose
from confide.config.models.perceptrons import AdditiveConfig, LogisticConfig, MlpConfig
from confide.config.privacy import PrivacyConfig
from confide.config.tasks.columns import ColumnConfig, NumericConfig
from confide.config.tasks.tabular import TabularConfig
from confide.errors import ConfigError
from confide.models.curves import curves_of
from confide.models.networks import trainable_tensors, with_products
from confide.models.saved import CURVES, save_model
from confide.models.workload import Workload
from confide.protocol.plan import TrainingPlan
from tests.builders import build_plan, workload_of

COLUMNS = {
    "age": ColumnConfig(minimum=0.0, maximum=90.0, indicator=True),
    "dose": ColumnConfig(minimum=-2.0, maximum=5.0, edges=[0.0, 1.0]),
    "sex": ColumnConfig(kind="categorical", categories=["f", "m"]),
    "ward": ColumnConfig(kind="categorical", categories=["A", "B"], unseen="other"),
}
ROWS = {
    "age": ["0", "40.3", "", "90", "11"],
    "dose": ["-2", "0.5", "4.9", "", "5"],
    "sex": ["f", "m", "f", "m", "f"],
    "ward": ["A", "B", "C", "A", "B"],
    "label": ["no", "yes", "no", "yes", "no"],
}
PAIRS = [["age", "sex"], ["dose", "ward"]]


def plan_of(labels: list[str] | None = None, **fields: Any) -> TrainingPlan:
    task = TabularConfig(
        labels=labels or ["no", "yes"],
        columns=COLUMNS,
        numeric=fields.pop("numeric", NumericConfig(bins=6)),
    )
    return build_plan(task=task, **fields)


def drawn(plan: TrainingPlan) -> tuple[Workload, dict[str, torch.Tensor]]:
    """Return a workload whose weights are drawn at random, so that no curve is flat."""
    workload = workload_of(plan)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in workload.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return workload, trainable_tensors(workload.model)


def outputs_of(workload: Workload, names: list[str]) -> torch.Tensor:
    examples = workload.task.encode(Dataset.from_dict(ROWS))
    logits = workload.model(examples.columns["features"]).detach().double()
    return logits if len(names) > 1 else logits[:, 1:] - logits[:, :1]


def height(curve: dict[str, Any], value: str, output: int) -> float:
    """Read a curve at a value, by linear interpolation."""
    if value == "":
        return float(curve["missing"][output])
    heights, points = curve["y"][output], curve["x"]
    if curve["kind"] == "categorical":
        known = value if value in points else "(other)"
        return float(heights[points.index(known)])
    x = float(value)
    after = next(i for i in range(1, len(points)) if x <= points[i])
    share = (x - points[after - 1]) / (points[after] - points[after - 1])
    return float(heights[after - 1] + share * (heights[after] - heights[after - 1]))


def summed(curves: dict[str, Any], row: int) -> list[float]:
    return [
        curves["intercept"][k]
        + sum(height(c, ROWS[name][row], k) for name, c in curves["columns"].items())
        for k in range(len(curves["outputs"]))
    ]


@pytest.mark.parametrize("labels", [["no", "yes"], ["no", "yes", "perhaps"]])
@pytest.mark.parametrize("backbone", [LogisticConfig(), AdditiveConfig()])
@pytest.mark.parametrize("encoding", ["piecewise", "linear"])
def test_curves_add_up_to_the_output(
    labels: list[str], backbone: LogisticConfig, encoding: str
) -> None:
    numeric = NumericConfig(bins=6, encoding=encoding)
    columns = COLUMNS | {"dose": replace(COLUMNS["dose"], edges=[])}
    plan = build_plan(
        task=TabularConfig(labels=labels, columns=columns, numeric=numeric), backbone=backbone
    )
    workload, tensors = drawn(plan)
    curves = curves_of(plan, tensors)
    assert curves is not None
    assert curves["exact"]
    expected = outputs_of(workload, curves["outputs"])
    for row in range(len(ROWS["label"])):
        assert summed(curves, row) == pytest.approx(expected[row].tolist(), abs=1e-4)


def test_steps_of_one_hot_cells_are_drawn_as_steps() -> None:
    plan = plan_of(numeric=NumericConfig(bins=4, encoding="one_hot"))
    curves = curves_of(plan, drawn(plan)[1])
    assert curves is not None
    heights = curves["columns"]["dose"]["y"][0]
    assert len(heights) == 6  # three cells, two sides each
    assert heights[0] == heights[1] != heights[2] == heights[3] != heights[4] == heights[5]


def test_of_rows_of_one_norm_curves_keep_their_proportions() -> None:
    plan = plan_of(backbone=LogisticConfig(row_norm=3.0), privacy=PrivacyConfig(unit="record"))
    workload, tensors = drawn(plan)
    curves = curves_of(plan, tensors)
    assert curves is not None
    assert not curves["exact"]
    # No row is longer than the one that curves are drawn for: every term is at least as high
    expected, bias = outputs_of(workload, curves["outputs"]), tensors["layers.0.bias"]
    constant = float(bias[1] - bias[0])
    ratios = [(float(expected[i]) - constant) / (summed(curves, i)[0] - constant) for i in range(5)]
    assert all(0.999 <= ratio < 3 for ratio in ratios)


def test_models_that_are_no_sum_over_columns_have_none() -> None:
    plan = plan_of(backbone=MlpConfig(hidden=[3]))
    assert curves_of(plan, drawn(plan)[1]) is None


def test_a_model_on_disk_has_its_curves_beside_it(tmp_path: Path) -> None:
    plan = plan_of(backbone=AdditiveConfig(pairs=PAIRS))
    workload, tensors = drawn(plan)
    save_model(tmp_path / "model", workload, tensors, plan)
    curves = json.loads((tmp_path / "model" / CURVES).read_text())
    assert curves == curves_of(plan, tensors)
    assert [pair["columns"] for pair in curves["pairs"]] == PAIRS


# Pairs


def test_surfaces_and_curves_add_up_to_the_output() -> None:
    plan = plan_of(backbone=AdditiveConfig(pairs=[["age", "sex"]]))
    workload, tensors = drawn(plan)
    curves = curves_of(plan, tensors)
    assert curves is not None
    surface = curves["pairs"][0]
    row, point = 0, surface["x"].index(0.0)  # aged 0, at an edge, where the curve is exact
    expected = float(outputs_of(workload, curves["outputs"])[row])
    joint = surface["z"][0][point][surface["y"].index("f")]
    assert summed(curves, row)[0] + joint == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_product_is_as_long_as_the_geometric_mean_of_its_columns(scale: float) -> None:
    rows = torch.tensor([[3.0, 4.0, 2.0, 0.0], [0.0, 0.0, 1.0, 1.0]]) * scale
    products = with_products(rows, [(0, 2, 2, 4)])[:, 4:]
    assert products[0].norm().item() == pytest.approx(math.sqrt(5.0 * 2.0) * scale)
    assert products[1].tolist() == [0.0] * 4
    assert with_products(rows, ()) is rows


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ("[[age,height]]", "names height"),
        ("[[age,age]]", "two columns"),
        ("[[age,sex,cp]]", "two columns"),
        ("[[age,sex],[sex,age]]", "are one pair"),
    ],
)
def test_what_is_no_pair_of_columns_is_refused(pairs: str, said: str) -> None:
    heart = ["experiment=heart_disease", "backbone=additive"]
    with pytest.raises(ConfigError) as caught:
        compose([*heart, f"backbone.pairs={pairs}"])
    assert said in str(caught.value)
    compose([*heart, "backbone.pairs=[[age,sex]]", "privacy=record"])


def test_a_gram_matrix_of_columns_does_not_know_their_products() -> None:
    words = ["experiment=heart_disease", "backbone=additive", "privacy=record"]
    newton = [*words, "client=private_newton"]
    compose(newton)
    with pytest.raises(ConfigError, match=r"leave the pairs out, or choose client=private_table"):
        compose([*newton, "backbone.pairs=[[age,sex]]"])
