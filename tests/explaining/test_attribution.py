"""Attributions add up, and are what they have to be where that is known."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from explained_models import WEIGHTS, save_loans, save_plan
from small_models import MINILM, TABLE, TEXTS, make_backbone, save_run, save_table_run

from confide.config.models.perceptrons import LogisticConfig, MlpConfig
from confide.errors import ConfigError
from confide.explaining.attribution import attribute, attribute_by, method_for, strongest
from confide.explaining.case import Case
from confide.explaining.kinds.columns import Columns
from confide.explaining.kinds.tokens import Tokens
from confide.explaining.network import Network
from confide.explaining.target import Target, target_fn
from confide.inference.predictor import Predictor, load_predictor
from confide.models.compute import Compute

LOAN = Dataset.from_dict(
    {"income": ["80"], "debt": ["10"], "house": ["owns"], "shoe": ["44"], "state": ["approved"]}
)


def taken_apart(
    predictor: Predictor, record: Dataset, kind: type = Columns, baseline: str = "centre"
) -> tuple[Case, Target]:
    network = Network(predictor)
    case = kind(predictor, network, baseline).case(record)
    with torch.no_grad():
        outputs = case.outputs_fn(case.inputs)
    return case, target_fn(predictor)(predictor, outputs, case.batch, None)


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_input", "shapley"])
def test_of_a_linear_model_each_column_adds_its_weight_times_its_distance(
    tmp_path: Path, method: str
) -> None:
    case, target = taken_apart(save_loans(tmp_path), LOAN)
    found = attribute(case, target.score_fn, method)
    inputs = case.inputs[0].double() - case.baseline[0].double()
    weights = torch.tensor([it for one in WEIGHTS.values() for it in one], dtype=torch.float64)
    expected = (weights * inputs).split([len(one) for one in WEIGHTS.values()])
    by_hand = torch.stack([part.sum() for part in expected])
    assert torch.allclose(found.values, by_hand, atol=1e-6)
    assert by_hand[0] > 0 > case.baseline[0, 0] - case.inputs[0, 0]
    assert float(found.values[3]) == 0


def test_of_a_perceptron_integrated_gradients_take_steps_until_they_add_up(tmp_path: Path) -> None:
    predictor = save_plan(tmp_path, TABLE, MlpConfig(hidden=[16, 16]))
    record = Dataset.from_dict({"age": ["93"], "pain": ["some"], "state": ["1"]})
    case, target = taken_apart(predictor, record)
    found = attribute(case, target.score_fn, "integrated_gradients")
    assert abs(found.difference) > 0.1
    assert found.total == pytest.approx(found.difference, abs=0.01 * abs(found.difference))
    assert found.is_complete


def test_tokens_of_a_text_add_up_and_those_around_every_text_add_nothing(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", backbone=make_backbone(tmp_path / "tiny"))
    predictor = load_predictor(run, compute=Compute())
    record = TEXTS.select([2]).add_column("label", ["good"])
    case, target = taken_apart(predictor, record, Tokens, "padding")
    assert [unit.name for unit in case.units][:3] == ["what", "a", "very"]
    found = attribute(case, target.score_fn, "integrated_gradients")
    assert found.is_complete
    assert found.entries is not None
    around = torch.tensor([0, len(case.units) + 1])
    assert torch.equal(found.entries[around], torch.zeros(2))


def test_a_head_on_features_is_explained_by_the_tokens_its_frozen_encoder_read(
    tmp_path: Path,
) -> None:
    run = save_run(tmp_path, "head", backbone=MINILM)
    predictor = load_predictor(run, compute=Compute())
    record = TEXTS.select([0]).add_column("label", ["good"])
    case, target = taken_apart(predictor, record, Tokens, "padding")
    features = predictor.prepare(record).take(torch.tensor([0]))
    of_head = predictor.logits({"features": features["features"]})
    assert torch.allclose(case.outputs_fn(case.inputs), of_head, atol=1e-5)
    assert attribute(case, target.score_fn, "integrated_gradients").is_complete


def test_a_baseline_of_no_length_leaves_integrated_gradients_out(tmp_path: Path) -> None:
    # Rows have one norm: along the way from zeros nothing changes, and all does at its beginning
    predictor = save_plan(tmp_path, TABLE, LogisticConfig(row_norm=1.0))
    record = Dataset.from_dict({"age": ["93"], "pain": ["some"], "state": ["1"]})
    case, target = taken_apart(predictor, record, baseline="missing")
    # An indicator tells missing ages: without it the baseline is a row of zeros
    case.baseline.zero_()
    asked = attribute_by(case, target.score_fn, "integrated_gradients")
    assert not asked.is_complete
    found = attribute_by(case, target.score_fn, None)
    assert (found.method, found.instead_of) == ("shapley", "integrated_gradients")


def test_methods_that_need_gradients_are_refused_where_there_are_none(tmp_path: Path) -> None:
    case, _ = taken_apart(load_predictor(save_table_run(tmp_path), compute=Compute()), ROW)
    blind = Case(
        units=case.units,
        inputs=case.inputs,
        baseline=case.baseline,
        groups=None,
        outputs_fn=case.outputs_fn,
        mixed_fn=case.mixed_fn,
    )
    assert method_for(blind, None) == "shapley"
    with pytest.raises(ConfigError, match="choose shapley or occlusion"):
        method_for(blind, "integrated_gradients")
    with pytest.raises(ConfigError, match="expected one of integrated_gradients, gradient_input"):
        method_for(case, "lime")


ROW = Dataset.from_dict({"age": ["30"], "pain": ["some"], "state": ["1"]})


def test_what_adds_nearly_nothing_is_no_reason() -> None:
    values = [0.5, -0.001, -0.3, 0.002, 1.0]
    assert strongest(values, 4, positive=True) == [4, 0]
    assert strongest(values, 4, positive=False) == [2]
