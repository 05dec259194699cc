"""The deletion curves of attributions: what is measured of a model whose weights are known."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy
import pytest
import torch
from datasets import Dataset
from explained_models import save_loans

from confide.explaining.attribution import attribute
from confide.explaining.kinds.columns import Columns
from confide.explaining.network import Network
from confide.explaining.target import target_fn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LOAN = Dataset.from_dict(
    {"income": ["95"], "debt": ["5"], "house": ["owns"], "shoe": ["44"], "state": ["approved"]}
)


@pytest.fixture
def explanations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("explanations")


def test_the_strongest_first_loses_sooner_than_chance_and_the_weakest_first_later(
    explanations: ModuleType, tmp_path: Path
) -> None:
    predictor = save_loans(tmp_path)
    case = Columns(predictor, Network(predictor), "centre").case(LOAN)
    with torch.no_grad():
        outputs = case.outputs_fn(case.inputs)
    target = target_fn(predictor)(predictor, outputs, case.batch, None)
    order = attribute(case, target.score_fn, "integrated_gradients").values.argsort(descending=True)
    best = explanations.curve(case, target, order.tolist())
    worst = explanations.curve(case, target, order.flip(0).tolist())
    assert best[0] == worst[0] == pytest.approx(float(target.shown_fn(outputs)))
    assert best[-1] == worst[-1]
    found = explanations.areas(case, target, numpy.random.default_rng(0))
    assert best.mean() < worst.mean()
    assert 0 < found["integrated_gradients"] < worst.mean() - best.mean()
    assert found["integrated_gradients"] == pytest.approx(found["shapley"], abs=1e-6)


def test_intervals_hold_the_mean(explanations: ModuleType) -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(0)).tolist()
    mean, low, high = explanations.interval(values)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * numpy.std(values) / 200**0.5, rel=0.1)
